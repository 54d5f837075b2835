"""Designs: which mixtures to measure next."""

from evermix.designs.dirichlet import DirichletOptions, dirichlet_candidates, dirichlet_design
from evermix.designs.feasible import SwarmRules
from evermix.designs.nested import LevelOptions, nested_design, nested_prior
from evermix.designs.space_filling import SpaceFillingOptions, representative, space_filling_design

__all__ = [
    "DirichletOptions",
    "LevelOptions",
    "SpaceFillingOptions",
    "SwarmRules",
    "dirichlet_candidates",
    "dirichlet_design",
    "nested_design",
    "nested_prior",
    "representative",
    "space_filling_design",
]
