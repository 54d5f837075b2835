"""Every law by its name; a new law is a class, one line here, and the conformance suite."""

from __future__ import annotations

from evermix.errors import RecipeError
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw

LAWS: dict[str, type[MixingLaw]] = {
    "log-linear": LogLinearLaw,
    "power-link": PowerLinkLaw,
}


def law_class(name: str) -> type[MixingLaw]:
    """The law called `name`; RecipeError if there is none."""
    if name not in LAWS:
        raise RecipeError("a law must be a known one", received=name, hint=f"known: {', '.join(LAWS)}")
    return LAWS[name]
