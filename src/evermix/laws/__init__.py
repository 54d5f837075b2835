"""Mixing laws: what a model's metrics will be, as a function of the mixture; one law per file."""

from evermix.laws.automatic import AutoLaw
from evermix.laws.autoscale import AutoScaleLaw
from evermix.laws.base import MixingLaw
from evermix.laws.bimix import BiMixLaw
from evermix.laws.boosted_trees import BoostedTreesLaw
from evermix.laws.cross_validation import CrossValidation, cross_validate
from evermix.laws.ensemble import EnsembleLaw
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nearest import NearestLaw
from evermix.laws.pooled_power_link import PooledPowerLinkLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.laws.probe import ProbeLaw
from evermix.laws.registry import LAWS, law_class, list_laws
from evermix.laws.residual import ResidualLaw

__all__ = [
    "LAWS",
    "AutoLaw",
    "AutoScaleLaw",
    "BiMixLaw",
    "BoostedTreesLaw",
    "CrossValidation",
    "EnsembleLaw",
    "GaussianProcessLaw",
    "LogLinearLaw",
    "MixingLaw",
    "NearestLaw",
    "PooledPowerLinkLaw",
    "PowerLinkLaw",
    "ProbeLaw",
    "ResidualLaw",
    "cross_validate",
    "law_class",
    "list_laws",
]
