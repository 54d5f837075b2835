"""The Gaussian process against its own formulas, finite differences, and scikit-learn where installed."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from scipy.optimize import approx_fprime
from scipy.stats import multivariate_normal

from evermix.errors import ObservationError
from evermix.laws.base import weighted
from evermix.laws.gaussian_process import GaussianProcessLaw, Kernel, _Part
from evermix.observations.runs import Runs

M = 4


def world(k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.8), k)
    Y = np.column_stack([3 + np.sin(4 * P[:, 0]) + P[:, 1], 2 + P[:, 2] ** 2 - 0.5 * P[:, 3]])
    return P, Y + 0.02 * rng.standard_normal(Y.shape)


@pytest.mark.parametrize("n_ranges", [1, M])
def test_the_likelihoods_gradient_is_its_derivative(n_ranges: int) -> None:
    P, Y = world(15)
    counts = np.arange(15) % 3 + 1.0
    part = _Part(P**0.5, Y - Y.mean(axis=0), weighted(Runs.of(P, Y, counts=counts)), 0)
    theta = np.concatenate([[0.3, -0.4, -2.0], np.linspace(-0.5, 0.2, n_ranges)])
    numeric = approx_fprime(theta, lambda t: part.negative_log_likelihood(t)[0], 1e-6)
    np.testing.assert_allclose(part.negative_log_likelihood(theta)[1], numeric, rtol=1e-4, atol=1e-4)


def test_the_likelihood_is_that_of_a_normal_distribution() -> None:
    P, Y = world(12)
    z = Y[:, :1] - Y[:, :1].mean()
    part = _Part(P, z, weighted(Runs.of(P, Y[:, :1])), 0)
    theta = np.array([0.1, 0.2, -1.0, -0.3])
    kernel = Kernel(theta)
    A = kernel.covariance(P, P) + kernel.noise * np.eye(12) + 1e-8 * np.eye(12)
    scale2 = float(z[:, 0] @ np.linalg.solve(A, z[:, 0]) / 12)
    told = -multivariate_normal(np.zeros(12), scale2 * A).logpdf(z[:, 0])
    ours = part.negative_log_likelihood(theta)[0] + 6 * (1 + np.log(2 * np.pi))
    assert ours == pytest.approx(told, rel=1e-6)


def test_counts_have_the_likelihood_of_repeated_rows_up_to_a_constant() -> None:
    P, Y = world(10)
    counts = np.arange(10) % 3 + 1
    z = Y - Y.mean(axis=0)
    counted = _Part(P, z, weighted(Runs.of(P, Y, counts=counts)), 0)
    many, long = np.repeat(P, counts, axis=0), np.repeat(Y, counts, axis=0)
    repeated = _Part(many, np.repeat(z, counts, axis=0), weighted(Runs.of(many, long)), 0)
    thetas = [np.array([0.1, 0.2, noise, -0.3]) for noise in (-3.0, -1.0)]
    a, b = ([part.negative_log_likelihood(t)[0] for t in thetas] for part in (counted, repeated))
    assert a[0] - a[1] == pytest.approx(b[0] - b[1], abs=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("sklearn") is None, reason="scikit-learn is not installed")
def test_mean_and_deviation_are_those_of_scikit_learn() -> None:
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, DotProduct

    P, Y = world(40)
    law = GaussianProcessLaw(g=1.0).fit(Runs.of(P, Y[:, :1]))
    _, process = law.processes_[0]
    c, linear, noise, length = np.exp(process.kernel.log_parameters)
    s2 = float(process.scale[0] ** 2)
    kernel = (
        ConstantKernel(s2 * c, "fixed")
        + ConstantKernel(s2 * linear, "fixed") * DotProduct(0.0, "fixed")
        + ConstantKernel(s2, "fixed") * RBF(length, "fixed")
    )
    other = GaussianProcessRegressor(kernel, alpha=s2 * (noise + 1e-8), optimizer=None)
    other.fit(P, (Y[:, 0] - law.mean_[0]) / law.unit_[0])
    points = world(30, seed=5)[0]
    mean, std = other.predict(points, return_std=True)
    ours, deviation = law.predict_with_std(points)
    np.testing.assert_allclose(ours[:, 0], law.mean_[0] + law.unit_[0] * mean, rtol=1e-6)
    np.testing.assert_allclose(deviation[:, 0], law.unit_[0] * std, rtol=1e-3, atol=1e-6)


def test_learns_a_curved_world() -> None:
    P, Y = world(300)
    law = GaussianProcessLaw(g=1.0).fit(Runs.of(P[:100], Y[:100]))
    left = ((law.predict(P[100:]) - Y[100:]) ** 2).mean(axis=0)
    assert (left < 0.03**2).all()
    assert np.allclose(law.noise_, 0.02, atol=0.008)


@pytest.mark.parametrize("options", [{"pool": False}, {"ard": True}])
def test_other_ways_of_fitting_learn_it_too(options: dict[str, bool]) -> None:
    P, Y = world(200)
    law = GaussianProcessLaw(g=1.0, **options).fit(Runs.of(P[:100], Y[:100]))
    assert law.pools_metrics == law.pool
    assert (((law.predict(P[100:]) - Y[100:]) ** 2).mean(axis=0) < 0.04**2).all()


def test_far_from_the_runs_it_knows_less() -> None:
    P, Y = world(60)
    near = P[(P[:, 0] > 0.2) & (P[:, 0] < 0.5)]
    law = GaussianProcessLaw().fit(Runs.of(near, Y[(P[:, 0] > 0.2) & (P[:, 0] < 0.5)]))
    _, std = law.predict_with_std(np.vstack([near[0], np.eye(M)[0]]))
    assert (std[1] > 3 * std[0]).all()


def test_g_outside_its_range_is_refused() -> None:
    with pytest.raises(ObservationError, match=r"g of the Gaussian process must be in \(0, 1\], got 1.5"):
        GaussianProcessLaw(g=1.5).fit(Runs.of(*world(10)))
