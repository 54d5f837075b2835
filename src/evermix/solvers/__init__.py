"""Solvers: the mixture that minimises an objective, under bounds and a pull towards the prior."""

from evermix.solvers.certificate import optimality_gap
from evermix.solvers.duals import Dual, dual_values
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.mirror import MirrorResult, mirror_descent
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal, binding_bounds
from evermix.solvers.solve import solve

__all__ = [
    "Dual",
    "MirrorResult",
    "MixtureProblem",
    "Proposal",
    "binding_bounds",
    "dual_values",
    "mirror_descent",
    "optimality_gap",
    "scaled_kl_weight",
    "solve",
]
