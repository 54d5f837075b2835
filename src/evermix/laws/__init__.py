"""Mixing laws: what a model's metrics will be, as a function of the mixture; one law per file."""

from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.laws.registry import LAWS, law_class

__all__ = ["LAWS", "LogLinearLaw", "MixingLaw", "PowerLinkLaw", "law_class"]
