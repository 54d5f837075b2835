"""The prior: what the KL term pulls towards, and what a proposal is first compared with."""

from __future__ import annotations

from dataclasses import dataclass

from evermix.errors import ConstraintError
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe.study import PriorName


@dataclass(frozen=True)
class Prior:
    """A mixture over all domains, and where it comes from, a phrase for people."""

    mixture: Mixture
    source: str


def choose_prior(observations: Observations, asked: PriorName | dict[str, float]) -> Prior:
    """The prior asked for; `auto` is natural where every token count is known, else the swarm's mean.

    Raises:
        ConstraintError: if natural is asked for and a token count is unknown.
        DomainError, MixtureError: if given shares name an unknown domain or do not sum to 1.
    """
    domains = observations.domains
    known = all(d.n_tokens is not None for d in domains)
    if isinstance(asked, dict):
        return Prior(Mixture.from_dict(domains, asked), "given")
    if asked == "natural" and not known:
        missing = next(d.name for d in domains if d.n_tokens is None)
        raise ConstraintError(
            "a natural prior needs the tokens of every domain",
            received=f"none for '{missing}'",
            hint="put them into tokens.yaml beside the runs, or ask for another prior",
        )
    if asked == "natural" or (asked == "auto" and known):
        return Prior(Mixture.natural(domains), "natural: proportional to the tokens available")
    if asked == "uniform":
        return Prior(Mixture.uniform(domains), "uniform")
    mean = Mixture.normalised(domains, observations.weights.mean(axis=0))
    return Prior(mean, "the mean of the swarm, which a Dirichlet swarm draws around its prior")
