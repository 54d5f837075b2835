"""The log-linear law against planted truth and against scipy with many restarts."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from scipy.optimize import minimize

from evermix.errors import ObservationError
from evermix.laws.log_linear import LogLinearLaw
from evermix.observations.runs import Runs

M = 6
PUBLISHED = {"huber_delta": 0.02, "scaled": False, "ridge": 0.0}


def planted(k: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.7), k)
    t = rng.normal(0, 0.7, (4, M))
    return P, np.exp(0.6) + np.exp(P @ t.T) + noise * rng.standard_normal((k, 4))


def test_recovers_planted_predictions() -> None:
    P, Y = planted(200, 0.0)
    law = LogLinearLaw(ridge=0.0).fit(Runs.of(P[:60], Y[:60]))
    np.testing.assert_allclose(law.predict(P[60:]), Y[60:], atol=1e-4)
    np.testing.assert_allclose(law.c_, 0.6, atol=0.01)
    ridged = LogLinearLaw().fit(Runs.of(P[:60], Y[:60]))
    np.testing.assert_allclose(ridged.predict(P[60:]), Y[60:], atol=0.01)


def huber(theta: np.ndarray, P: np.ndarray, y: np.ndarray, delta: float) -> tuple[float, np.ndarray]:
    power = np.exp(np.clip(P @ theta[1:], -50, 50))
    r = np.exp(theta[0]) + power - y
    size = np.abs(r)
    loss = np.where(size <= delta, r**2 / 2, delta * size - delta**2 / 2).sum()
    slope = np.clip(r, -delta, delta)
    return loss, np.append(slope.sum() * np.exp(theta[0]), (slope * power) @ P)


@pytest.mark.parametrize("seed", [0, 1])
def test_objective_is_no_worse_than_scipy_with_30_restarts(seed: int) -> None:
    P, Y = planted(30, 0.05, seed)
    law = LogLinearLaw(**PUBLISHED).fit(Runs.of(P, Y))
    rng = np.random.default_rng(1)
    for i in range(Y.shape[1]):
        best = min(
            minimize(huber, rng.normal(0, 0.7, M + 1), (P, Y[:, i], 0.02), "L-BFGS-B", jac=True).fun for _ in range(30)
        )
        assert law.objective_[i] <= best * (1 + 1e-4) + 1e-9


def test_objective_is_the_huber_loss_of_its_parameters() -> None:
    P, Y = planted(30, 0.05)
    law = LogLinearLaw(**PUBLISHED).fit(Runs.of(P, Y))
    for i in range(4):
        theta = np.append(max(law.c_[i], -700.0), law.t_[i])
        assert law.objective_[i] == pytest.approx(huber(theta, P, Y[:, i], 0.02)[0], rel=1e-8)


def test_an_outlier_moves_it_little() -> None:
    P, Y = planted(60, 0.005)
    spoilt = Y.copy()
    spoilt[3] += 5.0

    def moved(law: LogLinearLaw) -> float:
        return float(
            np.abs(law.clone().fit(Runs.of(P, spoilt)).predict(P) - law.clone().fit(Runs.of(P, Y)).predict(P)).mean()
        )

    assert moved(LogLinearLaw(**PUBLISHED)) < 0.01
    assert moved(LogLinearLaw()) < 0.4 * moved(LogLinearLaw(huber_delta=1e6))


def test_too_few_runs_are_refused_unless_ridged() -> None:
    P, Y = planted(M, 0.01)
    with pytest.raises(ObservationError, match=r"needs at least 7 runs of metric 0, got 6.*ridge"):
        LogLinearLaw(ridge=0.0).fit(Runs.of(P, Y))
    assert np.isfinite(LogLinearLaw().fit(Runs.of(P, Y)).predict(P)).all()


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_at_few_noisy_runs_the_ridge_keeps_predictions_near_the_truth(seed: int) -> None:
    """Sparse runs, hardly more than parameters: without a ridge dense mixtures are foretold at any number."""
    rng = np.random.default_rng(seed)
    n_domains, n_metrics = 20, 12
    t = rng.normal(0, 0.7, (n_metrics, n_domains))
    P, Q = rng.dirichlet(np.full(n_domains, 0.1), n_domains + 4), rng.dirichlet(np.ones(n_domains), 200)
    Y = 1 + np.exp(P @ t.T)
    Y = np.maximum(Y + 0.3 * Y.std(axis=0) * rng.standard_normal(Y.shape), 0.1)
    error = {
        ridge: np.abs(LogLinearLaw(ridge=ridge).fit(Runs.of(P, Y)).predict(Q) - 1 - np.exp(Q @ t.T)) / np.ptp(Y, axis=0)
        for ridge in (0.0, LogLinearLaw().ridge)
    }
    assert error[0.0].max() > 1e10
    assert error[LogLinearLaw().ridge].max() < 20
    assert error[LogLinearLaw().ridge].mean() < 0.2


def test_a_domain_without_runs_is_refused_unless_ridged() -> None:
    P, Y = planted(30, 0.01)
    unseen = np.insert(P, 2, 0.0, axis=1)
    with pytest.raises(ObservationError, match="domain 2 never does"):
        LogLinearLaw(ridge=0.0).fit(Runs.of(unseen, Y))
    law = LogLinearLaw(ridge=1e-4).fit(Runs.of(unseen, Y))
    np.testing.assert_allclose(law.t_[:, 2], np.delete(law.t_, 2, 1).mean(axis=1), atol=1e-3)


def test_scaled_targets_do_not_depend_on_the_unit() -> None:
    P, Y = planted(40, 0.02)
    nats, bits = LogLinearLaw(scaled=True).fit(Runs.of(P, Y)), LogLinearLaw(scaled=True).fit(Runs.of(P, Y / np.log(2)))
    np.testing.assert_allclose(bits.predict(P) * np.log(2), nats.predict(P), atol=2e-3)


@pytest.mark.parametrize("seed", [1, 3, 4, 11, 24, 29])
def test_runs_that_are_all_noise_leave_numbers_everywhere(seed: int) -> None:
    """Exponents in the thousands: unclipped, exp(t . p) overflowed at these seeds."""
    rng = np.random.default_rng(seed)
    n_runs = int(rng.integers(6, 12))
    P = rng.dirichlet(np.full(5, 0.3), n_runs)
    Y = np.exp(rng.normal(0, 3, (n_runs, 2)))
    law = LogLinearLaw(ridge=0.0, n_restarts=3).fit(Runs.of(P, Y))
    corners = np.eye(5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        predicted, std = law.predict_with_std(np.vstack([P, corners]))
        derivatives = [part for p in corners for part in (law.gradient(p), *law.curvature(p))]
    assert np.abs(law.t_).max() > 80
    assert np.isfinite(predicted).all()
    assert np.isfinite(std).all()
    assert all(np.isfinite(part).all() for part in derivatives)
    np.testing.assert_array_equal(predicted, law.predict(np.vstack([P, corners])))
