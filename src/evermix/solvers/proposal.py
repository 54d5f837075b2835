"""Proposal: a mixture that a solver recommends, with what it promises and what held it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from evermix.constraints import Bounds
from evermix.mixture import Mixture

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
        solver: "convex" or "mirror".
        gap: objective + KL is at most this far above the optimum of the law, in the objective's quantity; None
            where the solver gives no certificate.
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
