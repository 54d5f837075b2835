"""solve: the mixture for a problem, by the method that suits its law."""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError, ConvergenceError
from evermix.solvers.convex import solve_by_clarabel
from evermix.solvers.newton import solve_by_newton
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal, proposal_at
from evermix.solvers.sampling import solve_by_sampling

Floats = npt.NDArray[np.float64]
Method = Literal["auto", "clarabel", "newton", "sampling"]


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
