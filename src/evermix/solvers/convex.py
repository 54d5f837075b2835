"""Exact solver for convex laws (METHODS 1.4), with cvxpy and Clarabel: the reference for all others."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.errors import ConstraintError, ConvergenceError
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.search import mirror_descent

Floats = npt.NDArray[np.float64]
_REFINING_EVALUATIONS = 300
_ACCEPTED_GAP = 1e-5  # relative to the objective


def solve_by_clarabel(problem: MixtureProblem) -> tuple[Floats, str]:
    """The optimal shares, shape (domains,), and a status; unique when lambda > 0.

    Raises:
        ConstraintError: if no mixture within the bounds meets the guards; the message says what tolerance would do.
        ConvergenceError: if the solver fails, or ends inaccurately with a certified gap over 1e-5 of the objective,
            even after refinement by mirror descent.
    """
    weights, status = _interior_point(problem)
    if status == "optimal" and problem.gap(weights) <= _ACCEPTED_GAP * abs(problem.value(np.maximum(weights, 1e-12))):
        return weights, status
    # "optimal" is not always: a share fixed at zero under a power cone can leave it a thousandth off
    return _refined(problem, weights)


def _interior_point(problem: MixtureProblem) -> tuple[Floats, str]:
    """Clarabel's answer and status; where it fails for numerical reasons, the prior within the bounds as a start."""
    import cvxpy as cp  # takes a second: only those who solve wait for it

    variable, programme = cvxpy_programme(problem)
    status = run_clarabel(programme)
    if status in (cp.INFEASIBLE, cp.INFEASIBLE_INACCURATE) and len(problem.guards):
        raise unmet_guards(problem)
    if status == "solver failed":
        return problem.start, status
    if variable.value is None or status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise ConvergenceError("the convex solver must reach an optimum", received=status)
    return feasible(np.asarray(variable.value, dtype=np.float64), problem.bounds), status


def run_clarabel(programme: Any) -> str:
    """Solve a cvxpy problem; its status, or "solver failed" for numerical reasons."""
    import cvxpy as cp

    with warnings.catch_warnings():  # cvxpy warns of an inaccurate optimum; the status says so
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        try:
            programme.solve(solver=cp.CLARABEL)
        except cp.error.SolverError:
            return "solver failed"
    return str(programme.status)


def cvxpy_programme(problem: MixtureProblem) -> tuple[Any, Any]:
    """Variable and cvxpy problem; the objective is divided by its spread at the prior, for conditioning."""
    import cvxpy as cp

    prior = problem.prior.weights
    variable = cp.Variable(len(prior), nonneg=True)
    reference = problem.bounds.clip(np.maximum(prior, 1e-6))
    losses = problem.law.predict(reference)
    _, gradient = problem.value_and_gradient(reference)
    scale = max(float(np.ptp(gradient)), problem.kl_weight, 1e-9)
    expressions = problem.law.expressions(variable)
    total = cp.sum(cp.hstack(objective_terms(problem, expressions, losses, scale)))
    support = prior > 0
    if problem.kl_weight > 0:
        total += problem.kl_weight / scale * cp.sum(cp.kl_div(variable[support], prior[support]))
    rows = [*bound_rows(variable, problem.bounds), *_guard_rows(problem, expressions)]
    return variable, cp.Problem(cp.Minimize(total), rows)


def objective_terms(problem: MixtureProblem, expressions: list[Any], losses: Floats, scale: float) -> list[Any]:
    """v_i T_i(f_i) / scale as cvxpy expressions, those of weight zero left out; exp(f) around f = losses_i."""
    import cvxpy as cp

    weights = np.array(problem.objective.weights)
    slopes = np.where(weights > 0, weights * problem.objective.transform_slope(losses), 0.0)
    perplexity = problem.objective.quantity == "perplexity"
    # exp(f) = exp(loss) exp(f - loss): the exponent stays near zero
    return [
        slope / scale * (cp.exp(f - loss) if perplexity else f)
        for f, loss, slope in zip(expressions, losses, slopes, strict=True)
        if slope > 0
    ]


def bound_rows(variable: Any, bounds: Bounds) -> list[Any]:
    """The bounds as cvxpy constraints."""
    import cvxpy as cp

    rows = [variable >= bounds.lower, variable <= bounds.upper, cp.sum(variable) == 1]
    if bounds.groups:
        totals = bounds.group_rows @ variable
        rows += [totals >= bounds.group_lower, totals <= bounds.group_upper]
    return rows


def _guard_rows(problem: MixtureProblem, expressions: list[Any]) -> list[Any]:
    if problem.ceilings is None:
        return []
    return [expressions[i] / _size(c) <= c / _size(c) for i, c in _guarded(problem)]


def _guarded(problem: MixtureProblem) -> list[tuple[int, float]]:
    ceilings = problem.ceilings
    return [] if ceilings is None else [(int(i), float(ceilings[i])) for i in problem.guards]


def _size(ceiling: float) -> float:
    return max(abs(ceiling), 1e-12)


def unmet_guards(problem: MixtureProblem) -> ConstraintError:
    """The error for guards that no mixture meets: min t such that f_i(p) <= (1 + t) ceiling_i, and where t binds."""
    import cvxpy as cp

    variable, excess = cp.Variable(len(problem.prior.domains), nonneg=True), cp.Variable()
    expressions = problem.law.expressions(variable)
    rows = [expressions[i] / _size(c) - c / _size(c) <= excess for i, c in _guarded(problem)]
    programme = cp.Problem(cp.Minimize(excess), [*bound_rows(variable, problem.bounds), *rows])
    run_clarabel(programme)
    if excess.value is None or variable.value is None:
        return ConstraintError(
            "no mixture within the bounds meets the no-regression guards", hint="raise the tolerance"
        )
    least = float(excess.value)
    costs = problem.law.predict(feasible(np.asarray(variable.value), problem.bounds))
    tight = [i for i, c in _guarded(problem) if (costs[i] - c) / _size(c) > least - 1e-4 * (1 + abs(least))]
    names = [problem.objective.metrics[i] for i in tight]
    listed = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    ceilings = dict(_guarded(problem))
    amount = max(least * _size(ceilings[i]) for i in tight) if tight else least
    return ConstraintError(
        f"no mixture within the bounds keeps every guarded metric below its ceiling: at best {listed} would be "
        f"{100 * least:.3g}% (up to {amount:.4g} in the metric's unit) above",
        hint=f"raise the tolerance by {101 * least + 1e-4:.3g}% of the cost, guard fewer metrics or relax bounds",
    )


def feasible(weights: Floats, bounds: Bounds) -> Floats:
    """The interior-point answer, moved by its last digits onto the bounds."""
    return bounds.clip(np.clip(weights, bounds.lower, bounds.upper))


def _refined(problem: MixtureProblem, weights: Floats) -> tuple[Floats, str]:
    """An answer that is not optimal, or its refinement by mirror descent: whichever first has a certified small gap."""
    accepted = _ACCEPTED_GAP * abs(problem.value(np.maximum(weights, 1e-12)))
    gap = problem.gap(weights)
    if gap <= accepted and problem.excess(weights) <= 1e-6:
        return weights, "optimal, by certificate"
    refined_gap = float("inf")
    if not len(problem.guards):
        refined = mirror_descent(
            problem.value_and_gradient,
            np.maximum(weights, 1e-9),
            problem.bounds,
            problem.prior.weights,
            problem.kl_weight,
            _REFINING_EVALUATIONS,
        ).weights
        refined_gap = problem.gap(refined)
        if refined_gap <= accepted:
            return refined, "optimal, refined and certified"
    raise ConvergenceError(
        f"an inaccurate answer of the convex solver must have a certified gap of at most {accepted:.3g}",
        received=min(gap, refined_gap),
        hint="raise the KL weight or the floors",
    )
