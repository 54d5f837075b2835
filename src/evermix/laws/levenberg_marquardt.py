"""Batched Levenberg-Marquardt: many small least-squares problems (metrics x starts) at once, in numpy.

minimise over theta: sum_k rho(r_k(theta)) + (theta - mu)' R (theta - mu) / 2, with theta >= lower, where rho is r^2/2
or Huber's function (r^2/2 up to delta, then linear), by iteratively reweighted Gauss-Newton steps
(J'WJ + R + damping diag) d = -(J'W r + R (theta - mu)); coordinates held at their bound are left out of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
# theta (batch, q), problem numbers (batch,) -> residuals (batch, K), Jacobian (batch, K, q)
Residuals = Callable[[Floats, Ints], tuple[Floats, Floats]]


@dataclass(frozen=True)
class LeastSquares:
    """The problems; `problem number` picks the data of one metric in `residuals`.

    Attributes:
        residuals: residuals and their Jacobian, for a batch of parameters.
        precision: R, shape (q, q), positive semidefinite.
        mean: mu, shape (problems, q).
        free: shape (problems, q), False holds a parameter at its start.
        lower: shape (q,), least value of each parameter, -inf for none.
        huber_delta: where Huber's function turns linear; None for plain squares.
    """

    residuals: Residuals
    precision: Floats
    mean: Floats
    free: Bools
    lower: Floats
    huber_delta: float | None = None

    def loss(self, r: Floats, theta: Floats, problem: Ints) -> Floats:
        """The objective, shape (batch,); infinite where a residual is not finite."""
        size = np.abs(r)
        delta = np.inf if self.huber_delta is None else self.huber_delta
        with np.errstate(over="ignore", invalid="ignore"):
            rho = np.where(size <= delta, 0.5 * r**2, delta * size - 0.5 * delta**2 if delta < np.inf else 0.0)
            off = theta - self.mean[problem]
            total: Floats = rho.sum(axis=1) + 0.5 * np.einsum("bq,qr,br->b", off, self.precision, off)
        return np.where(np.isfinite(total), total, np.inf)

    def weights(self, r: Floats) -> Floats:
        """W of the reweighted step: rho'(r) / r."""
        if self.huber_delta is None:
            return np.ones_like(r)
        return self.huber_delta / np.maximum(np.abs(r), self.huber_delta)


@dataclass(frozen=True)
class Solution:
    """theta (batch, q), objective (batch,), converged (batch,)."""

    theta: Floats
    objective: Floats
    converged: Bools


@dataclass
class _State:
    theta: Floats
    r: Floats
    J: Floats
    loss: Floats
    damping: Floats
    problem: Ints
    calm: Ints

    def keep(self, rows: Bools) -> _State:
        return _State(*(value[rows] for value in vars(self).values()))


def minimise(
    squares: LeastSquares, start: Floats, problem: Ints, max_iterations: int = 200, tolerance: float = 1e-9
) -> Solution:
    """Solve problem[b] from start[b], shape (batch, q), for each b at once.

    Converged means: three steps running lowered the objective by less than `tolerance` relatively, or no step
    however short lowers it.
    """
    theta, objective = start.copy(), np.full(len(start), np.inf)
    converged = np.zeros(len(start), dtype=bool)
    r, J = squares.residuals(theta, problem)
    loss = squares.loss(r, theta, problem)
    rows = np.arange(len(start))
    usable = np.isfinite(loss)
    state = _State(theta.copy(), r, J, loss, np.full(len(start), 1e-3), problem, np.zeros(len(start), dtype=np.intp))
    state, rows = state.keep(usable), rows[usable]
    for _ in range(max_iterations):
        if not len(rows):
            break
        done = _step(squares, state, tolerance)
        theta[rows], objective[rows] = state.theta, state.loss
        converged[rows[done]] = True
        if done.any():
            state, rows = state.keep(~done), rows[~done]
    return Solution(theta, objective, converged)


def _step(squares: LeastSquares, state: _State, tolerance: float) -> Bools:
    """One damped step of every problem, in place; returns which have converged.

    Damping follows the gain ratio, actual over predicted decrease: times max(1/5, 1 - (2 gain - 1)^3) (Nielsen 1999).
    """
    trial, predicted = _trial(squares, state)
    r, J = squares.residuals(trial, state.problem)
    loss = squares.loss(r, trial, state.problem)
    better = loss < state.loss
    small = state.loss - loss <= tolerance * np.maximum(state.loss, 1e-12)
    state.calm = np.where(better & small, state.calm + 1, np.where(better, 0, state.calm))
    gain = np.clip((state.loss - loss) / np.maximum(predicted, 1e-300), -1.0, 2.0)
    state.theta[better], state.r[better], state.J[better] = trial[better], r[better], J[better]
    state.loss = np.where(better, loss, state.loss)
    eased = state.damping * np.clip(1 - (2 * gain - 1) ** 3, 0.2, 2.0)
    state.damping = np.where(better, np.maximum(eased, 1e-10), state.damping * 4)
    return (state.calm >= 3) | (state.damping > 1e10) | (state.loss < 1e-26)


def _trial(squares: LeastSquares, state: _State) -> tuple[Floats, Floats]:
    """theta + d, moved back onto the bounds, and the decrease that the quadratic model predicts for d."""
    WJ = state.J * squares.weights(state.r)[:, :, None]
    off = state.theta - squares.mean[state.problem]
    gradient = np.einsum("bkq,bk->bq", WJ, state.r) + off @ squares.precision
    hessian = WJ.transpose(0, 2, 1) @ state.J + squares.precision
    held = ~squares.free[state.problem] | ((state.theta <= squares.lower) & (gradient > 0))
    gradient = np.where(held, 0.0, gradient)
    hessian = np.where(held[:, :, None] | held[:, None, :], 0.0, hessian)
    diagonal = np.einsum("bqq->bq", hessian)
    scale = np.maximum(diagonal, 1e-8 * diagonal.max(axis=1, keepdims=True) + 1e-12)
    added = state.damping[:, None] * scale
    diagonal += added + held
    step = np.linalg.solve(hessian, -gradient[:, :, None])[:, :, 0]
    # model decrease: -g.d - d'Hd/2 = (d'(damping D)d - g.d) / 2
    predicted: Floats = 0.5 * ((added * step**2).sum(axis=1) - (gradient * step).sum(axis=1))
    return np.maximum(state.theta + step, squares.lower), predicted


def best_of(solution: Solution, problem: Ints, n_problems: int) -> Solution:
    """For each problem the start that ended lowest."""
    order = np.lexsort((solution.objective, problem))
    first = order[np.searchsorted(problem[order], np.arange(n_problems))]
    return Solution(solution.theta[first], solution.objective[first], solution.converged[first])
