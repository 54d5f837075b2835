"""Proposal: a mixture that a solver recommends, with what it promises and what held it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.mixture import Mixture
from evermix.solvers.duals import Dual, dual_values
from evermix.solvers.problem import MixtureProblem

_TOUCHING = 1e-6


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
