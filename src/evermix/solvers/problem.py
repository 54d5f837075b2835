"""MixtureProblem: what a solver is asked,

minimise  sum_i v_i T_i(f_i(p)) + lambda KL(p || p0)   over the bounds,  f_i(p) <= ceiling_i.

Certificate of optimality for a convex objective plus KL: how far above the optimum a mixture can be at most.

For convex F(x) = h(x) + lambda KL(x || p0), the linearisation of h at x bounds F from below, so
F(x) - F* <= max_q <grad h(x), x - q> + lambda (KL(x || p0) - KL(q || p0)), over the bounds. The best q is the KL
projection of p0 exp(-grad h / lambda) onto them.

Multipliers at an optimum, from its stationarity conditions alone, whichever solver found it.

grad F_j + nu + sum_g mu_g A_gj + sum_i y_i d f_i / d p_j = r_j,  where r_j = 0 for shares strictly between their
bounds, >= 0 at a lower bound, <= 0 at an upper one. nu, mu of groups at a bound (<= 0 at the least total, >= 0 at the
greatest) and y >= 0 of guards that bind are the least squares solution of the free rows; r_j is then the price of the
bound of j.
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

Floats = npt.NDArray[np.float64]
SMALLEST_SHARE = 1e-12  # where gradients are taken at a share of zero: infinite for the power-link law with g < 1
_TOUCHING = 1e-6
_BINDING_GUARD = 1e-5
_SMALLEST_WEIGHT = 1e-9  # of KL, relative to the gradient's range: makes the linear case smooth


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
        object.__setattr__(self, "bounds", _within_prior(self.bounds, self.prior, self.kl_weight))

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
            support = self.prior.weights > 0
            gradient[support] += self.kl_weight * (1 + np.log(inner[support] / self.prior.weights[support]))
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
    support = p > 0
    return float(np.sum(p[support] * (np.log(p[support]) - np.log(np.maximum(q[support], 1e-300)))))


def _within_prior(bounds: Bounds, prior: Mixture, kl_weight: float) -> Bounds:
    """Upper bound 0 where the prior has no mass, if KL counts."""
    without_prior = (prior.weights == 0) & (bounds.upper > 0)
    if kl_weight == 0 or not without_prior.any():
        return bounds
    for name, lower in zip(np.array(prior.domains.names)[without_prior], bounds.lower[without_prior], strict=True):
        if lower > 0:
            raise ConstraintError(
                f"domain '{name}' has no prior mass, so with a KL weight it must have no floor",
                received=float(lower),
                hint="give it mass in the prior, or set the KL weight to 0",
            )
    upper = np.where(without_prior, 0.0, bounds.upper)
    if upper.sum() < 1 - 1e-9:
        raise ConstraintError(
            "caps must leave room for a sum of 1 on the domains with prior mass",
            received=float(upper.sum()),
            hint="give more domains mass in the prior, or set the KL weight to 0",
        )
    reasons = tuple("prior" if d else reason for d, reason in zip(without_prior, bounds.reasons, strict=True))
    return replace(bounds, upper=upper, reasons=reasons)


@dataclass(frozen=True)
class Multipliers:
    """Solution of the stationarity conditions.

    Attributes:
        total: nu, of the sum to one.
        groups: (groups,), mu; 0 where the total is inside its bounds.
        guards: (guards,), y >= 0; 0 where the guard does not bind.
        reduced: (domains,), r, d optimum / d bound of each share that is at one.
    """

    total: float
    groups: Floats
    guards: Floats
    reduced: Floats


def fitted_multipliers(x: Floats, gradient: Floats, bounds: Bounds, slopes: Floats, excess: Floats) -> Multipliers:
    """The multipliers at x.

    Args:
        x, gradient: shape (domains,); gradient of objective + lambda KL.
        slopes: shape (guards, domains), gradients of the guarded costs.
        excess: shape (guards,), cost minus ceiling; a guard binds where it is nearly 0 or above.
    """
    totals = bounds.group_rows @ x
    at_least = totals <= bounds.group_lower + _TOUCHING
    at_greatest = (totals >= bounds.group_upper - _TOUCHING) & (bounds.group_upper < 1)
    scale = np.maximum(np.abs(excess), np.abs(slopes @ x)) if len(excess) else np.zeros(0)
    binding = excess >= -_BINDING_GUARD * np.maximum(scale, 1e-12)
    free = _free(x, bounds)
    rows = [np.ones(len(x))]
    signs: list[float] = [0.0]
    places: list[tuple[str, int]] = [("total", 0)]
    for g in np.flatnonzero((at_least & (bounds.group_lower > 0)) | at_greatest):
        rows.append(bounds.group_rows[g])
        signs.append(0.0 if at_least[g] and at_greatest[g] else (-1.0 if at_least[g] else 1.0))
        places.append(("group", int(g)))
    for i in np.flatnonzero(binding):
        rows.append(slopes[i])
        signs.append(1.0)
        places.append(("guard", int(i)))
    matrix, sign = np.array(rows), np.array(signs)
    solution = _signed_least_squares(matrix[:, free], -gradient[free], np.sqrt(x[free]), sign)
    if not free.any():
        solution[0] = _at_a_vertex(x, gradient, bounds)
    groups, guards = np.zeros(len(bounds.groups)), np.zeros(len(excess))
    for (kind, k), value in zip(places, solution, strict=True):
        if kind == "group":
            groups[k] = value
        elif kind == "guard":
            guards[k] = value
    return Multipliers(float(solution[0]), groups, guards, gradient + solution @ matrix)


def _free(x: Floats, bounds: Bounds) -> npt.NDArray[np.bool_]:
    """Strictly between the bounds, by 1e-6, or by less where the room or the share is small."""
    margin = np.minimum(_TOUCHING, 1e-3 * (bounds.upper - bounds.lower))
    result: npt.NDArray[np.bool_] = (x > bounds.lower + margin) & (x < bounds.upper - margin)
    return result & (bounds.upper > bounds.lower)


def _signed_least_squares(matrix: Floats, right: Floats, weights: Floats, sign: Floats) -> Floats:
    """min |(z @ matrix - right) weights| with z_k >= 0 (sign 1), <= 0 (sign -1) or free (sign 0), shape (rows,)."""
    if matrix.shape[1] == 0:
        return np.zeros(len(matrix))
    weighted, target = (matrix * weights).T, right * weights
    norms = np.maximum(np.linalg.norm(weighted, axis=0), 1e-300)
    if (sign == 0).all():
        solution: Floats = np.linalg.lstsq(weighted / norms, target, rcond=None)[0] / norms
        return solution
    from scipy import optimize  # only where groups or guards bind

    free = sign == 0
    turned = weighted / norms * np.where(free, 1.0, sign)
    solved, _ = optimize.nnls(np.hstack([turned, -turned[:, free]]), target)
    result = solved[: len(sign)] * np.where(free, 1.0, sign)
    result[free] -= solved[len(sign) :]
    return np.asarray(result / norms, dtype=np.float64)


def _at_a_vertex(x: Floats, gradient: Floats, bounds: Bounds) -> float:
    """nu where no share is free: the one that prices the relaxation of a cap, else of a floor.

    A raised cap takes mass from the share at a cap that needs it least.
    """
    room = bounds.upper - bounds.lower > 1e-9
    capped = room & (x >= bounds.upper - _TOUCHING)
    floored = room & ~capped
    if capped.any():
        return float((-gradient[capped]).min())
    if floored.any():
        return float((-gradient[floored]).max())
    return float(-(gradient @ x))


def optimality_gap(x: Floats, gradient: Floats, bounds: Bounds, prior: Floats, kl_weight: float) -> float:
    """Upper bound of F(x) - F*, in the objective's unit; infinite where the gradient is not finite.

    Args:
        x, gradient, prior: shape (domains,); `gradient` of the objective without its KL term, at x.
    """
    if not np.isfinite(gradient).all():
        return float("inf")
    if kl_weight > 0:
        weight, base = kl_weight, prior
    else:
        weight, base = _SMALLEST_WEIGHT * max(float(np.ptp(gradient)), 1e-300), np.full(len(x), 1 / len(x))
    q = bounds.project(np.log(np.maximum(base, 1e-300)) - (gradient - gradient.min()) / weight)
    gap = float(gradient @ (x - q)) + kl_weight * (kl_divergence(x, prior) - kl_divergence(q, prior))
    return max(gap, 0.0)
