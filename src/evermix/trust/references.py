"""Reference mixtures: what a proposal is always compared with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture

PROPOSAL, NATURAL, UNIFORM, UNIMAX, BEST_RUN, PRIOR = "proposal", "natural", "uniform", "unimax", "best run", "prior"
_RESERVED = frozenset({PROPOSAL, NATURAL, UNIFORM, UNIMAX, BEST_RUN, PRIOR})


@dataclass(frozen=True)
class Request:
    """What the mixture is for.

    Attributes:
        n_tokens: R, tokens of the target run; None if unknown: then no epochs are told, and no UniMax.
        max_epochs: k, for UniMax.
        named: further mixtures to compare with, such as the current or a published one.
    """

    n_tokens: float | None = None
    max_epochs: float = 4.0
    named: Mapping[str, Mixture] = field(default_factory=dict)

    def references(self, domains: DomainSet, prior: Mixture) -> dict[str, Mixture]:
        """Natural (if token counts are known), prior (if it is another), uniform, UniMax (if R is known), the named.

        Raises:
            MixtureError: if a named mixture has a reserved name, or other domains.
        """
        for name, mixture in self.named.items():
            if name in _RESERVED:
                raise MixtureError("a reference mixture must not have a reserved name", received=name)
            if mixture.domains.names != domains.names:
                raise MixtureError(f"reference mixture '{name}' must be over {domains!r}", received=mixture.domains)
        found: dict[str, Mixture] = {}
        if counts_known(domains):
            found[NATURAL] = Mixture.natural(domains)
        if all(prior.total_variation(mixture) > 1e-9 for mixture in (*found.values(), Mixture.uniform(domains))):
            found[PRIOR] = prior
        found[UNIFORM] = Mixture.uniform(domains)
        if counts_known(domains) and self.n_tokens is not None:
            found[UNIMAX] = Mixture.unimax(domains, self.n_tokens, self.max_epochs)
        return {**found, **self.named}


def counts_known(domains: DomainSet) -> bool:
    """Whether every domain's size is known, and some is not empty."""
    return domains.sizes_known and any(d.size for d in domains)
