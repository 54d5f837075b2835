"""Reuse: bundle domains whose relative weights are settled into one virtual domain, and expand it again.

Olmix (arXiv 2602.12237), mixture reuse: with inner weights ptilde on the bundled domains and a mixture r over
{virtual} + others, the leaves get q_j = r_v ptilde_j + r_j (a leaf may be both inside and a component).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
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
    def size(self) -> int | None:
        """Tokens (or rows, as its leaves are counted) that it can give in one epoch of its scarcest leaf.

        min_j N_j / ptilde_j; None if a size is unknown.

        With it the repetition cap carries over: r_v <= k N_v / R = min_j k N_j / (R ptilde_j).
        """
        used = [(d, float(w)) for d, w in zip(self.inner.domains, self.inner.weights, strict=True) if w > 0]
        if any(d.size is None for d, _ in used):
            return None
        return int(min((d.size or 0) / w for d, w in used) * (1 + 1e-12))  # 199.99999999999997 is 200

    @property
    def domain(self) -> Domain:
        """The bundle as a component."""
        return Domain(self.name).resized(self.size, self.inner.domains.unit)


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


def flatten(virtual: VirtualDomain, others: Iterable[VirtualDomain]) -> VirtualDomain:
    """The same bundle over leaves only: an inner domain that is one of `others` is replaced by its inner mixture.

    Raises:
        DomainError: if virtual domains contain each other in a circle.
    """
    shares = _leaf_shares(virtual.name, {other.name: other for other in others} | {virtual.name: virtual}, ())
    return VirtualDomain(virtual.name, Mixture.normalised(DomainSet(shares), list(shares.values())))


def _leaf_shares(name: str, known: Mapping[str, VirtualDomain], path: tuple[str, ...]) -> dict[str, float]:
    if name in path:
        raise DomainError("virtual domains must not contain each other", received=" > ".join((*path, name)))
    shares: dict[str, float] = {}
    for inner, weight in known[name].inner.as_dict.items():
        parts = _leaf_shares(inner, known, (*path, name)) if inner in known else {inner: 1.0}
        for leaf, share in parts.items():
            if weight * share > 0:
                shares[leaf] = shares.get(leaf, 0.0) + weight * share
    return shares


def effective_prior(leaf_prior: Mixture, components: DomainSet, virtual: Iterable[VirtualDomain]) -> Mixture:
    """The prior over components with which KL over components is KL over expanded leaves, up to a constant.

    With disjoint components, leaf l of component c gets q_l = r_c i_cl, so

        KL(expand(r) || p0) = sum_c r_c (log r_c + KL(i_c || p0)) = KL(r || pi) - log Z,
        pi_c = exp(-KL(i_c || p0)) / Z,   Z = sum_c exp(-KL(i_c || p0)).

    A component that is a leaf has exp(-KL) = p0_l. A solver that takes pi as its prior therefore needs no change
    (METHODS 1.4: the KL prior over the expanded leaves). A component whose bundle holds a leaf without prior mass
    gets pi = 0: its KL is infinite.

    Args:
        leaf_prior: p0, over the leaves.
        components: what is mixed: virtual domains and leaves.
        virtual: the virtual domains among them; also those nested inside, which are flattened.

    Raises:
        DomainError: if a leaf belongs to two components (then no such prior exists), a component is neither virtual
            nor a leaf, or an inner domain is no leaf.
        MixtureError: if no component has prior mass.
    """
    known = {each.name: each for each in virtual}
    owner: dict[str, str] = {}
    logs = np.empty(len(components))
    for k, name in enumerate(components.names):
        inner = _leaf_shares(name, known, ()) if name in known else {name: 1.0}
        logs[k] = 0.0
        for leaf, share in inner.items():
            if leaf in owner:
                raise DomainError(
                    f"components must not share leaves for an exact prior: '{leaf}' is in '{owner[leaf]}' and '{name}'",
                    hint="collapse with both, or take the leaf out of the bundle",
                )
            owner[leaf] = name
            mass = leaf_prior[leaf]
            logs[k] += share * (np.log(mass / share) if mass > 0 else -np.inf)
    if not np.isfinite(logs).any():
        raise MixtureError("a component must have prior mass on all its leaves", received=leaf_prior.as_dict)
    return Mixture.normalised(components, np.exp(logs - logs.max()))
