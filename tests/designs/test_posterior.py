"""The posterior: the law's mean, less uncertain where runs are, rank-one updates that agree with a Gaussian process."""

from __future__ import annotations

import numpy as np
import pytest

from evermix.designs.adaptive import Posterior, posterior_of
from evermix.errors import ObservationError
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs


def mean_cost(costs: np.ndarray) -> np.ndarray:
    return np.asarray(costs.mean(axis=-1))


def planted(n_runs: int, m: int = 5, seed: int = 0) -> Runs:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(m, 0.7), n_runs)
    tau = np.random.default_rng(7).uniform(0.1, 2, (m, 3))
    return Runs(P, 1 + (P**0.7 @ tau) ** -0.5 + 0.003 * rng.standard_normal((n_runs, 3)))


def test_mean_is_the_law_and_runs_are_the_least_uncertain() -> None:
    known = planted(14)
    law = PowerLinkLaw().fit(known)
    new = np.random.default_rng(5).dirichlet(np.full(5, 0.3), 40)
    posterior = posterior_of(law, known, mean_cost, np.vstack([known.mixtures, new]), np.random.default_rng(0))
    np.testing.assert_allclose(posterior.mean, mean_cost(law.predict(np.vstack([known.mixtures, new]))))
    spread = np.sqrt(np.diag(posterior.covariance))
    assert spread[:14].max() < np.median(spread[14:])
    assert np.linalg.eigvalsh(posterior.covariance).min() > -1e-10 * spread.max()


def test_a_domain_never_seen_is_uncertain() -> None:
    known = planted(12)
    P = known.mixtures.copy()
    P[:, 4] = 0
    P /= P.sum(axis=1, keepdims=True)
    runs = Runs(P, known.values)
    law = PowerLinkLaw().fit(runs)
    posterior = posterior_of(law, runs, mean_cost, np.eye(5), np.random.default_rng(0))
    assert np.diag(posterior.covariance).argmax() == 4


def test_rank_one_update_is_conditioning() -> None:
    rng = np.random.default_rng(0)
    root = rng.standard_normal((6, 6))
    posterior = Posterior(rng.standard_normal(6), root @ root.T, 0.3)
    C = posterior.covariance
    both = posterior.given_run(2).given_run(4)
    A = C[:, [2, 4]]
    expected = C - A @ np.linalg.solve(C[np.ix_([2, 4], [2, 4])] + 0.3 * np.eye(2), A.T)
    np.testing.assert_allclose(both.covariance, expected, atol=1e-10)
    functions = posterior.condition(posterior.sample(40_000, rng), 2, rng)
    np.testing.assert_allclose(np.cov(functions.T), posterior.given_run(2).covariance, atol=0.25)
    np.testing.assert_allclose(functions.mean(axis=0), posterior.mean, atol=0.05)


def test_missing_cells_and_laws_that_need_more_runs_than_a_fold_has() -> None:
    known = planted(12)
    costs = known.values.copy()
    costs[3, 1] = np.nan
    holed = Runs(known.mixtures, costs)
    law = PowerLinkLaw().fit(holed)
    posterior = posterior_of(law, holed, mean_cost, np.eye(5), np.random.default_rng(0))
    assert np.isfinite(posterior.covariance).all()
    small = planted(7)
    strict = LogLinearLaw().fit(small)
    posterior = posterior_of(strict, small, mean_cost, small.mixtures, np.random.default_rng(0))
    assert np.isfinite(posterior.covariance).all()


def test_a_law_that_explodes_leaves_the_posterior_finite() -> None:
    known = planted(8)
    law = PowerLinkLaw().fit(known)

    limit = max(mean_cost(law.predict(known.mixtures)).max(), mean_cost(known.values).max())

    def exploding(costs: np.ndarray) -> np.ndarray:
        return np.where(mean_cost(costs) > limit, np.inf, mean_cost(costs))

    points = np.vstack([known.mixtures, np.eye(5)])
    assert np.isinf(exploding(law.predict(points))).any()
    posterior = posterior_of(law, known, exploding, points, np.random.default_rng(0))
    assert np.isfinite(posterior.mean).all()
    assert np.isfinite(posterior.covariance).all()


def test_too_few_runs_are_refused() -> None:
    with pytest.raises(ObservationError, match="at least 4 runs"):
        posterior_of(PowerLinkLaw().fit(planted(3)), planted(3), mean_cost, np.eye(5), np.random.default_rng(0))
    with pytest.raises(ObservationError, match="of the same runs"):
        Runs(np.ones((4, 1)), np.ones((5, 1)))
