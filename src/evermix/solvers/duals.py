"""Dual values: which bounds hold the optimum back, and what relaxing each is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.solvers.problem import MixtureProblem

Floats = npt.NDArray[np.float64]
_TOUCHING = 1e-6


@dataclass(frozen=True)
class Dual:
    """The price of one bound that binds.

    Attributes:
        constraint: "cap:code", "epochs:code", "floor:web", "fixed:web", "group:stem", "guard:metric".
        bound: the bound's value: a share, or the ceiling of a guarded metric.
        price: d (objective + lambda KL at the optimum) / d bound; negative where raising the bound improves it. Per
            unit of share (per unit of the metric for guards), so times 0.01 for one percentage point.
        per_epoch: the change per extra epoch allowed of this domain, price * N_j / R; epoch caps only.
        per_percent_tokens: the change per 1% more tokens of this domain, price * 0.01 k N_j / R; epoch caps only.
    """

    constraint: str
    bound: float
    price: float
    per_epoch: float | None = None
    per_percent_tokens: float | None = None

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "constraint": self.constraint,
            "bound": self.bound,
            "price": self.price,
            "per_epoch": self.per_epoch,
            "per_percent_tokens": self.per_percent_tokens,
        }


def dual_values(problem: MixtureProblem, weights: Floats) -> tuple[Dual, ...]:
    """Prices of all bounds that bind at the optimum `weights`, shape (domains,), greatest effect first.

    Natural bounds (a share of 0 without a floor, a domain without prior mass) have no price: nobody set them.
    """
    bounds, solved = problem.bounds, problem.multipliers(weights)
    names = problem.prior.domains.names
    duals = []
    above = (weights >= bounds.upper - _TOUCHING) & (bounds.upper < 1)
    below = (weights <= bounds.lower + _TOUCHING) & (bounds.lower > 0)
    for j in np.flatnonzero(above | below):
        price, reason = float(solved.reduced[j]), bounds.reasons[j]
        if reason == "fixed" or bounds.lower[j] == bounds.upper[j] > 0:
            duals.append(Dual(f"fixed:{names[j]}", float(bounds.upper[j]), price))
        elif above[j] and reason == "epochs" and bounds.one_epoch is not None and bounds.max_epochs is not None:
            share = float(bounds.one_epoch[j])
            bound, price = float(bounds.upper[j]), min(price, 0.0)
            duals.append(
                Dual(f"epochs:{names[j]}", bound, price, price * share, 0.01 * bounds.max_epochs * share * price)
            )
        elif above[j] and reason != "prior":
            duals.append(Dual(f"{reason or 'cap'}:{names[j]}", float(bounds.upper[j]), min(price, 0.0)))
        elif below[j]:
            duals.append(Dual(f"floor:{names[j]}", float(bounds.lower[j]), max(price, 0.0)))
    for group, mu in zip(bounds.groups, solved.groups, strict=True):
        if mu != 0:
            duals.append(Dual(f"group:{group.name}", group.upper if mu > 0 else group.lower, -float(mu)))
    for i, y in zip(problem.guards, solved.guards, strict=True):
        if y > 0 and problem.ceilings is not None:
            duals.append(Dual(f"guard:{problem.objective.metrics[i]}", float(problem.ceilings[i]), -float(y)))
    return tuple(sorted(duals, key=lambda dual: -abs(dual.price)))
