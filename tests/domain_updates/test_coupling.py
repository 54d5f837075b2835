"""Coupling: hand-made coefficients, what does not move it, and the bound on worlds that are known."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from evermix.domain_updates.coupling import centred, domain_coupling, interaction, kappa, mask, reuse_gap

A = np.array([[3.0, 4.0, 0.0, 12.0], [0.0, 0.0, 2.0, 5.0]])
FIXED, COMPUTED = np.array([True, True, True, False]), np.array([False, False, False, True])


def test_kappa_by_hand() -> None:
    """a_fix = (5, 2), a_comp = (12, 5)."""
    assert kappa(A, FIXED, COMPUTED) == pytest.approx(np.hypot((1 + 5 + 12) * 5, (1 + 2 + 5) * 2))
    assert interaction(A, FIXED, COMPUTED) == pytest.approx(np.hypot(17 * 5, 7 * 2))
    assert kappa(A, np.zeros(4, dtype=bool), COMPUTED) == 0


def test_a_domain_is_coupled_over_shared_metrics_only() -> None:
    np.testing.assert_allclose(domain_coupling(A, COMPUTED), [36, 48, 10, np.hypot(144, 25)])
    alone = A * [[1, 1, 1, 0], [1, 1, 1, 1]]  # what is computed acts on the second metric only
    np.testing.assert_allclose(domain_coupling(alone, COMPUTED)[:3], [0, 0, 10])


@given(st.lists(st.floats(-50, 50), min_size=2, max_size=2))
def test_the_unit_of_a_metric_drops_out(shifts: list[float]) -> None:
    everyone = FIXED | COMPUTED
    np.testing.assert_allclose(centred(A + np.array(shifts)[:, None], everyone), centred(A, everyone), atol=1e-9)


def test_a_domain_like_most_others_does_nothing() -> None:
    np.testing.assert_allclose(centred(np.array([[7.0, 7, 7, 2]]), FIXED | COMPUTED), [[0, 0, 0, -5]])


def test_reuse_gap_of_proportions() -> None:
    gap = reuse_gap(np.array([2.0, 2.0, 0.0]), np.array([0.1, 0.0, 0.1]))
    assert gap.total_variation == pytest.approx(0.5)
    assert gap.euclidean == pytest.approx(np.sqrt(0.5))
    assert reuse_gap(np.zeros(3), np.ones(3)).total_variation == 0


def test_masks_by_name() -> None:
    assert mask(("a", "b", "c"), ("c", "a")).tolist() == [True, False, True]


def least(value: object, m: int) -> np.ndarray:
    """Minimiser over the simplex, by softmax coordinates: no part of the product."""

    def of(z: np.ndarray) -> float:
        p = np.exp(z - z.max())
        return float(value(p / p.sum()))  # type: ignore[operator]

    z = minimize(of, np.zeros(m), method="BFGS", options={"gtol": 1e-9}).x
    p = np.exp(z - z.max())
    return np.asarray(p / p.sum())


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6))
def test_the_gap_of_reuse_is_within_its_bound(seed: int) -> None:
    """gap <= C rho (1 - rho) kappa |u~ - u*|, and |u~ - u*| <= C / lambda (1 - rho) kappa, lambda KL to uniform."""
    rng = np.random.default_rng(seed)
    t, penalty = -rng.exponential(2.0, (3, 4)), 0.05
    fixed = np.array([True, True, True, False])

    def total(p: np.ndarray) -> float:
        return float(np.exp(t @ p).mean() + penalty * np.sum(p * np.log(np.maximum(p, 1e-300) * 4)))

    best = least(total, 4)
    kept = least(lambda u: total(np.append(u, 0.0)), 3)
    reused = least(lambda r: total(np.append(r[0] * kept, r[1])), 2)
    gap = total(np.append(reused[0] * kept, reused[1])) - total(best)
    rho = best[:3].sum()
    points = [np.append(kept, 0.0), np.append(rho * kept, 1 - rho), best, np.append(best[:3] / rho, 0.0)]
    C = np.linalg.norm(np.max([np.exp(t @ p) for p in points], axis=0) / 3)
    coupling = kappa(centred(t, fixed | True), fixed, ~fixed)
    apart = reuse_gap(kept, best[:3]).euclidean
    assert -1e-9 <= gap <= C * rho * (1 - rho) * coupling * apart + 1e-9
    assert apart <= C / penalty * (1 - rho) * coupling + 1e-6
