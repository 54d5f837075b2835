"""Curve fits: many small ones (metrics x starts) at once, in numpy, and how uncertain they are.

Levenberg-Marquardt, batched. minimise over theta: sum_k n_k rho(r_k(theta)) + (theta - mu)' R (theta - mu) / 2, with
theta >= lower, where rho is r^2/2 or Huber's function (r^2/2 up to delta, then linear) and n_k the multiplicity of
residual k. Far from the solution the steps are reweighted Gauss-Newton,

    (J'WJ + R + damping diag) d = -(J' rho' + R (theta - mu)),  W = rho'(r) / r,

which always go downhill; near it, where the fit offers second derivatives, W = rho''(r) and sum_k rho'_k r_k'' is
added: Newton, which converges quadratically. Coordinates held at their bound are left out of the step.

Uncertainty: the noise around a curve, and the covariance of its parameters by Laplace's method. With residuals in units
of the metric's scale, H = J'NJ + R (N multiplicities, R the prior's precision) and e = the number of parameters that
the data fix, tr(H^-1 J'NJ):

    noise^2 = sum_k n_k r_k^2 / (n - e),        covariance = noise^2 H^-1.

For Huber's loss the asymptotic variance of an M-estimator (Huber 1964) takes the place of noise^2 in the covariance:
sum_k n_k rho'(r_k)^2 / (n - e) / (mean rho'')^2, and R / mean rho'' that of R.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
# theta (batch, q), problem numbers (batch,) -> residuals (batch, K), Jacobian (batch, K, q)
Residuals = Callable[[Floats, Ints], tuple[Floats, Floats]]
# what a fit has computed at theta and needs for the derivatives: arrays whose first axis is the batch
Point = tuple[Floats, ...]

_LARGEST_BATCH = 2**23  # numbers in the Hessians, or in the residuals, of one batch: 64 MiB
_NEWTON_FROM = 0.03  # relative decrease of a step under which second derivatives are used
_FLOOR_ON_FAILURE = 1e-4  # least damping after a step that did not gain
_SAME_BASIN = 1e-4
_LEAVE_NEWTON = 2.0**6  # growth factor of the damping after five failures running
_LARGEST_HESSIANS = 2**22  # numbers in the Hessians of one batch, 32 MiB
_LEAST_SHARE_INSIDE = 0.05
_LARGEST_TABLE = 2**24  # numbers, 128 MiB


@dataclass(frozen=True)
class CurveFits(ABC):
    """The problems, one per metric; a `problem number` picks the data of one.

    Attributes:
        precision: R, shape (q, q), positive semidefinite.
        mean: mu, shape (problems, q).
        free: shape (problems, q), False holds a parameter at its start.
        lower: shape (q,), least value of each parameter, -inf for none.
        huber_delta: shape (problems,), where Huber's function turns linear; None for plain squares.
        multiplicity: n_k, shape (K,); None for one each.
    """

    precision: Floats
    mean: Floats
    free: Bools
    lower: Floats
    huber_delta: Floats | None = None
    multiplicity: Floats | None = None

    @property
    def has_second_derivatives(self) -> bool:
        """Whether `normal` uses `bend`."""
        return False

    @property
    def n_residuals(self) -> int:
        """K where it is known, to bound the memory of a batch."""
        return 0 if self.multiplicity is None else len(self.multiplicity)

    @abstractmethod
    def evaluate(self, theta: Floats, problem: Ints) -> tuple[Floats, Point]:
        """Residuals, shape (batch, K), and what `normal` needs."""

    @abstractmethod
    def normal(
        self, theta: Floats, problem: Ints, point: Point, slope: Floats, weight: Floats, bend: Floats | None
    ) -> tuple[Floats, Floats]:
        """J' slope, shape (batch, q), and J' diag(weight) J + sum_k bend_k r_k'', shape (batch, q, q)."""

    def loss(self, r: Floats, theta: Floats, problem: Ints) -> Floats:
        """The objective, shape (batch,); infinite where a residual is not finite."""
        with np.errstate(over="ignore", invalid="ignore"):
            if self.huber_delta is None:
                rho = 0.5 * r**2
            else:
                inner = np.minimum(np.abs(r), self.huber_delta[problem][:, None])
                rho = inner * (np.abs(r) - 0.5 * inner)
            off = theta - self.mean[problem]
            data = rho.sum(axis=1) if self.multiplicity is None else rho @ self.multiplicity
            total: Floats = data + 0.5 * ((off @ self.precision) * off).sum(axis=1)
        return np.where(np.isfinite(total), total, np.inf)

    def derivatives(self, r: Floats, theta: Floats, problem: Ints, point: Point, exact: Bools) -> tuple[Floats, Floats]:
        """Gradient and Hessian of the objective; Gauss-Newton's Hessian where `exact` (batch,) is False."""
        slope, weight = r, np.ones_like(r)
        if self.huber_delta is not None:
            delta = self.huber_delta[problem][:, None]
            size = np.maximum(np.abs(r), delta)
            slope = np.clip(r, -delta, delta)
            weight = np.where(exact[:, None], np.abs(r) <= delta, delta / size)
        if self.multiplicity is not None:
            slope, weight = slope * self.multiplicity, weight * self.multiplicity
        bend = np.where(exact[:, None], slope, 0.0) if exact.any() else None
        gradient, hessian = self.normal(theta, problem, point, slope, weight, bend)
        gradient = gradient + (theta - self.mean[problem]) @ self.precision
        hessian += self.precision
        return gradient, hessian


@dataclass(frozen=True, kw_only=True)
class LeastSquares(CurveFits):
    """Fits given by a function for residuals and their whole Jacobian.

    Attributes:
        residuals: residuals and their Jacobian, for a batch of parameters.
    """

    residuals: Residuals

    def evaluate(self, theta: Floats, problem: Ints) -> tuple[Floats, Point]:
        r, J = self.residuals(theta, problem)
        return r, (J,)

    def normal(
        self, theta: Floats, problem: Ints, point: Point, slope: Floats, weight: Floats, bend: Floats | None
    ) -> tuple[Floats, Floats]:
        J = point[0]
        transposed = J.transpose(0, 2, 1)
        return (transposed @ slope[:, :, None])[:, :, 0], transposed @ (weight[:, :, None] * J)


@dataclass(frozen=True)
class Solution:
    """theta (batch, q), objective (batch,), converged (batch,)."""

    theta: Floats
    objective: Floats
    converged: Bools


@dataclass(frozen=True)
class Patience:
    """How long to go on: at most `max_iterations`, until a step gains less than `tolerance` relatively."""

    max_iterations: int = 200
    tolerance: float = 1e-10


@dataclass
class _State:
    theta: Floats
    loss: Floats
    gradient: Floats
    hessian: Floats
    exact: Bools
    damping: Floats
    growth: Floats
    problem: Ints
    calm: Ints

    def keep(self, rows: Bools) -> _State:
        return _State(*(value[rows] for value in vars(self).values()))


def minimise(fits: CurveFits, start: Floats, problem: Ints, patience: Patience = Patience()) -> Solution:
    """Solve problem[b] from start[b], shape (batch, q), for each b at once.

    Converged means: the quadratic model foretold a relative gain under `tolerance` for a nearly undamped step, or three
    steps running gained less than that, or no step however short gained anything.
    """
    width = max(1, _LARGEST_BATCH // max(start.shape[1] ** 2, fits.n_residuals))
    parts = [
        _minimise(fits, start[first : first + width], problem[first : first + width], patience)
        for first in range(0, len(start), width)
    ]
    return Solution(*(np.concatenate([getattr(part, name) for part in parts]) for name in vars(parts[0])))


def _minimise(fits: CurveFits, start: Floats, problem: Ints, patience: Patience) -> Solution:
    theta, n = np.maximum(start, fits.lower), len(start)
    r, point = fits.evaluate(theta, problem)
    objective, converged = fits.loss(r, theta, problem), np.zeros(n, dtype=bool)
    rows = np.flatnonzero(np.isfinite(objective))
    if not len(rows):
        return Solution(theta, objective, converged)
    gauss = np.zeros(len(rows), dtype=bool)
    values = fits.derivatives(r[rows], theta[rows], problem[rows], tuple(a[rows] for a in point), gauss)
    damping, calm = np.full(len(rows), 1e-3), np.zeros(len(rows), dtype=np.intp)
    state = _State(theta[rows], objective[rows], *values, gauss, damping, np.full(len(rows), 2.0), problem[rows], calm)
    for _ in range(patience.max_iterations):
        done = _step(fits, state, patience.tolerance)
        theta[rows], objective[rows] = state.theta, state.loss
        converged[rows[done]] = True
        if done.any():
            state, rows = state.keep(~done), rows[~done]
        if not len(rows):
            break
    return Solution(theta, objective, converged)


def _step(fits: CurveFits, state: _State, tolerance: float) -> Bools:
    """One damped step of every problem, in place; returns which have converged.

    Damping follows the gain ratio, actual over foretold decrease: times max(1/10, 1 - (2 gain - 1)^3) after a step that
    gained, times a growing factor after one that did not (Nielsen 1999).
    """
    trial, foretold = _trial(fits, state)
    r, point = fits.evaluate(trial, state.problem)
    loss = fits.loss(r, trial, state.problem)
    better = loss < state.loss
    decrease = np.where(better, state.loss - loss, 0.0)
    level = np.maximum(state.loss, 1e-12)
    done = (np.abs(foretold) <= tolerance * level) & (state.damping <= 1e-2) & (foretold >= 0)
    state.calm = np.where(better & (decrease <= tolerance * level), state.calm + 1, np.where(better, 0, state.calm))
    gain = np.where(foretold > 0, np.clip(decrease / np.maximum(foretold, 1e-300), 0.0, 2.0), 0.0)
    eased = np.maximum(state.damping * np.clip(1 - (2 * gain - 1) ** 3, 0.1, 2.0), 1e-12)
    state.damping = np.where(better, eased, np.maximum(state.damping, _FLOOR_ON_FAILURE) * state.growth)
    state.growth = np.where(better, 2.0, state.growth * 2)
    near = (decrease <= _NEWTON_FROM * level) & fits.has_second_derivatives
    exact = np.where(better, near, state.exact & (state.growth < _LEAVE_NEWTON))
    state.damping[state.exact & ~exact] = 1e-3
    changed = np.flatnonzero(better | (exact != state.exact))
    state.theta[better], state.loss[better] = trial[better], loss[better]
    state.exact = exact
    done |= (state.calm >= 3) | (state.damping > 1e10) | (state.loss < 1e-26)
    _renew(fits, state, changed[~done[changed]], better, (r, point))
    return done


def _renew(fits: CurveFits, state: _State, rows: Ints, moved: Bools, at: tuple[Floats, Point]) -> None:
    """Gradient and Hessian of `rows`, at the trial where it was taken and where they stood before otherwise."""
    r, point = at
    for taken in (True, False):
        some = rows[moved[rows] == taken]
        if not len(some):
            continue
        theta, problem = state.theta[some], state.problem[some]
        if taken:
            here, parts = r[some], tuple(a[some] for a in point)
        else:
            here, parts = fits.evaluate(theta, problem)
        values = fits.derivatives(here, theta, problem, parts, state.exact[some])
        state.gradient[some], state.hessian[some] = values


def _trial(fits: CurveFits, state: _State) -> tuple[Floats, Floats]:
    """theta + d, moved back onto the bounds, and the decrease that the quadratic model foretells for d."""
    gradient, hessian = state.gradient, state.hessian.copy()
    held = ~fits.free[state.problem] | ((state.theta <= fits.lower) & (gradient > 0))
    diagonal = np.einsum("bqq->bq", hessian)
    if held.any():
        gradient = np.where(held, 0.0, gradient)
        hessian[held] = 0.0
        hessian.transpose(0, 2, 1)[held] = 0.0
    size = np.abs(diagonal)
    scale = np.maximum(size, 1e-8 * size.max(axis=1, keepdims=True) + 1e-12)
    added = state.damping[:, None] * scale
    diagonal += added + held
    step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
    # model decrease: -g.d - d'Hd/2 = (d'(damping D)d - g.d) / 2
    foretold: Floats = 0.5 * ((added * step**2).sum(axis=1) - (gradient * step).sum(axis=1))
    crossing = ~held & (state.theta + step < fits.lower)
    rows = np.flatnonzero(crossing.any(axis=1))
    if len(rows):
        to_bound = np.where(crossing, fits.lower - state.theta, 0.0)[rows]
        step[rows] = _step_to_bound(hessian[rows], gradient[rows], crossing[rows], to_bound)
        d = step[rows]
        curved = (hessian[rows] @ d[:, :, None])[:, :, 0] - added[rows] * d
        foretold[rows] = -(d * (gradient[rows] + 0.5 * curved)).sum(axis=1)
    return np.maximum(state.theta + step, fits.lower), foretold


def _step_to_bound(hessian: Floats, gradient: Floats, crossing: Bools, to_bound: Floats) -> Floats:
    """The step where the crossing coordinates go just to their bound and the others are best given that."""
    right = np.where(crossing, to_bound, -(gradient + (hessian @ to_bound[:, :, None])[:, :, 0]))
    inner = np.where(crossing[:, :, None] | crossing[:, None, :], 0.0, hessian)
    np.einsum("bqq->bq", inner)[crossing] = 1.0
    return np.linalg.solve(inner, right[:, :, None])[:, :, 0]


def best_of(solution: Solution, problem: Ints, n_problems: int) -> Solution:
    """For each problem the start that ended lowest."""
    first = _leaders(solution.objective, problem, n_problems, 1)
    return Solution(solution.theta[first], solution.objective[first], solution.converged[first])


@dataclass(frozen=True)
class Search:
    """Successive halving over starts, and how it ended.

    Attributes:
        best: the lowest end of each problem.
        agreed: (problems,), whether all starts of the last stage came equally low, within 1e-4: one basin.
    """

    best: Solution
    agreed: Bools


def search(
    fits: CurveFits, start: Floats, problem: Ints, stages: tuple[tuple[int, int], ...], patience: Patience = Patience()
) -> Search:
    """In each stage (iterations, keep) every start goes so far and the `keep` best of each problem stay.

    What stays after the last stage is brought to convergence. Problems are numbered from 0 without gaps.
    """
    n_problems = int(problem.max()) + 1
    agreed = np.ones(n_problems, dtype=bool)
    for iterations, keep in stages:
        solution = minimise(fits, start, problem, Patience(iterations, patience.tolerance))
        rows = _leaders(solution.objective, problem, n_problems, keep)
        level = best_of(solution, problem, n_problems).objective[problem]
        apart = solution.objective > level + _SAME_BASIN * np.abs(level)
        agreed = np.bincount(problem[apart], minlength=n_problems) == 0
        start, problem = solution.theta[rows], problem[rows]
    return Search(best_of(minimise(fits, start, problem, patience), problem, n_problems), agreed)


def _leaders(objective: Floats, problem: Ints, n_problems: int, keep: int) -> Ints:
    """Rows of the `keep` lowest objectives of each problem, grouped by problem."""
    order = np.lexsort((objective, problem))
    first = np.searchsorted(problem[order], np.arange(n_problems))
    rank = np.arange(len(order)) - first[problem[order]]
    leaders: Ints = order[rank < keep]
    return leaders


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
        delta = fits.huber_delta[:, None]
        psi = np.clip(r, -delta, delta)
        inside = (counted * (np.abs(r) <= delta)).sum(axis=1) / n
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
    width = max(1, _LARGEST_HESSIANS // q**2)
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


class WeightedGram:
    """Many weighted Gram matrices X' diag(w_b) X of one table X (runs, columns), as a single matrix product.

    w, shape (batch, runs), -> sum_k w_bk x_k x_k', shape (batch, columns, columns).

    The products x_kj x_kl of the pairs j <= l are laid out once, as a table (runs, pairs); then w (batch, runs) times
    that table is every Gram matrix at once. Where the table would be large, one product per weighting does the same.
    """

    def __init__(self, X: Floats) -> None:
        self.X = X
        n_runs, n_columns = X.shape
        self._products: Floats | None = None
        if n_runs * n_columns * (n_columns + 1) // 2 <= _LARGEST_TABLE:
            rows, columns = np.triu_indices(n_columns)
            self._products = X[:, rows] * X[:, columns]
            self._place = np.empty((n_columns, n_columns), dtype=np.intp)
            self._place[rows, columns] = self._place[columns, rows] = np.arange(len(rows))

    def __call__(self, w: Floats) -> Floats:
        if self._products is not None:
            return np.take(w @ self._products, self._place, axis=1)
        return np.stack([(self.X.T * row) @ self.X for row in w])
