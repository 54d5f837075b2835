"""The horizon learnt: against ridge regression and sampling, and what it must do on planted lives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal

from evermix.errors import ObservationError
from evermix.laws.horizon import Horizon, Moves, learnt

PRIOR = Horizon(2.0, 0.35, 0.25)
NAMES = ("a", "b", "c")


def life(n: int, factors: dict[str, float], noise: float, seed: int, trend: float = 0.0) -> list[Moves]:
    """n decisions whose moves came `factors` times as far, moved together by a trend."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(n):
        foretold = {name: float(rng.normal(0, 0.2)) for name in factors}
        common = rng.normal(0, trend) if trend else 0.0
        realised = {name: factors[name] * x + common + float(rng.normal(0, noise)) for name, x in foretold.items()}
        found.append(Moves(foretold, realised, trend))
    return found


def test_nothing_realised_leaves_the_prior() -> None:
    assert learnt(PRIOR, [], NAMES) is PRIOR
    assert learnt(PRIOR, [Moves({}, {})], NAMES) is PRIOR


def test_it_is_the_ridge_regression_of_the_best_noise() -> None:
    """The posterior mean minimises squares over v plus squares of deviations over their variances, solved by lstsq."""
    moves = life(3, {"a": 2.6, "b": 2.2, "c": 3.1}, 0.05, 4, trend=0.1)
    x = np.array([move.foretold[name] for move in moves for name in NAMES])
    y = np.array([move.realised[name] for move in moves for name in NAMES])
    h, sds = 2.0, np.array([0.7, 0.5, 0.5, 0.5, 0.1, 0.1, 0.1])
    own, stage = np.tile(np.arange(3), 3), np.repeat(np.arange(3), 3)
    X = np.column_stack([x, *(x * (own == d) for d in range(3)), *((stage == k) * 1.0 for k in range(3))])
    spread = [X @ np.diag(sds**2) @ X.T + v**2 * np.eye(9) for v in np.geomspace(0.01, 0.5, 25)]
    best = max(range(25), key=lambda k: multivariate_normal.logpdf(y - h * x, np.zeros(9), spread[k]))
    v = np.geomspace(0.01, 0.5, 25)[best]
    rows = np.vstack([X / v, np.diag(1 / sds)])
    theta = np.linalg.lstsq(rows, np.concatenate([(y - h * x) / v, np.zeros(7)]), rcond=None)[0]
    covariance = np.linalg.inv(rows.T @ rows)
    found = learnt(PRIOR, moves, NAMES)
    np.testing.assert_allclose(found.factor, h + theta[0] + theta[1:4], rtol=1e-6)
    assert found.shared_sd == pytest.approx(np.sqrt(covariance[0, 0]) / (h + theta[0]), rel=1e-6)
    np.testing.assert_allclose(found.own_sd, np.sqrt(np.diag(covariance)[1:4]) / found.factor, rtol=1e-6)


@given(st.floats(1.2, 3.5), st.integers(0, 100))
def test_many_decisions_tell_the_factor(h: float, seed: int) -> None:
    found = learnt(PRIOR, life(12, dict.fromkeys(NAMES, h), 0.02, seed), NAMES)
    np.testing.assert_allclose(found.factor, h, atol=0.25)
    assert found.shared_sd < PRIOR.shared_sd


def test_a_domain_that_answers_more_is_told_apart_and_others_are_not() -> None:
    found = learnt(PRIOR, life(12, {"a": 2.0, "b": 2.0, "c": 3.4}, 0.02, 3), NAMES)
    np.testing.assert_allclose(found.factor, [2.0, 2.0, 3.4], atol=0.25)


def test_what_other_domains_did_tells_a_new_one() -> None:
    """A domain never seen before has the factor that the others share, less sure of its own."""
    found = learnt(PRIOR, life(12, dict.fromkeys(NAMES, 3.0), 0.02, 7), ("new", "a"))
    factor, own_sd = np.asarray(found.factor), np.asarray(found.own_sd)
    assert 2.6 < factor[0] < 3.2
    assert own_sd[0] == pytest.approx(2.0 * 0.25 / factor[0])
    assert own_sd[1] < own_sd[0]


def test_a_trend_that_moved_all_alike_is_not_taken_for_an_answer() -> None:
    """All losses fell by more than foretold: with a trend allowed for the factor stays near what shares did."""
    rng = np.random.default_rng(2)
    foretold = {f"d{j}": float(x) for j, x in enumerate(rng.uniform(-0.3, 0.1, 10))}
    realised = {name: 2.0 * x - 0.5 for name, x in foretold.items()}
    with_trend, without = (
        float(np.mean(learnt(PRIOR, [Moves(foretold, realised, u)], tuple(foretold)).factor)) for u in (0.5, 0.0)
    )
    assert abs(with_trend - 2.0) < 0.1 < abs(without - 2.0)


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-5, 5)), min_size=1, max_size=6), st.floats(0, 1))
def test_it_stays_positive_and_within_four_times(rows: list[tuple[float, float]], trend: float) -> None:
    names = [f"d{j}" for j in range(len(rows))]
    move = Moves(
        {n: x for n, (x, _) in zip(names, rows, strict=True)},
        {n: y for n, (_, y) in zip(names, rows, strict=True)},
        trend,
    )
    found = learnt(PRIOR, [move], names)
    factor = np.asarray(found.factor)
    assert ((factor >= 0.5) & (factor <= 8.0)).all()
    assert found.shared_sd > 0
    assert (np.asarray(found.own_sd) > 0).all()


@pytest.mark.parametrize(
    ("move", "said"),
    [
        (Moves({"a": 1.0}, {"b": 1.0}), r"foretold \['a'\], realised \['b'\]"),
        (Moves({"a": float("nan")}, {"a": 1.0}), "domain 'a' must be finite"),
    ],
)
def test_what_does_not_belong_together_is_refused(move: Moves, said: str) -> None:
    with pytest.raises(ObservationError, match=said):
        learnt(PRIOR, [move], NAMES)
