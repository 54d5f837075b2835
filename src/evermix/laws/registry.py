"""Every law by its name; a new law is a class, one line here, and the conformance suite."""

from __future__ import annotations

from evermix.errors import RecipeError
from evermix.laws.automatic import AutoLaw
from evermix.laws.autoscale import AutoScaleLaw
from evermix.laws.base import MixingLaw
from evermix.laws.bimix import BiMixLaw
from evermix.laws.boosted_trees import BoostedTreesLaw
from evermix.laws.ensemble import EnsembleLaw
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nearest import NearestLaw
from evermix.laws.pooled_power_link import PooledPowerLinkLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.laws.residual import ResidualLaw

LAWS: dict[str, type[MixingLaw]] = {
    "log-linear": LogLinearLaw,
    "power-link": PowerLinkLaw,
    "pooled-power-link": PooledPowerLinkLaw,
    "bimix": BiMixLaw,
    "autoscale": AutoScaleLaw,
    "boosted-trees": BoostedTreesLaw,
    "gaussian-process": GaussianProcessLaw,
    "residual": ResidualLaw,
    "ensemble": EnsembleLaw,
    "nearest": NearestLaw,
    "auto": AutoLaw,
}


def law_class(name: str) -> type[MixingLaw]:
    """The law called `name`; RecipeError if there is none."""
    if name not in LAWS:
        raise RecipeError("a law must be a known one", received=name, hint=f"known: {', '.join(LAWS)}")
    return LAWS[name]
