"""Designs: which mixtures to measure next."""

from evermix.designs.adaptive import AdaptiveOptions, Choice, adaptive_design, candidate_pool, choose_next
from evermix.designs.belief import Belief, believe
from evermix.designs.dirichlet import DirichletOptions, dirichlet_candidates, dirichlet_design
from evermix.designs.feasible import SwarmRules
from evermix.designs.nested import LevelOptions, nested_design, nested_prior
from evermix.designs.settled import Settledness, StoppingRule, how_settled
from evermix.designs.size import recommended_runs
from evermix.designs.space_filling import SpaceFillingOptions, representative, space_filling_design

__all__ = [
    "AdaptiveOptions",
    "Belief",
    "Choice",
    "DirichletOptions",
    "LevelOptions",
    "Settledness",
    "SpaceFillingOptions",
    "StoppingRule",
    "SwarmRules",
    "adaptive_design",
    "believe",
    "candidate_pool",
    "choose_next",
    "dirichlet_candidates",
    "dirichlet_design",
    "how_settled",
    "nested_design",
    "nested_prior",
    "recommended_runs",
    "representative",
    "space_filling_design",
]
