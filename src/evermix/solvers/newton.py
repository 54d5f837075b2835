"""Structured Newton solver for convex laws: a primal-dual interior-point method on diagonal-plus-low-rank Hessians.

minimise  sum_i v_i T_i(f_i(p)) + lambda KL(p || p0)   over box, simplex and groups,  f_i(p) <= ceiling_i.

A law's Hessian is diag(d_i) + s_i g_i g_i', so that of the whole is diag + G' S G: a Newton step costs
O(metrics^2 domains). Bounds that can bind have multipliers z with z * slack = mu, mu -> 0 (Mehrotra's
choice of mu); guards carry slacks f_i + s_i = ceiling_i and may start infeasible. Each step is damped until the merit
function, objective - mu sum(log slacks) + rho |f + s - ceiling|, falls. Source: Nocedal and Wright, Numerical
Optimization, chapter 19; our own code.

The answer is checked by the certificate: a gap over 1e-6 of the objective is a ConvergenceError, never an answer.

Linear algebra of the structured Newton step: H = diag(D) + C' C with few rows C, and a few equalities E dx = 0.

The step is the solution of  H dx + E' nu = r,  E dx = 0.  With fewer rows than coordinates H^-1 is applied by the
Woodbury identity, D^-1 - D^-1 C' (I + C D^-1 C')^-1 C D^-1, at O(rows^2 domains); else H is formed. One step of
iterative refinement each.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError
from evermix.solvers.problem import MixtureProblem

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]
ACCEPTED_GAP = 1e-6  # relative to the objective
_MOST_STEPS = 120
_BOUNDARY = 0.995
_CENTRING = 0.1  # least mu per broken guard
_RESIDUAL = 1e-7  # of the Lagrangian's gradient, in units of the objective's spread
_FIXED = 1e-10  # room below which a share is fixed


class StructuredHessian:
    """diag(diagonal) + rows' rows, factored.

    Args:
        diagonal: shape (k,), > 0.
        rows: shape (r, k).
    """

    def __init__(self, diagonal: Floats, rows: Floats) -> None:
        self.diagonal, self.rows = diagonal, rows
        self.dense = len(rows) >= len(diagonal)
        # scaled by D^-1/2 on both sides: I + S' S or I + S S', whatever is smaller
        self.root = np.sqrt(diagonal)
        self.scaled = rows / self.root
        small = self.scaled.T @ self.scaled if self.dense else self.scaled @ self.scaled.T
        small[np.diag_indices(len(small))] += 1.0
        self.factor = _cholesky(small)

    def solve(self, right: Floats) -> Floats:
        """H^-1 right, shape (k, columns) -> (k, columns)."""
        solution = self._apply(right)
        residual = right - self.diagonal[:, None] * solution - self.rows.T @ (self.rows @ solution)
        refined: Floats = solution + self._apply(residual)
        return refined

    def _apply(self, right: Floats) -> Floats:
        scaled = right / self.root[:, None]
        if self.dense:
            return _cholesky_solve(self.factor, scaled) / self.root[:, None]
        inner = _cholesky_solve(self.factor, self.scaled @ scaled)
        result: Floats = (scaled - self.scaled.T @ inner) / self.root[:, None]
        return result

    def solve_with_equalities(self, right: Floats, equalities: Floats) -> tuple[Floats, Floats]:
        """dx and nu of H dx + E' nu = right, E dx = 0, shapes (k, columns) and (equalities, columns)."""
        both = self.solve(np.hstack([right, equalities.T]))
        if not np.isfinite(both).all():
            raise ConvergenceError("the Newton step must be finite")
        free, pulls = both[:, : right.shape[1]], both[:, right.shape[1] :]
        nu: Floats = np.linalg.lstsq(equalities @ pulls, equalities @ free, rcond=None)[0].astype(np.float64)
        dx = free - pulls @ nu
        # the equalities to the last digit: along pulls again
        dx -= pulls @ np.linalg.lstsq(equalities @ pulls, equalities @ dx, rcond=None)[0]
        return dx, nu


def _cholesky(matrix: Floats) -> Any:
    from scipy.linalg import LinAlgError, cho_factor  # scipy takes a moment: only those who solve wait for it

    try:
        return cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise ConvergenceError("the Newton system must stay positive definite to working precision") from error


def _cholesky_solve(factor: Any, right: Floats) -> Floats:
    from scipy.linalg import cho_solve

    solution: Floats = cho_solve(factor, right, check_finite=False)
    return solution


def solve_by_newton(problem: MixtureProblem, start: Floats | None = None) -> tuple[Floats, str]:
    """The optimal shares, shape (domains,), certified, and a status.

    Args:
        start: shape (domains,), a mixture near the optimum (of a resampled or neighbouring problem); the prior if None.

    Raises:
        ConvergenceError: if no certified optimum is reached, or the law has no finite slopes and curvature somewhere;
            the caller has Clarabel then.
        ConstraintError: if the law offers no structured curvature.
    """
    method = _InteriorPoint(_Programme(problem), problem, start)
    weights = method.run()
    gap, size = problem.gap(weights), abs(problem.value(weights))
    if not (gap <= ACCEPTED_GAP * size and problem.excess(weights) <= ACCEPTED_GAP):
        raise ConvergenceError(
            f"the Newton solver must end with a certified gap of at most {ACCEPTED_GAP * size:.3g}",
            received=gap,
            hint="use the method clarabel",
        )
    return weights, "optimal"


@dataclass(frozen=True)
class _Derivatives:
    """Scaled objective + KL at x, free coordinates only; guards relative to their ceilings' size."""

    point: Floats  # (domains,): x with the fixed shares
    gradient: Floats  # (free,)
    kl_diagonal: Floats  # (free,)
    slopes: Floats  # (used, free): gradients of the used metrics
    first: Floats  # (used,): v_i T'_i
    second: Floats  # (used,): v_i T''_i
    excess: Floats  # (guards,): f_i - ceiling_i


class _Programme:
    """The problem on its free coordinates, in units of the objective's spread."""

    def __init__(self, problem: MixtureProblem) -> None:
        self.problem = problem
        bounds = problem.bounds
        self.free = np.flatnonzero(bounds.upper - bounds.lower > _FIXED)
        if len(self.free) < 2:
            raise ConvergenceError("the Newton solver needs two shares that are not fixed", received=len(self.free))
        self.base = (bounds.lower + bounds.upper) / 2
        weights = np.array(problem.objective.weights)
        self.guards = problem.guards
        self.used = np.flatnonzero((weights > 0) | np.isin(np.arange(len(weights)), self.guards))
        self.weights = weights[self.used]
        self.place = np.searchsorted(self.used, self.guards)
        ceilings = np.zeros(0) if problem.ceilings is None else problem.ceilings[self.guards]
        self.ceilings, self.sizes = ceilings, np.maximum(np.abs(ceilings), 1e-12)
        self.prior = problem.prior.weights[self.free]
        self.scale = 1.0
        self._rows(len(bounds.lower))

    def _rows(self, n_domains: int) -> None:
        """Linear inequalities rows . x <= limits and equalities, on the free coordinates."""
        bounds = self.problem.bounds
        fixed = np.ones(n_domains, dtype=bool)
        fixed[self.free] = False
        rows, offset = bounds.group_rows[:, self.free], bounds.group_rows[:, fixed] @ self.base[fixed]
        least, greatest = bounds.group_lower - offset, bounds.group_upper - offset
        touched = rows.any(axis=1)
        equal = touched & (greatest - least <= _FIXED)
        lowest, highest = rows @ bounds.lower[self.free], rows @ bounds.upper[self.free]
        below = touched & ~equal & (least > lowest)
        above = touched & ~equal & (greatest < np.minimum(highest, 1.0))
        self.inequalities = np.vstack([-rows[below], rows[above]])
        self.limits = np.concatenate([-least[below], greatest[above]])
        self.equalities = np.vstack([np.ones(len(self.free)), rows[equal]])
        self.lower, upper = bounds.lower[self.free], bounds.upper[self.free]
        room = 1 - bounds.lower.sum()
        self.capped = np.flatnonzero(upper - self.lower < room * (1 - 1e-9))  # other upper bounds follow from the sum
        self.caps = upper[self.capped]

    def full(self, x: Floats) -> Floats:
        p = self.base.copy()
        p[self.free] = x
        return p

    def value(self, x: Floats) -> tuple[float, Floats]:
        """Objective + lambda KL, scaled, and the guards' excess."""
        costs = self.problem.law.predict(self.full(x))
        total = float(self.problem.objective.value(costs))
        if self.problem.kl_weight > 0:
            total += self.problem.kl_weight * float(x @ np.log(x / self.prior))
        return total / self.scale, (costs[self.guards] - self.ceilings) / self.sizes

    def derivatives(self, x: Floats) -> _Derivatives:
        p, law, objective = self.full(x), self.problem.law, self.problem.objective
        with np.errstate(all="ignore"):  # infinite at a fixed share of zero, which is left out below
            costs, slopes = law.predict(p), law.gradient(p)
        used = self.used
        first = self.weights * objective.transform_slope(costs)[used] / self.scale
        second = self.weights * objective.curvature(costs)[used] / self.scale
        first[self.weights == 0] = second[self.weights == 0] = 0.0
        slopes = slopes[np.ix_(used, self.free)]
        gradient, kl_diagonal = first @ slopes, np.zeros(len(x))
        if self.problem.kl_weight > 0:
            gradient = gradient + self.problem.kl_weight / self.scale * (1 + np.log(x / self.prior))
            kl_diagonal = self.problem.kl_weight / self.scale / x
        excess = (costs[self.guards] - self.ceilings) / self.sizes
        _check_finite("predictions and slopes", costs[used], slopes, first, second)
        return _Derivatives(p, gradient, kl_diagonal, slopes, first, second, excess)

    def curvature(self, p: Floats, first: Floats) -> tuple[Floats, Floats]:
        """Hessian of sum_i first_i f_i over the used metrics, on the free coordinates, as diagonal and rows."""
        weights = np.zeros(len(self.problem.objective.metrics))
        weights[self.used] = first
        with np.errstate(all="ignore"):
            diagonal, rows = self.problem.law.weighted_curvature(p, weights)
        diagonal, rows = diagonal[self.free], rows[:, self.free]
        _check_finite("curvature", diagonal, rows)
        return diagonal, rows


def _check_finite(what: str, *parts: Floats) -> None:
    """ConvergenceError where the law has no number: it explodes there, or its fit went wrong."""
    for part in parts:
        wrong = part[~np.isfinite(part)]
        if len(wrong):
            raise ConvergenceError(
                f"the Newton solver needs finite {what} of the law at every mixture that it tries",
                received=float(wrong[0]),
                hint="use the method clarabel",
            )


@dataclass
class _State:
    """Iterate: shares, slacks of the guards, multipliers of lower bounds, caps, group rows and guards."""

    x: Floats
    slack: Floats
    low: Floats
    cap: Floats
    row: Floats
    guard: Floats


class _InteriorPoint:
    def __init__(self, programme: _Programme, problem: MixtureProblem, start: Floats | None) -> None:
        self.programme, self.problem = programme, problem
        p = programme
        warm = start is not None
        begin = problem.start if start is None else start
        share = 0.02 if warm else 0.2
        x = problem.bounds.feasible_start(begin, share)[p.free]
        self._check_interior(x)
        derivatives = p.derivatives(x)
        p.scale = max(float(np.ptp(derivatives.gradient)), problem.kl_weight, 1e-9)
        self.mu = (1e-3 if warm else 0.1) / len(x)
        _, excess = p.value(x)
        slack = np.maximum(-excess, 1e-2)
        none = np.zeros(0)
        low, cap, row, guard = (self.mu / gap for gap in self._gaps(_State(x, slack, none, none, none, none)))
        self.state = _State(x, slack, low, cap, row, guard)
        self.rho = 10.0
        value = abs(problem.value(p.full(x))) / p.scale
        self.tolerance = float(np.clip(1e-8 * value, 1e-12, 1e-8))

    def _check_interior(self, x: Floats) -> None:
        p = self.programme
        room = [x - p.lower, p.caps - x[p.capped], p.limits - p.inequalities @ x]
        if min(float(r.min(initial=np.inf)) for r in room) <= 1e-12:
            raise ConvergenceError("the Newton solver needs bounds with an interior")

    def _gaps(self, state: _State) -> tuple[Floats, Floats, Floats, Floats]:
        p = self.programme
        return state.x - p.lower, p.caps - state.x[p.capped], p.limits - p.inequalities @ state.x, state.slack

    def run(self) -> Floats:
        """Steps until the complementarity and the dual residual are small."""
        for _ in range(_MOST_STEPS):
            with np.errstate(all="ignore"):
                done = self._step()
            if not np.isfinite(self.state.x).all():
                raise ConvergenceError("the Newton solver's shares must be finite")
            if done:
                break
        weights = self.programme.full(self.state.x)
        return self.problem.bounds.clip(weights)

    def _step(self) -> bool:
        p, s = self.programme, self.state
        d = p.derivatives(s.x)
        gaps = self._gaps(s)
        duals = (s.low, s.cap, s.row, s.guard)
        count = sum(len(z) for z in duals)
        complementarity = sum(float(z @ g) for z, g in zip(duals, gaps, strict=True))
        mu_now = complementarity / count
        broken = d.excess + s.slack
        hessian, jacobian = self._hessian(d, gaps)
        # affine direction (mu = 0) and centring direction (coefficient of mu), solved together
        right = np.column_stack([-self._merit_gradient(d, gaps, jacobian, broken), self._push(gaps, jacobian)])
        steps, nus = hessian.solve_with_equalities(right, p.equalities)
        affine = self._direction(steps[:, 0], 0.0, gaps, jacobian, broken)
        predicted = self._complementarity_after(affine, gaps)
        sigma = float(np.clip((predicted / complementarity) ** 3, 1e-6, 0.8))
        # slacks of broken guards must not vanish before the guards hold
        mu = max(sigma * mu_now, 0.1 * self.tolerance / count, _CENTRING * float(np.abs(broken).max(initial=0.0)))
        residual = self._dual_residual(d, jacobian, nus[:, 0] + mu * nus[:, 1])
        small = complementarity <= self.tolerance and np.abs(broken).max(initial=0.0) <= 1e-9
        if small and (residual <= _RESIDUAL or self._is_certified()):
            return True
        self.mu = mu
        direction = self._direction(steps @ np.array([1.0, mu]), mu, gaps, jacobian, broken)
        return not self._move(direction, gaps, d, jacobian, broken)

    def _is_certified(self) -> bool:
        """Whether the certificate is content though rounding keeps the dual residual from vanishing."""
        weights = self.problem.bounds.clip(self.programme.full(self.state.x))
        return self.problem.gap(weights) <= 0.01 * ACCEPTED_GAP * abs(self.problem.value(weights))

    def _hessian(self, d: _Derivatives, gaps: tuple[Floats, ...]) -> tuple[StructuredHessian, Floats]:
        """diag + rows' rows of the Lagrangian with the multipliers' terms, and the guards' slopes."""
        p, s = self.programme, self.state
        first, outer = d.first.copy(), d.second.copy()
        first[p.place] += s.guard / p.sizes
        outer[p.place] += s.guard / s.slack / p.sizes**2
        bent, bends = p.curvature(d.point, first)
        diagonal = bent + d.kl_diagonal + s.low / gaps[0]
        diagonal[p.capped] += s.cap / gaps[1]
        steep = outer > 0
        rows = [bends, np.sqrt(outer[steep])[:, None] * d.slopes[steep]]
        rows.append(np.sqrt(s.row / gaps[2])[:, None] * p.inequalities)
        return StructuredHessian(diagonal, np.vstack(rows)), d.slopes[p.place] / p.sizes[:, None]

    def _merit_gradient(self, d: _Derivatives, gaps: tuple[Floats, ...], jacobian: Floats, broken: Floats) -> Floats:
        """Gradient of the objective, plus the pull of guards that are broken (the part without mu)."""
        return d.gradient + (self.state.guard / self.state.slack * broken) @ jacobian

    def _push(self, gaps: tuple[Floats, ...], jacobian: Floats) -> Floats:
        """Minus the gradient of -sum(log slacks), the coefficient of mu."""
        p = self.programme
        push = 1 / gaps[0]
        push[p.capped] -= 1 / gaps[1]
        return push - (1 / gaps[2]) @ p.inequalities - (1 / gaps[3]) @ jacobian

    def _direction(
        self, dx: Floats, mu: float, gaps: tuple[Floats, ...], jacobian: Floats, broken: Floats
    ) -> tuple[_State, tuple[Floats, ...]]:
        """The step of every part of the state, and of every slack."""
        p, s = self.programme, self.state
        slack = -broken - jacobian @ dx
        changes = (dx, -dx[p.capped], -(p.inequalities @ dx), slack)
        duals = [
            mu / gap - z - z / gap * change
            for z, gap, change in zip((s.low, s.cap, s.row, s.guard), gaps, changes, strict=True)
        ]
        return _State(dx, slack, *duals), changes

    def _lengths(self, direction: tuple[_State, tuple[Floats, ...]], gaps: tuple[Floats, ...]) -> tuple[float, float]:
        """Greatest primal and dual steps that stay inside."""
        change, changes = direction
        s = self.state
        primal = min(_ratio(g, c) for g, c in zip(gaps, changes, strict=True))
        pairs = ((s.low, change.low), (s.cap, change.cap), (s.row, change.row), (s.guard, change.guard))
        dual = min(_ratio(z, c) for z, c in pairs)
        return min(1.0, _BOUNDARY * primal), min(1.0, _BOUNDARY * dual)

    def _complementarity_after(self, direction: tuple[_State, tuple[Floats, ...]], gaps: tuple[Floats, ...]) -> float:
        primal, dual = self._lengths(direction, gaps)
        s, (change, changes) = self.state, direction
        duals = ((s.low, change.low), (s.cap, change.cap), (s.row, change.row), (s.guard, change.guard))
        return sum(
            float((z + dual * dz) @ (g + primal * dg)) for (z, dz), g, dg in zip(duals, gaps, changes, strict=True)
        )

    def _dual_residual(self, d: _Derivatives, jacobian: Floats, nu: Floats) -> float:
        """Greatest component of the Lagrangian's gradient."""
        p, s = self.programme, self.state
        residual = d.gradient - s.low + nu @ p.equalities + s.row @ p.inequalities + s.guard @ jacobian
        residual[p.capped] += s.cap
        return float(np.abs(residual).max())

    def _merit(self, state: _State) -> float:
        value, excess = self.programme.value(state.x)
        gaps = self._gaps(state)
        if min(float(g.min(initial=np.inf)) for g in gaps) <= 0 or not np.isfinite(value):
            return float("inf")
        barrier = sum(float(np.log(g).sum()) for g in gaps)
        return value - self.mu * barrier + self.rho * float(np.abs(excess + state.slack).sum())

    def _move(
        self,
        direction: tuple[_State, tuple[Floats, ...]],
        gaps: tuple[Floats, ...],
        d: _Derivatives,
        jacobian: Floats,
        broken: Floats,
    ) -> bool:
        """Damped step; False if no step lowers the merit function: the last digits are reached."""
        change, _ = direction
        s = self.state
        primal, dual = self._lengths(direction, gaps)
        self.rho = max(self.rho, 2 * float((s.guard + change.guard).max(initial=0.0)))
        slope = float(d.gradient @ change.x - self.mu * (self._push_without_guards(gaps) @ change.x))
        slope += float(-self.mu * (change.slack / s.slack).sum()) - self.rho * float(np.abs(broken).sum())
        before = self._merit(s)
        noise = 1e-12 * (abs(before) + 1)
        step = primal
        for _ in range(40):
            moved = _State(s.x + step * change.x, s.slack + step * change.slack, s.low, s.cap, s.row, s.guard)
            if self._merit(moved) <= before + 1e-4 * step * min(slope, 0.0) + noise:
                break
            step /= 2
        else:
            return False
        _, excess = self.programme.value(moved.x)
        self.state = _State(
            moved.x,
            np.maximum(moved.slack, -excess),
            s.low + dual * change.low,
            s.cap + dual * change.cap,
            s.row + dual * change.row,
            s.guard + dual * change.guard,
        )
        return True

    def _push_without_guards(self, gaps: tuple[Floats, ...]) -> Floats:
        p = self.programme
        push = 1 / gaps[0]
        push[p.capped] -= 1 / gaps[1]
        return push - (1 / gaps[2]) @ p.inequalities


def _ratio(gap: Floats, change: Floats) -> float:
    """Greatest step a with gap + a change >= 0."""
    falling = change < 0
    return float((-gap[falling] / change[falling]).min(initial=np.inf))
