"""solve: the mixture for a problem, by the method that suits its law.

Worst-case mixtures for convex laws: minimise the largest of several convex pieces, plus lambda KL.

minimise  t + lambda KL(p || p0)   over the bounds,  piece_b(p) <= t for all b.

Solved by cutting sets: Clarabel on the pieces that matter so far, then the piece that is worst at the answer joins,
until none is above t. Few pieces matter, so hundreds (bootstrap laws) cost little more than a few.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError, ConvergenceError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.solvers.convex import bound_rows, feasible, objective_terms, run_clarabel, solve_by_clarabel
from evermix.solvers.newton import solve_by_newton
from evermix.solvers.problem import MixtureProblem, kl_divergence
from evermix.solvers.proposal import Proposal, proposal_at
from evermix.solvers.search import solve_by_sampling

Floats = npt.NDArray[np.float64]
Method = Literal["auto", "clarabel", "newton", "sampling"]
_ROUNDS = 60
_CLOSE = 1e-6


def solve(problem: MixtureProblem, method: Method = "auto", start: Floats | None = None, seed: int = 0) -> Proposal:
    """The optimal mixture; for a convex law certified (`gap`), and unique when lambda > 0.

    Args:
        method: "clarabel" and "newton" need a convex law, "sampling" any; "auto" takes newton where the law is convex
            and has a structured curvature, and clarabel where that fails or ends without a certificate.
        start: a mixture to start from, shape (domains,), for newton; (domains,) or (starts, domains) for sampling,
            such as the best observed runs. The prior if None.
        seed: of the sampling search.

    Raises:
        ConstraintError: if the law is not convex but the method needs it, or the guards cannot be met.
        ConvergenceError: if no certified optimum is found.
    """
    if method in ("clarabel", "newton") and not problem.law.is_convex:
        raise ConstraintError("the convex solver needs a convex law", received=type(problem.law).__name__)
    if problem.allows_one_only:  # no interior to search
        if problem.excess(problem.start) > 1e-9:
            raise ConstraintError(
                "the bounds allow one mixture only, and it breaks a no-regression guard by "
                f"{100 * problem.excess(problem.start):.3g}%",
                hint="raise the tolerance or relax the bounds",
            )
        return proposal_at(problem, problem.start, "optimal", method if method != "auto" else "clarabel")
    if method == "sampling" or not problem.law.is_convex:
        return proposal_at(problem, *solve_by_sampling(problem, start, seed), "sampling")
    start = None if start is None else np.atleast_2d(start)[0]
    if method == "newton":
        return proposal_at(problem, *solve_by_newton(problem, start), "newton")
    if method == "auto" and has_curvature(problem):
        try:
            return proposal_at(problem, *solve_by_newton(problem, start), "newton")
        except ConvergenceError:  # no interior, guards that cannot be met, or a gap: the reference judges
            pass
    return proposal_at(problem, *solve_by_clarabel(problem), "clarabel")


def has_curvature(problem: MixtureProblem) -> bool:
    """Whether the law offers second derivatives as diagonal plus rank one."""
    try:
        with np.errstate(all="ignore"):
            problem.law.weighted_curvature(problem.start, np.array(problem.objective.weights))
    except ConstraintError:
        return False
    return True


@dataclass(frozen=True)
class WorstCase:
    """The mixture whose worst piece is least bad.

    Attributes:
        proposal: as for the problem's own law and objective; its gap is that of the worst case.
        worst: the largest piece at it: a relative change of a metric, or the objective under the least kind law.
        binding: the pieces at that level: names of metrics, or positions of laws.
    """

    proposal: Proposal
    worst: float
    binding: tuple[str, ...]


@dataclass(frozen=True)
class _Pieces:
    names: tuple[str, ...]
    values: Callable[[Floats], Floats]  # shares -> (pieces,)
    expression: Callable[[int, Any], Any]  # piece, cvxpy variable -> expression
    scale: float


def least_worst_change(problem: MixtureProblem, reference: Mixture) -> WorstCase:
    """Minimise the largest relative change of a metric's cost against `reference`, over metrics of positive weight.

    At lambda 0 the worst change is never above 0, that of the reference itself (if it obeys the bounds).

    Raises:
        ConstraintError: if the law is not convex, or there are guards.
        ConvergenceError: if the solver does not reach an optimum.
    """
    counted = np.flatnonzero(np.array(problem.objective.weights) > 0)
    base = problem.law.predict(reference.weights)
    names = tuple(problem.objective.metrics[i] for i in counted)

    def values(p: Floats) -> Floats:
        changes: Floats = problem.law.predict(p)[counted] / base[counted] - 1
        return changes

    def expression(k: int, variable: Any) -> Any:
        return problem.law.expressions(variable)[counted[k]] / base[counted[k]] - 1

    return _solve(problem, _Pieces(names, values, expression, 0.01))


def least_worst_law(problem: MixtureProblem, laws: Sequence[MixingLaw]) -> WorstCase:
    """Minimise the largest objective under any of several laws, for instance those of a bootstrap.

    Raises:
        as `least_worst_change`; ConstraintError too if there are no laws.
    """
    if not laws:
        raise ConstraintError("a worst case needs at least one law", received=0)
    problems = [replace(problem, law=law) for law in laws]

    def values(p: Floats) -> Floats:
        return np.array([each.value(p) for each in problems])

    def expression(k: int, variable: Any) -> Any:
        import cvxpy as cp

        losses = problems[k].law.predict(problem.start)
        return cp.sum(cp.hstack(objective_terms(problems[k], problems[k].law.expressions(variable), losses, 1.0)))

    spread = float(np.ptp(problem.value_and_gradient(np.maximum(problem.start, 1e-6))[1]))
    return _solve(problem, _Pieces(tuple(str(k) for k in range(len(laws))), values, expression, max(spread, 1e-9)))


def _solve(problem: MixtureProblem, pieces: _Pieces) -> WorstCase:
    if not problem.law.is_convex:
        raise ConstraintError("a worst-case mixture needs a convex law", received=type(problem.law).__name__)
    if len(problem.guards):
        raise ConstraintError("a worst-case mixture takes no guards", hint="leave the ceilings out")
    weights = problem.start
    active = [int(pieces.values(weights).argmax())]
    lower = -np.inf
    for _ in range(_ROUNDS):
        weights, lower = _epigraph(problem, pieces, active)
        values = pieces.values(weights)
        if values.max() <= lower + _CLOSE * pieces.scale:
            break
        worst = [int(k) for k in np.argsort(-values)[:2] if values[k] > lower + _CLOSE * pieces.scale]
        added = [k for k in worst if k not in active]
        if not added:
            break
        active += added
    pull = problem.kl_weight * kl_divergence(weights, problem.prior.weights)
    worst_value = float(pieces.values(weights).max())
    binding = np.flatnonzero(pieces.values(weights) >= worst_value - 1e-3 * pieces.scale)
    proposal = proposal_at(problem, weights, "optimal", "clarabel")
    gap = max(worst_value - lower, 0.0)
    proposal = replace(proposal, gap=gap, duals=())
    if not np.isfinite(pull) or gap > 1e-3 * pieces.scale:
        raise ConvergenceError("the worst case must be solved to a thousandth of its scale", received=gap)
    return WorstCase(proposal, worst_value, tuple(pieces.names[k] for k in binding))


def _epigraph(problem: MixtureProblem, pieces: _Pieces, active: list[int]) -> tuple[Floats, float]:
    """The optimum over the active pieces, and its t."""
    import cvxpy as cp

    prior = problem.prior.weights
    variable, top = cp.Variable(len(prior), nonneg=True), cp.Variable()
    rows = bound_rows(variable, problem.bounds)
    rows += [pieces.expression(k, variable) / pieces.scale <= top for k in active]
    total = top
    if problem.kl_weight > 0:
        support = prior > 0
        total = total + problem.kl_weight / pieces.scale * cp.sum(cp.kl_div(variable[support], prior[support]))
    status = run_clarabel(cp.Problem(cp.Minimize(total), rows))
    if status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE) or variable.value is None:
        raise ConvergenceError("the worst-case solver must reach an optimum", received=status)
    return feasible(np.asarray(variable.value), problem.bounds), float(top.value) * pieces.scale
