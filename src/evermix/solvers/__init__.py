"""Solvers: the mixture that minimises an objective, under bounds and a pull towards the prior."""

from evermix.solvers.certificate import optimality_gap
from evermix.solvers.convex import solve
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.mirror import MirrorResult, mirror_descent
from evermix.solvers.proposal import Proposal, binding_bounds

__all__ = [
    "MirrorResult",
    "Proposal",
    "binding_bounds",
    "mirror_descent",
    "optimality_gap",
    "scaled_kl_weight",
    "solve",
]
