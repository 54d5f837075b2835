"""Designs: which mixtures to measure next."""

from evermix.designs.adaptive import (
    AdaptiveOptions,
    ChosenRuns,
    Posterior,
    adaptive_design,
    candidate_pool,
    choose_next,
    posterior_of,
)
from evermix.designs.balanced import balanced_design
from evermix.designs.dirichlet import DirichletOptions, dirichlet_candidates, dirichlet_design
from evermix.designs.feasible import SwarmRules
from evermix.designs.nested import LevelOptions, nested_design, nested_prior
from evermix.designs.settled import Settledness, StoppingRule, how_settled, recommended_runs
from evermix.designs.space_filling import SpaceFillingOptions, representative, space_filling_design

__all__ = [
    "AdaptiveOptions",
    "ChosenRuns",
    "DirichletOptions",
    "LevelOptions",
    "Posterior",
    "Settledness",
    "SpaceFillingOptions",
    "StoppingRule",
    "SwarmRules",
    "adaptive_design",
    "balanced_design",
    "candidate_pool",
    "choose_next",
    "dirichlet_candidates",
    "dirichlet_design",
    "how_settled",
    "nested_design",
    "nested_prior",
    "posterior_of",
    "recommended_runs",
    "representative",
    "space_filling_design",
]
