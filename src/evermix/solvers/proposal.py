"""Proposal: a mixture that a solver recommends, with what it promises and what held it back.

The dual values say which bounds hold the optimum back, and what relaxing each is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.mixture import Mixture
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


@dataclass(frozen=True)
class Proposal:
    """The answer of a solver.

    Attributes:
        mixture: the proposed mixture.
        predicted: (metrics,), predicted losses in nats per token at it.
        objective_value: the objective at it, in the objective's quantity, without the KL term.
        kl_nats: KL(mixture || prior).
        kl_weight: lambda, in the objective's quantity per nat.
        binding: domains at a bound, as "name: lower", or "name: upper (epochs)" with the bound's reason.
        status: what the solver said of its own convergence.
        solver: "clarabel", "newton", "sampling" or "mirror".
        gap: objective + KL is at most this far above the optimum of the law, in the objective's quantity; None
            where the solver gives no certificate.
        duals: what relaxing each bound that binds is worth; empty where the law has no gradient.
    """

    mixture: Mixture
    predicted: tuple[float, ...]
    objective_value: float
    kl_nats: float
    kl_weight: float
    binding: tuple[str, ...]
    status: str
    solver: str
    gap: float | None = None
    duals: tuple[Dual, ...] = ()

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "mixture": dict(self.mixture.as_dict),
            "predicted": list(self.predicted),
            "objective_value": self.objective_value,
            "kl_nats": self.kl_nats,
            "kl_weight": self.kl_weight,
            "binding": list(self.binding),
            "status": self.status,
            "solver": self.solver,
            "gap": self.gap,
            "duals": [dual.as_dict for dual in self.duals],
        }


def binding_bounds(mixture: Mixture, bounds: Bounds) -> tuple[str, ...]:
    """Domains within 1e-6 of a bound that is neither 0 nor 1 by nature, and zero shares ("name: lower")."""
    binding = []
    rows = zip(mixture.as_dict.items(), bounds.lower, bounds.upper, bounds.reasons, strict=True)
    for (name, weight), lower, upper, reason in rows:
        if reason == "fixed":
            binding.append(f"{name}: fixed")
        elif upper < 1 and weight >= upper - _TOUCHING:
            binding.append(f"{name}: upper ({reason or 'bound'})")
        elif weight <= lower + _TOUCHING:
            binding.append(f"{name}: lower")
    return tuple(binding)


def proposal_at(problem: MixtureProblem, weights: npt.NDArray[np.float64], status: str, solver: str) -> Proposal:
    """The proposal of a solution `weights`, shape (domains,), with its certificate and dual values."""
    mixture = Mixture(problem.prior.domains, weights)
    predicted = problem.law.predict(mixture.weights)
    return Proposal(
        mixture=mixture,
        predicted=tuple(float(x) for x in predicted),
        objective_value=float(problem.objective.value(predicted)),
        kl_nats=mixture.kl(problem.prior),
        kl_weight=float(problem.kl_weight),
        binding=binding_bounds(mixture, problem.bounds),
        status=status,
        solver=solver,
        gap=problem.gap(mixture.weights) if problem.law.is_convex and problem.law.has_gradient else None,
        duals=dual_values(problem, mixture.weights) if problem.law.has_gradient else (),
    )
