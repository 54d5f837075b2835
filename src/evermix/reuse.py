"""Reuse: bundle domains whose relative weights are settled into one virtual domain, and expand it again.

Olmix (arXiv 2602.12237), mixture reuse: with inner weights ptilde on the bundled domains and a mixture r over
{virtual} + others, the leaves get q_j = r_v ptilde_j + r_j (a leaf may be both inside and a component).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, MixtureError
from evermix.mixture import Mixture


@dataclass(frozen=True)
class VirtualDomain:
    """A fixed inner mixture that is drawn from as if it were one domain.

    Attributes:
        name: its name among the components; must not be the name of a leaf.
        inner: shares within the bundle, a mixture over leaves.
    """

    name: str
    inner: Mixture

    def __post_init__(self) -> None:
        if self.name in self.inner.domains:
            raise DomainError("a virtual domain must not have the name of one of its leaves", received=self.name)

    @property
    def n_tokens(self) -> int | None:
        """Tokens it can give in one epoch of its scarcest leaf, min_j N_j / ptilde_j; None if a count is unknown.

        With it the repetition cap carries over: r_v <= k N_v / R = min_j k N_j / (R ptilde_j).
        """
        used = [(d, float(w)) for d, w in zip(self.inner.domains, self.inner.weights, strict=True) if w > 0]
        if any(d.n_tokens is None for d, _ in used):
            return None
        return int(min((d.n_tokens or 0) / w for d, w in used))

    @property
    def domain(self) -> Domain:
        """The bundle as a component."""
        return Domain(self.name, self.n_tokens)


def collapse(mixture: Mixture, name: str, kept: Collection[str]) -> tuple[Mixture, VirtualDomain]:
    """Bundle all domains of `mixture` but those in `kept` into a virtual domain called `name`.

    Returns:
        the mixture over {name} + kept (kept in their order in the domain set), and the virtual domain, whose inner
        mixture is over all leaves. `expand` gives `mixture` back.

    Raises:
        MixtureError: if the bundled domains have no mass, so that their relative weights are undefined.
        DomainError: if `kept` names an unknown domain, or `name` is taken.
    """
    leaves = mixture.domains
    positions = {leaves.index(k) for k in kept}
    bundled = np.array([j not in positions for j in range(len(leaves))])
    inside = np.where(bundled, mixture.weights, 0.0)
    if inside.sum() <= 0:
        raise MixtureError(
            f"the domains bundled into '{name}' must have mass", received=0.0, hint="bundle other domains, or none"
        )
    virtual = VirtualDomain(name, Mixture.normalised(leaves, inside))
    components = DomainSet([virtual.domain, *(d for d, out in zip(leaves, bundled, strict=True) if not out)])
    return Mixture(components, [inside.sum(), *mixture.weights[~bundled]]), virtual


def expand(component_mixture: Mixture, virtual: VirtualDomain, leaves: DomainSet) -> Mixture:
    """q_j = r_v ptilde_j + r_j over `leaves`; inner domains that are components too add up.

    Raises:
        DomainError: if the virtual domain is no component, is a leaf, or a domain with mass is not among `leaves`.
    """
    if virtual.name in leaves:
        raise DomainError("a virtual domain must not have the name of a leaf", received=virtual.name)
    share = component_mixture[virtual.name]
    weights = np.zeros(len(leaves))
    for name, weight in virtual.inner.as_dict.items():
        if weight > 0:
            weights[leaves.index(name)] += share * weight
    for name, weight in component_mixture.as_dict.items():
        if name != virtual.name:
            weights[leaves.index(name)] += weight
    return Mixture(leaves, weights)
