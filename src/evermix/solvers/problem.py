"""MixtureProblem: what a solver is asked,

minimise  sum_i v_i T_i(f_i(p)) + lambda KL(p || p0)   over the bounds,  f_i(p) <= ceiling_i.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, NoRegression
from evermix.errors import ConstraintError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.solvers.certificate import optimality_gap
from evermix.solvers.multipliers import Multipliers, fitted_multipliers

Floats = npt.NDArray[np.float64]
SMALLEST_SHARE = 1e-12  # where gradients are taken at a share of zero: infinite for the power-link law with g < 1


@dataclass(frozen=True)
class MixtureProblem:
    """One mixture to be found; its fields are never changed, so problems may share laws and bounds.

    Attributes:
        law: fitted, over the prior's domains; predicts costs in the order of objective.metrics.
        objective: what to minimise.
        bounds: box and totals of groups.
        prior: what the KL term pulls towards; its domains are those of the answer.
        kl_weight: lambda >= 0, in the objective's quantity per nat (see `scaled_kl_weight`).
        ceilings: shape (metrics,), greatest cost allowed of each metric, inf where none; None for no guards.

    Raises:
        ConstraintError: if lambda is negative, shapes do not fit, or the bounds demand, or can only be met by, mass
            where the prior has none (a domain without prior mass gets zero if lambda > 0: KL is infinite otherwise).
    """

    law: MixingLaw
    objective: Objective
    bounds: Bounds
    prior: Mixture
    kl_weight: float
    ceilings: Floats | None = None

    def __post_init__(self) -> None:
        if not (np.isfinite(self.kl_weight) and self.kl_weight >= 0):
            raise ConstraintError("the KL weight must be a number >= 0", received=self.kl_weight)
        if len(self.bounds.lower) != len(self.prior.domains):
            raise ConstraintError(
                f"bounds must be over the prior's {len(self.prior.domains)} domains", received=len(self.bounds.lower)
            )
        if self.ceilings is not None and np.shape(self.ceilings) != (len(self.objective.metrics),):
            raise ConstraintError(
                f"ceilings must be one per metric, {len(self.objective.metrics)}", received=np.shape(self.ceilings)
            )
        object.__setattr__(self, "bounds", _without_dead(self.bounds, self.prior, self.kl_weight))

    @classmethod
    def guarded(
        cls,
        law: MixingLaw,
        objective: Objective,
        bounds: Bounds,
        prior: Mixture,
        kl_weight: float,
        guard: NoRegression,
    ) -> MixtureProblem:
        """With a no-regression guard: ceilings from the law's prediction at the guard's reference mixture."""
        ceilings = guard.ceilings(law.predict(guard.reference.weights), objective.metrics)
        return cls(law, objective, bounds, prior, kl_weight, ceilings)

    def with_kl_weight(self, kl_weight: float) -> MixtureProblem:
        """The same with another lambda; only from a problem whose prior has no zeros, or between positive lambdas."""
        return replace(self, kl_weight=kl_weight)

    @cached_property
    def guards(self) -> npt.NDArray[np.int_]:
        """Positions of the metrics with a finite ceiling."""
        if self.ceilings is None:
            return np.zeros(0, dtype=np.int_)
        return np.flatnonzero(np.isfinite(self.ceilings))

    @cached_property
    def start(self) -> Floats:
        """The prior within the bounds, shape (domains,)."""
        return self.bounds.clip(np.clip(self.prior.weights, self.bounds.lower, self.bounds.upper))

    @cached_property
    def allows_one_only(self) -> bool:
        """Whether the box holds a single mixture: a domain alone, or every share fixed."""
        return bool(self.bounds.lower.sum() >= 1 - 1e-9 or self.bounds.upper.sum() <= 1 + 1e-9)

    def value(self, weights: Floats) -> float:
        """The objective without the KL term."""
        return float(self.objective.value(self.law.predict(weights)))

    def value_and_gradient(self, weights: Floats) -> tuple[float, Floats]:
        """The objective without the KL term and its gradient, shape (domains,)."""
        costs = self.law.predict(weights)
        return float(self.objective.value(costs)), self.objective.gradient(costs, self.law.gradient(weights))

    def total(self, weights: Floats) -> float:
        """Objective + lambda KL."""
        return self.value(weights) + self.kl_weight * kl_divergence(weights, self.prior.weights)

    def multipliers(self, weights: Floats) -> Multipliers:
        """Those of the sum, the groups and the guards that bind at `weights`, and the price of each share's bound."""
        weights = np.asarray(weights, dtype=np.float64)
        inner = np.maximum(weights, SMALLEST_SHARE)
        costs, slopes = self.law.predict(inner), self.law.gradient(inner)
        gradient = self.objective.gradient(costs, slopes)
        if self.kl_weight > 0:
            live = self.prior.weights > 0
            gradient[live] += self.kl_weight * (1 + np.log(inner[live] / self.prior.weights[live]))
        guards = self.guards
        ceilings = np.zeros(0) if self.ceilings is None else self.ceilings[guards]
        return fitted_multipliers(weights, gradient, self.bounds, slopes[guards], costs[guards] - ceilings)

    def gap(self, weights: Floats) -> float:
        """Upper bound of the distance of objective + lambda KL to its optimum, for a convex law.

        Groups and guards by Lagrangian duality: for mu and y >= 0, F(x) - F* <= gap over the box alone of
        F + mu . (A x - b) + y . (f - ceilings), minus those two terms at x. Valid for any multipliers, and 0 at an
        optimum for the right ones.
        """
        inner = np.maximum(weights, SMALLEST_SHARE)
        costs, slopes = self.law.predict(inner), self.law.gradient(inner)
        gradient = self.objective.gradient(costs, slopes)
        slack = 0.0
        if len(self.bounds.groups) or len(self.guards):
            solved = self.multipliers(weights)
            gradient = gradient + solved.groups @ self.bounds.group_rows + solved.guards @ slopes[self.guards]
            side = np.where(solved.groups > 0, self.bounds.group_upper, self.bounds.group_lower)
            slack = float(solved.groups @ (side - self.bounds.group_rows @ weights))
            if self.ceilings is not None:
                slack += float(solved.guards @ (self.ceilings[self.guards] - costs[self.guards]))
        gap = optimality_gap(weights, gradient, self._box, self.prior.weights, self.kl_weight)
        return max(gap + slack, 0.0)

    @cached_property
    def _box(self) -> Bounds:
        return replace(self.bounds, groups=())

    def excess(self, weights: Floats) -> float:
        """By how much the worst guard is broken, relative to its ceiling; at most 0 if none is."""
        if not len(self.guards) or self.ceilings is None:
            return 0.0
        ceilings = self.ceilings[self.guards]
        costs = self.law.predict(weights)[self.guards]
        return float(((costs - ceilings) / np.maximum(np.abs(ceilings), 1e-12)).max())


def kl_divergence(p: Floats, q: Floats) -> float:
    """KL(p || q) with zeros of q counted as 1e-300."""
    live = p > 0
    return float(np.sum(p[live] * (np.log(p[live]) - np.log(np.maximum(q[live], 1e-300)))))


def _without_dead(bounds: Bounds, prior: Mixture, kl_weight: float) -> Bounds:
    """Upper bound 0 where the prior has no mass, if KL counts."""
    dead = (prior.weights == 0) & (bounds.upper > 0)
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
    return replace(bounds, upper=upper, reasons=reasons)
