"""Batched Levenberg-Marquardt against closed forms, scipy and finite differences."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import least_squares

from evermix.laws.curve_fits import CurveFits, LeastSquares, Patience, WeightedGram, best_of, minimise, search
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs


def linear_fits(
    huber_delta: float | None = None, lower: float = -np.inf
) -> tuple[LeastSquares, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 3)), rng.normal(size=(4, 30))

    def residuals(theta: np.ndarray, problem: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta @ X.T - y[problem], np.broadcast_to(X, (len(theta), *X.shape))

    fits = LeastSquares(
        residuals=residuals,
        precision=0.5 * np.eye(3),
        mean=np.ones((4, 3)),
        free=np.ones((4, 3), dtype=bool),
        lower=np.full(3, lower),
        huber_delta=None if huber_delta is None else np.full(4, huber_delta),
    )
    return fits, X, y


def test_a_linear_problem_with_a_prior_has_its_closed_form() -> None:
    fits, X, y = linear_fits()
    solution = minimise(fits, np.zeros((4, 3)), np.arange(4))
    expected = np.linalg.solve(X.T @ X + 0.5 * np.eye(3), (y @ X + 0.5).T).T
    np.testing.assert_allclose(solution.theta, expected, atol=1e-8)
    assert solution.converged.all()


@pytest.mark.parametrize("huber_delta", [None, 0.4])
@pytest.mark.parametrize("lower", [-np.inf, 0.1])
def test_agrees_with_scipy(huber_delta: float | None, lower: float) -> None:
    fits, X, y = linear_fits(huber_delta, lower)
    solution = minimise(fits, np.ones((4, 3)), np.arange(4))
    for i in range(4):
        # scipy's loss is delta^2 rho((r / delta)^2) / 2; the prior is three more residuals, which must not be clipped
        delta = huber_delta or 1e6

        def rho(z: np.ndarray, n: int = len(X)) -> np.ndarray:
            w = np.maximum(z, 1.0)
            out = np.where(z <= 1, [z, np.ones_like(z), np.zeros_like(z)], [2 * w**0.5 - 1, w**-0.5, -0.5 * w**-1.5])
            out[:, n:] = z[n:], np.ones_like(z[n:]), np.zeros_like(z[n:])
            return out

        other = least_squares(
            lambda t, i=i: np.append(X @ t - y[i], np.sqrt(0.5) * (t - 1)),
            np.ones(3),
            bounds=(lower if np.isfinite(lower) else -1e9, np.inf),
            loss=rho,
            f_scale=delta,
            xtol=1e-14,
            ftol=1e-14,
            gtol=1e-14,
        )
        assert solution.objective[i] <= other.cost * (1 + 1e-7)
        np.testing.assert_allclose(solution.theta[i], other.x, atol=1e-4)


def test_multiplicity_is_repetition() -> None:
    fits, X, y = linear_fits(0.4)
    counts = np.arange(30) % 3.0
    again = np.repeat(np.arange(30), counts.astype(int))
    heavy = LeastSquares(**{**vars(fits), "multiplicity": counts})

    def residuals(theta: np.ndarray, problem: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return theta @ X[again].T - y[problem][:, again], np.broadcast_to(X[again], (len(theta), len(again), 3))

    repeated = LeastSquares(**{**vars(fits), "residuals": residuals})
    one, two = (minimise(f, np.zeros((4, 3)), np.arange(4)) for f in (heavy, repeated))
    np.testing.assert_allclose(one.objective, two.objective, rtol=1e-12)


def curved(kind: str) -> tuple[CurveFits, np.ndarray]:
    rng = np.random.default_rng(1)
    P, Y = rng.dirichlet(np.ones(4), 20), rng.uniform(1, 3, (20, 3))
    if kind == "log-linear":
        log_linear = LogLinearLaw(ridge=0.1).fit(Runs.of(P, Y, counts=rng.integers(1, 3, 20)))
        return log_linear.fits_, np.abs(rng.normal(0, 0.5, (3, 5)))
    power = PowerLinkLaw(own=[0, None, 2]).fit(Runs.of(P, Y, np.abs(rng.normal(1, 0.2, (20, 3)))))
    return power.fits_, np.abs(rng.normal(0, 0.5, (3, 7)))


@pytest.mark.parametrize("kind", ["log-linear", "power-link"])
def test_gradient_and_hessian_equal_finite_differences(kind: str) -> None:
    fits, theta = curved(kind)
    problem, exact = np.arange(3), np.ones(3, dtype=bool)

    def loss(t: np.ndarray) -> np.ndarray:
        return fits.loss(fits.evaluate(t, problem)[0], t, problem)

    def slopes(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r, point = fits.evaluate(t, problem)
        return fits.derivatives(r, t, problem, point, exact)

    gradient, hessian = slopes(theta)
    steps = 1e-6 * np.eye(theta.shape[1])
    numeric = np.stack([(loss(theta + e) - loss(theta - e)) / 2e-6 for e in steps], axis=1)
    second = np.stack([(slopes(theta + e)[0] - slopes(theta - e)[0]) / 2e-6 for e in steps], axis=1)
    np.testing.assert_allclose(gradient, numeric, atol=1e-6 * np.abs(gradient).max())
    np.testing.assert_allclose(hessian, second, atol=1e-6 * np.abs(hessian).max())


def test_too_few_iterations_are_not_called_converged() -> None:
    fits, theta = curved("log-linear")
    assert not minimise(fits, theta, np.arange(3), Patience(max_iterations=1)).converged.any()


def test_a_start_without_a_finite_objective_stays_infinite() -> None:
    fits, _, _ = linear_fits()
    start = np.array([[np.nan, 0, 0], [0, 0, 0]])
    solution = minimise(fits, start, np.array([0, 0]))
    assert np.isinf(solution.objective[0])
    assert best_of(solution, np.array([0, 0]), 1).objective[0] == solution.objective[1]


def test_search_keeps_the_best_of_every_problem_and_sees_two_basins() -> None:
    """r = (t^2 - 1, 0.1 (t - 2)): basins near 1, the lower one, and near -1."""

    def residuals(theta: np.ndarray, problem: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        t = theta[:, 0]
        J = np.stack([2 * t, np.full_like(t, 0.1)], axis=1)[:, :, None]
        return np.stack([t**2 - 1, 0.1 * (t - 2)], axis=1), J

    fits = LeastSquares(
        residuals=residuals,
        precision=np.zeros((1, 1)),
        mean=np.zeros((2, 1)),
        free=np.ones((2, 1), dtype=bool),
        lower=np.full(1, -np.inf),
    )
    start, problem = np.array([[-2.0], [2.0], [3.0], [0.5]]), np.array([0, 0, 1, 1])
    found = search(fits, start, problem, ((20, 2),))
    np.testing.assert_allclose(found.best.theta[:, 0], 1.0, atol=0.05)
    np.testing.assert_array_equal(found.agreed, [False, True])


@pytest.mark.parametrize("columns", [1, 6])
def test_weighted_gram_is_the_product_with_and_without_its_table(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    X, w = rng.normal(size=(9, columns)), rng.normal(size=(5, 9))
    expected = np.stack([X.T @ np.diag(row) @ X for row in w])
    np.testing.assert_allclose(WeightedGram(X)(w), expected, atol=1e-12)
    monkeypatch.setattr("evermix.laws.curve_fits._LARGEST_TABLE", 0)
    np.testing.assert_allclose(WeightedGram(X)(w), expected, atol=1e-12)
