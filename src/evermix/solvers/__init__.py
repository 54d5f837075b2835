"""Solvers: the mixture that minimises an objective, under bounds and a pull towards the prior."""

from evermix.solvers.kl_path import KlChoice, PathPoint, choose_kl, kl_path, scaled_kl_weight
from evermix.solvers.problem import MixtureProblem, optimality_gap
from evermix.solvers.proposal import Dual, Proposal, binding_bounds, dual_values
from evermix.solvers.search import MirrorResult, mirror_descent
from evermix.solvers.solve import WorstCase, least_worst_change, least_worst_law, solve

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
