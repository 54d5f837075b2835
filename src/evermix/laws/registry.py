"""Every law by its name; a new law is a class, one line here, and the conformance suite."""

from __future__ import annotations

from typing import Any

from evermix.errors import RecipeError
from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.ensemble import EnsembleLaw
from evermix.laws.gaussian_process import GaussianProcessLaw, ResidualLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nonparametric import BoostedTreesLaw, NearestLaw
from evermix.laws.power_link import PooledPowerLinkLaw, PowerLinkLaw
from evermix.laws.probe import ProbeLaw
from evermix.laws.separable import AutoScaleLaw, BiMixLaw

_FAMILIES: tuple[type[MixingLaw], ...] = (
    LogLinearLaw,
    PowerLinkLaw,
    PooledPowerLinkLaw,
    BiMixLaw,
    AutoScaleLaw,
    BoostedTreesLaw,
    GaussianProcessLaw,
    ResidualLaw,
    EnsembleLaw,
    NearestLaw,
    ProbeLaw,
    AutoLaw,
)
LAWS: dict[str, type[MixingLaw]] = {law.name: law for law in _FAMILIES}


def law_class(name: str) -> type[MixingLaw]:
    """The law of a swarm called `name`; RecipeError if there is none, or if it is a law of probes."""
    known = [each for each, law in LAWS.items() if not law.of_probes]
    if name in LAWS and name not in known:
        raise RecipeError(
            "a law of a swarm must not be one of probes, which are short runs of one model",
            received=name,
            hint=f"the decision mode probe-law fits it; known for swarms: {', '.join(known)}",
        )
    if name not in LAWS:
        raise RecipeError("a law must be a known one", received=name, hint=f"known: {', '.join(known)}")
    return LAWS[name]


def list_laws() -> list[dict[str, Any]]:
    """The families that a recipe may name as `law: NAME`, and that of probes, one row each, in the registry's order.

    `auto` chooses among them, and is none itself.

    Returns:
        Rows of `name`, `formula`, `source`, `convex`, `gradient`, `std` (whether it has them), `runs_needed` (for m
        domains, such as "m + 1"; "probes" for a law of those) and `extra` (to install, or None).
    """
    return [_row(name, law) for name, law in LAWS.items() if law is not AutoLaw]


def _row(name: str, law: type[MixingLaw]) -> dict[str, Any]:
    unfitted = law()
    return {
        "name": name,
        "formula": law.formula,
        "source": law.source,
        "convex": unfitted.is_convex,
        "gradient": unfitted.has_gradient,
        "std": unfitted.has_std,
        "runs_needed": _runs_needed(law),
        "extra": law.extra,
    }


def _runs_needed(law: type[MixingLaw]) -> str:
    """Runs as many as parameters, in terms of the number m of domains: 'm + 1'."""
    if law.of_probes:
        return "probes"
    per_domain = law.n_parameters(3) - law.n_parameters(2)
    constant = law.n_parameters(2) - 2 * per_domain
    if per_domain == 0:
        return str(constant) if constant else "any"
    domains = "m" if per_domain == 1 else f"{per_domain}m"
    return f"{domains} + {constant}" if constant else domains
