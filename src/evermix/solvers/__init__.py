"""Solvers: the mixture that minimises an objective, under bounds and a pull towards the prior."""

from evermix.solvers.certificate import optimality_gap
from evermix.solvers.duals import Dual, dual_values
from evermix.solvers.kl_path import KlChoice, PathPoint, choose_kl, kl_path
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.mirror import MirrorResult, mirror_descent
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal, binding_bounds
from evermix.solvers.solve import solve
from evermix.solvers.worst_case import WorstCase, least_worst_change, least_worst_law

__all__ = [
    "Dual",
    "KlChoice",
    "MirrorResult",
    "MixtureProblem",
    "PathPoint",
    "Proposal",
    "WorstCase",
    "binding_bounds",
    "choose_kl",
    "dual_values",
    "kl_path",
    "least_worst_change",
    "least_worst_law",
    "mirror_descent",
    "optimality_gap",
    "scaled_kl_weight",
    "solve",
]
