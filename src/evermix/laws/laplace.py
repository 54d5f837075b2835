"""How uncertain a fitted curve is: the noise around it, and the covariance of its parameters by Laplace's method.

With residuals in units of the metric's scale, H = J'NJ + R (N multiplicities, R the prior's precision) and e = the
number of parameters that the data fix, tr(H^-1 J'NJ):

    noise^2 = sum_k n_k r_k^2 / (n - e),        covariance = noise^2 H^-1.

For Huber's loss the asymptotic variance of an M-estimator (Huber 1964) takes the place of noise^2 in the covariance:
sum_k n_k rho'(r_k)^2 / (n - e) / (mean rho'')^2, and R / mean rho'' that of R.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from evermix.laws.levenberg_marquardt import Bools, CurveFits, Floats, Ints

_LARGEST_BATCH = 2**22  # numbers in the Hessians of one batch, 32 MiB
_LEAST_SHARE_INSIDE = 0.05


@dataclass(frozen=True)
class Uncertainty:
    """noise: (problems,), sd of a residual. scale: (problems,), of the covariance. prior: factor of R."""

    noise: Floats
    scale: Floats
    prior: Floats


def noise_of(fits: CurveFits, theta: Floats, known: Floats, fallback: Floats) -> Uncertainty:
    """Noise around each metric's curve.

    Args:
        known: (problems, K), 1 where the residual is known, 0 where it is missing.
        fallback: (problems,), the noise where the fit leaves no degree of freedom (under half a run).
    """
    problem = np.arange(len(theta))
    r, _ = fits.evaluate(theta, problem)
    counted = known if fits.multiplicity is None else known * fits.multiplicity
    n = counted.sum(axis=1)
    inside, psi = np.ones(len(theta)), r
    if fits.huber_delta is not None:
        psi = np.clip(r, -fits.huber_delta, fits.huber_delta)
        inside = (counted * (np.abs(r) <= fits.huber_delta)).sum(axis=1) / n
        inside = np.maximum(inside, _LEAST_SHARE_INSIDE)
    freedom = n - fixed_by_data(fits, theta, 1 / inside)
    enough = freedom >= 0.5
    freedom = np.where(enough, freedom, 1.0)
    noise = np.where(enough, np.sqrt((counted * r**2).sum(axis=1) / freedom), fallback)
    scale = np.where(enough, np.sqrt((counted * psi**2).sum(axis=1) / freedom) / inside, fallback)
    return Uncertainty(noise, scale, 1 / inside)


def fixed_by_data(fits: CurveFits, theta: Floats, prior: Floats) -> Floats:
    """tr(H^-1 J'NJ) = free parameters - tr(H^-1 R), shape (problems,)."""
    total = np.empty(len(theta))
    for rows in _chunks(*theta.shape):
        hessian, held = _hessian(fits, theta[rows], rows, prior[rows])
        total[rows] = (~held).sum(axis=1)
        if fits.precision.any():
            share = np.einsum("bqq->bq", np.linalg.solve(hessian, np.broadcast_to(fits.precision, hessian.shape)))
            total[rows] -= prior[rows] * np.where(held, 0.0, share).sum(axis=1)
    return total


def standard_deviations(
    fits: CurveFits, theta: Floats, uncertainty: Uncertainty, slopes: Callable[[int], Floats]
) -> Floats:
    """sqrt(s' covariance s) for the rows s of slopes(problem), shape (points, q); result (points, problems)."""
    columns = []
    for rows in _chunks(*theta.shape):
        hessian, held = _hessian(fits, theta[rows], rows, uncertainty.prior[rows])
        for inverse, fixed, problem in zip(np.linalg.inv(hessian), held, rows, strict=True):
            inner = np.where(fixed, 0.0, slopes(int(problem)))
            variance = ((inner @ inverse) * inner).sum(axis=1)
            columns.append(uncertainty.scale[problem] * np.sqrt(np.maximum(variance, 0.0)))
    return np.stack(columns, axis=-1)


def _chunks(n_problems: int, q: int) -> list[Ints]:
    width = max(1, _LARGEST_BATCH // q**2)
    return [np.arange(first, min(first + width, n_problems)) for first in range(0, n_problems, width)]


def _hessian(fits: CurveFits, theta: Floats, problem: Ints, prior: Floats) -> tuple[Floats, Bools]:
    """J'NJ + R, with a held coordinate's row and column those of the identity; and which are held."""
    r, point = fits.evaluate(theta, problem)
    weight = np.ones_like(r) if fits.multiplicity is None else np.broadcast_to(fits.multiplicity, r.shape)
    _, hessian = fits.normal(theta, problem, point, r, weight, None)
    hessian = hessian + prior[:, None, None] * fits.precision
    held = ~fits.free[problem] | (theta <= fits.lower)
    hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    diagonal = np.einsum("bqq->bq", hessian)
    diagonal += np.where(held, 1.0, 1e-9 * np.maximum(diagonal, diagonal.max(axis=1, keepdims=True) * 1e-6) + 1e-300)
    return hessian, held
