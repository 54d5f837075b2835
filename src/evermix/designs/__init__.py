"""Designs: which mixtures to measure next."""

from evermix.designs.dirichlet import dirichlet_candidates

__all__ = ["dirichlet_candidates"]
