"""Mixing laws: what a model's metrics will be, as a function of the mixture; one family per file."""

from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.cross_validation import CrossValidation, cross_validate
from evermix.laws.ensemble import EnsembleLaw
from evermix.laws.gaussian_process import GaussianProcessLaw, ResidualLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nonparametric import BoostedTreesLaw, NearestLaw
from evermix.laws.power_link import PooledPowerLinkLaw, PowerLinkLaw
from evermix.laws.probe import ProbeLaw
from evermix.laws.registry import LAWS, law_class, list_laws
from evermix.laws.separable import AutoScaleLaw, BiMixLaw

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
