"""Exact solver for convex laws (METHODS 1.4), with cvxpy and Clarabel:

minimise  sum_i v_i T_i(f_i(p)) + lambda KL(p || p0)   over the simplex,  lower <= p <= upper.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.errors import ConstraintError, ConvergenceError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.solvers.certificate import optimality_gap
from evermix.solvers.mirror import mirror_descent
from evermix.solvers.proposal import Proposal, binding_bounds

Floats = npt.NDArray[np.float64]
_REFINING_EVALUATIONS = 300
_ACCEPTED_GAP = 1e-5  # relative to the objective


@dataclass(frozen=True)
class _Programme:
    law: MixingLaw
    objective: Objective
    bounds: Bounds
    prior: Mixture
    kl_weight: float

    def value_and_gradient(self, weights: Floats) -> tuple[float, Floats]:
        """The objective without the KL term; the cross-check's black box."""
        losses = self.law.predict(weights)
        return float(self.objective.value(losses)), self.objective.gradient(losses, self.law.gradient(weights))

    def gap(self, weights: Floats) -> float:
        """Upper bound of the distance to the optimum."""
        _, gradient = self.value_and_gradient(np.maximum(weights, 1e-12))
        return optimality_gap(weights, gradient, self.bounds, self.prior.weights, self.kl_weight)


def solve(law: MixingLaw, objective: Objective, bounds: Bounds, prior: Mixture, kl_weight: float) -> Proposal:
    """The optimal mixture; unique when kl_weight > 0.

    If kl_weight > 0, a domain of zero prior mass gets zero: KL(p || p0) is infinite otherwise.

    Args:
        law: fitted, convex, over the prior's domains; predicts losses in nats in the order of objective.metrics.
        objective: what to minimise; the transform may be any that Objective offers.
        bounds: the box.
        kl_weight: lambda >= 0, in the objective's quantity per nat (see `scaled_kl_weight`).

    Raises:
        ConstraintError: if the law is not convex, lambda is negative, or the bounds demand, or can only be met by,
            mass where the prior has none.
        ConvergenceError: if the solver fails, or ends inaccurately with a certified gap over 1e-5 of the objective,
            even after refinement by mirror descent.
    """
    if not law.is_convex:
        raise ConstraintError("the convex solver needs a convex law", received=type(law).__name__)
    if not (np.isfinite(kl_weight) and kl_weight >= 0):
        raise ConstraintError("the KL weight must be a number >= 0", received=kl_weight)
    programme = _Programme(law, objective, _without_dead(bounds, prior, kl_weight), prior, kl_weight)
    if _allows_one_only(programme.bounds):  # a domain alone, or every share fixed: no interior to search
        only = programme.bounds.clip(np.clip(prior.weights, programme.bounds.lower, programme.bounds.upper))
        return _proposal(programme, only, "optimal")
    weights, status = _interior_point(programme)
    if status != "optimal":
        weights, status = _refined(programme, weights)
    return _proposal(programme, weights, status)


def _interior_point(programme: _Programme) -> tuple[Floats, str]:
    """Clarabel's answer and status; where it fails for numerical reasons, the prior within the bounds as a start."""
    import cvxpy as cp  # takes a second: only those who solve wait for it

    variable, problem = _problem(programme)
    with warnings.catch_warnings():  # cvxpy warns of an inaccurate optimum; the status says so
        warnings.filterwarnings("ignore", "Solution may be inaccurate", UserWarning)
        try:
            problem.solve(solver=cp.CLARABEL)
        except cp.error.SolverError:
            return programme.bounds.clip(programme.prior.weights), "solver failed"
    status = str(problem.status)
    if variable.value is None or status not in (cp.OPTIMAL, cp.OPTIMAL_INACCURATE):
        raise ConvergenceError("the convex solver must reach an optimum", received=status)
    return _feasible(np.asarray(variable.value, dtype=np.float64), programme.bounds), status


def _problem(programme: _Programme) -> tuple[Any, Any]:
    """Variable and cvxpy problem; the objective is divided by its spread at the prior, for conditioning."""
    import cvxpy as cp

    prior, bounds = programme.prior.weights, programme.bounds
    variable = cp.Variable(len(prior), nonneg=True)
    reference = bounds.clip(np.maximum(prior, 1e-6))
    losses = programme.law.predict(reference)
    weights = np.array(programme.objective.weights)
    slopes = np.where(weights > 0, weights * programme.objective.transform_slope(losses), 0.0)
    _, gradient = programme.value_and_gradient(reference)
    scale = max(float(np.ptp(gradient)), programme.kl_weight, 1e-9)
    terms = []
    for f, loss, slope in zip(programme.law.expressions(variable), losses, slopes, strict=True):
        if slope > 0:
            # exp(f) = exp(loss) exp(f - loss): the exponent stays near zero
            terms.append(slope / scale * (cp.exp(f - loss) if _is_perplexity(programme) else f))
    total = cp.sum(cp.hstack(terms))
    live = prior > 0
    if programme.kl_weight > 0:
        total += programme.kl_weight / scale * cp.sum(cp.kl_div(variable[live], prior[live]))
    box = [variable >= bounds.lower, variable <= bounds.upper, cp.sum(variable) == 1]
    return variable, cp.Problem(cp.Minimize(total), box)


def _is_perplexity(programme: _Programme) -> bool:
    return programme.objective.quantity == "perplexity"


def _without_dead(bounds: Bounds, prior: Mixture, kl_weight: float) -> Bounds:
    """Upper bound 0 where the prior has no mass, if KL counts."""
    dead = prior.weights == 0
    if kl_weight == 0 or not dead.any():
        return bounds
    for name, lower in zip(np.array(prior.domains.names)[dead], bounds.lower[dead], strict=True):
        if lower > 0:
            raise ConstraintError(
                f"domain '{name}' has no prior mass, so with a KL weight it must have no floor",
                received=float(lower),
                hint="give it mass in the prior, or set the KL weight to 0",
            )
    upper = np.where(dead, 0.0, bounds.upper)
    if upper.sum() < 1 - 1e-9:
        raise ConstraintError(
            "caps must leave room for a sum of 1 on the domains with prior mass",
            received=float(upper.sum()),
            hint="give more domains mass in the prior, or set the KL weight to 0",
        )
    reasons = tuple("prior" if d else reason for d, reason in zip(dead, bounds.reasons, strict=True))
    return Bounds(bounds.lower, upper, reasons)


def _allows_one_only(bounds: Bounds) -> bool:
    return bool(bounds.lower.sum() >= 1 - 1e-9 or bounds.upper.sum() <= 1 + 1e-9)


def _feasible(weights: Floats, bounds: Bounds) -> Floats:
    """The interior-point answer, moved by its last digits onto the box and the simplex."""
    return bounds.clip(np.clip(weights, bounds.lower, bounds.upper))


def _refined(programme: _Programme, weights: Floats) -> tuple[Floats, str]:
    """An answer that is not optimal, or its refinement by mirror descent: whichever first has a certified small gap."""
    accepted = _ACCEPTED_GAP * abs(programme.value_and_gradient(np.maximum(weights, 1e-12))[0])
    gap = programme.gap(weights)
    if gap <= accepted:
        return weights, "optimal, by certificate"
    refined = mirror_descent(
        programme.value_and_gradient,
        np.maximum(weights, 1e-9),
        programme.bounds,
        programme.prior.weights,
        programme.kl_weight,
        _REFINING_EVALUATIONS,
    ).weights
    refined_gap = programme.gap(refined)
    if refined_gap <= accepted:
        return refined, "optimal, refined and certified"
    raise ConvergenceError(
        f"an inaccurate answer of the convex solver must have a certified gap of at most {accepted:.3g}",
        received=min(gap, refined_gap),
        hint="raise the KL weight or the floors",
    )


def _proposal(programme: _Programme, weights: Floats, status: str) -> Proposal:
    mixture = Mixture(programme.prior.domains, weights)
    predicted = programme.law.predict(mixture.weights)
    return Proposal(
        mixture=mixture,
        predicted=tuple(float(x) for x in predicted),
        objective_value=float(programme.objective.value(predicted)),
        kl_nats=mixture.kl(programme.prior),
        kl_weight=float(programme.kl_weight),
        binding=binding_bounds(mixture, programme.bounds),
        status=status,
        solver="convex",
        gap=programme.gap(weights),
    )
