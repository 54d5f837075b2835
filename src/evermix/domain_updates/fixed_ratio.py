"""Domains at a fixed ratio: bundled into one virtual domain, expanded again, and the mixtures that keep the ratio.

Olmix (arXiv 2602.12237), mixture reuse: with inner weights ptilde on the bundled domains and a mixture r over
{virtual} + others, the leaves get q_j = r_v ptilde_j + r_j (a leaf may be both inside and a component).

`CollapsedSpace` is the set of leaf mixtures q that some component mixture r gives where no leaf is both: the
domains at a fixed ratio, D_fix, are one virtual domain v, q_j = r_v ptilde_j for j in D_fix, and q_j = r_j for the
others. A component mixture has one number per component, a leaf mixture one per leaf.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, GroupBound
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, DomainError, MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_SLACK = 1e-9


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


@dataclass(frozen=True)
class CollapsedSpace:
    """Leaves, of which some are bundled in fixed proportions.

    Attributes:
        leaves: every domain; columns of leaf mixtures.
        virtual: the bundle; its inner mixture is over `leaves` (rebuilt so, whatever order it came in).
        unused: bundled leaves whose fixed share is zero.

    Raises:
        DomainError: if an inner domain with mass or an unused one is no leaf, a leaf is both, or has the bundle's name.
    """

    leaves: DomainSet
    virtual: VirtualDomain
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        inner = {name: share for name, share in self.virtual.inner.as_dict.items() if share > 0}
        for name in self.unused:
            if name in inner:
                raise DomainError("an unused leaf must have no fixed share", received=name)
            self.leaves.index(name)
        over_leaves = Mixture.from_dict(self.leaves, inner)
        object.__setattr__(self, "virtual", VirtualDomain(self.virtual.name, over_leaves))
        object.__setattr__(self, "unused", tuple(dict.fromkeys(self.unused)))

    @classmethod
    def fix(cls, leaves: DomainSet, shares: Mapping[str, float], name: str = "fixed ratio") -> CollapsedSpace:
        """Bundle the leaves named in `shares` in proportion to them; a share of zero stays zero.

        Raises:
            MixtureError: if they have no mass, so that their relative weights are undefined.
            DomainError: if one is no leaf, or `name` is taken.
        """
        for leaf in shares:
            leaves.index(leaf)
        if sum(shares.values()) <= 0:
            raise MixtureError(
                "the domains to keep at a fixed ratio must have mass in the mixture that it is taken from",
                received=dict(shares),
                hint="measure all domains anew, or fix the ratio of others",
            )
        inner = Mixture.normalised(leaves, [shares.get(leaf, 0.0) for leaf in leaves.names])
        unused = tuple(leaf for leaf in leaves.names if leaf in shares and inner[leaf] <= 0)
        return cls(leaves, VirtualDomain(name, inner), unused)

    @classmethod
    def flattened(cls, leaves: DomainSet, virtual: VirtualDomain, others: Iterable[VirtualDomain]) -> CollapsedSpace:
        """The space of a bundle that holds other bundles."""
        return cls(leaves, flatten(virtual, others))

    @property
    def name(self) -> str:
        """Of the virtual domain."""
        return self.virtual.name

    @cached_property
    def ptilde(self) -> Floats:
        """Frozen proportions, shape (leaves,): 0 outside the bundle, sum 1."""
        return self.virtual.inner.weights

    @cached_property
    def bundled(self) -> Bools:
        """Which leaves are in D_fix, those of share zero too, shape (leaves,)."""
        inside: Bools = self.ptilde > 0
        inside[[self.leaves.index(name) for name in self.unused]] = True
        return inside

    @cached_property
    def fixed_ratio(self) -> tuple[str, ...]:
        """Leaves in D_fix, in their order."""
        return tuple(name for name, inside in zip(self.leaves.names, self.bundled, strict=True) if inside)

    @cached_property
    def free(self) -> tuple[str, ...]:
        """Leaves that are components themselves, in their order."""
        return tuple(name for name, inside in zip(self.leaves.names, self.bundled, strict=True) if not inside)

    @cached_property
    def components(self) -> DomainSet:
        """The virtual domain, whose tokens are those of one epoch of its scarcest leaf, then the free leaves."""
        free = (leaf for leaf, inside in zip(self.leaves, self.bundled, strict=True) if not inside)
        return DomainSet([self.virtual.domain, *free])

    @cached_property
    def totals(self) -> Floats:
        """T, shape (leaves, components): r = q T sums each component's leaves."""
        table = np.zeros((len(self.leaves), len(self.components)))
        table[self.bundled, 0] = 1.0
        table[np.flatnonzero(~self.bundled), np.arange(1, len(self.components))] = 1.0
        return table

    @cached_property
    def spread(self) -> Floats:
        """E, shape (components, leaves): q = r E expands a component mixture; E T is the identity."""
        table = self.totals.T.copy()
        table[0] = self.ptilde
        return table

    def collapse(self, P: npt.ArrayLike) -> Floats:
        """Components' totals of leaf mixtures, (..., leaves) -> (..., components)."""
        result: Floats = self._checked(P, len(self.leaves), "leaves") @ self.totals
        return result

    def expand(self, R: npt.ArrayLike) -> Floats:
        """Leaf mixtures of component mixtures, (..., components) -> (..., leaves)."""
        result: Floats = self._checked(R, len(self.components), "components") @ self.spread
        return result

    def project(self, P: npt.ArrayLike) -> Floats:
        """The same totals with the fixed proportions, (..., leaves) -> (..., leaves)."""
        return self.expand(self.collapse(P))

    def holds(self, P: npt.ArrayLike, tolerance: float = 1e-6) -> Bools:
        """Which mixtures keep the fixed proportions or have no mass on D_fix, (..., leaves) -> (...).

        Args:
            tolerance: greatest departure of a share from `project`.
        """
        weights = self._checked(P, len(self.leaves), "leaves")
        result: Bools = np.abs(weights - self.project(weights)).max(axis=-1) <= tolerance
        return result

    def prior(self, leaf_prior: Mixture) -> Mixture:
        """The leaf mixture to which KL, within the space, is KL to `leaf_prior` up to a constant: expand(pi).

        pi is the effective prior over components. KL(expand(r) || expand(pi)) = KL(r || pi), for within the bundle
        both have the proportions ptilde.

        Raises:
            MixtureError: if a bundled leaf with a share has no prior mass, for then the KL is infinite wherever the
                bundle has mass.
        """
        missing = (self.ptilde > 0) & (self._same_leaves(leaf_prior).weights <= 0)
        if missing.any():
            raise MixtureError(
                f"domain at a fixed ratio '{self.leaves.names[int(missing.argmax())]}' must have mass in the prior",
                received=0.0,
                hint="give it mass in the prior, or recompute it",
            )
        pi = effective_prior(leaf_prior, self.components, [self.virtual])
        return Mixture(self.leaves, self.expand(pi.weights))

    def recomputed(self, names: Collection[str]) -> CollapsedSpace:
        """The wider space in which `names` are components of their own.

        Raises:
            DomainError: if one of them is not at a fixed ratio.
            MixtureError: if nothing with a share would stay at a fixed ratio.
        """
        for name in names:
            if name not in self.fixed_ratio:
                raise DomainError(
                    "only a domain at a fixed ratio can be recomputed",
                    received=name,
                    hint=f"those are: {', '.join(self.fixed_ratio)}",
                )
        left = {name: self.virtual.inner[name] for name in self.fixed_ratio if name not in names}
        return CollapsedSpace.fix(self.leaves, left, self.name)

    def tighten(self, bounds: Bounds) -> Bounds:
        """Leaf bounds under which any mixture may take on the fixed proportions with its totals kept.

        q_j = r_v ptilde_j must lie within every leaf's bounds, so r_v lies in [L, U], L = max_i l_i / ptilde_i and
        U = min_i u_i / ptilde_i, and q_j in ptilde_j [L, U]. The total of a group is one of components, as long as it
        holds all of the bundle or none; a group of leaves at a fixed ratio alone is a bound on r_v.

        Raises:
            ConstraintError: naming the leaf or group, if the bounds do not allow the proportions.
        """
        low, high, lowest, scarcest = self._range(bounds)
        low, high = self._within_groups(bounds, low, high)
        if low > high + _SLACK:
            raise ConstraintError(
                f"the fixed proportions must allow a total between {low:.4f}, which '{lowest}' needs, and "
                f"{high:.4f}, which '{scarcest}' allows",
                hint=f"recompute '{lowest}' or '{scarcest}', or relax their bounds",
            )
        low = min(low, high)
        lower = np.where(self.bundled, self.ptilde * low, bounds.lower)
        upper = np.where(self.bundled, self.ptilde * high, bounds.upper)
        limit = self.leaves.index(scarcest)
        reasons = tuple(
            reason if not inside or j == limit else "fixed ratio"
            for j, (reason, inside) in enumerate(zip(bounds.reasons, self.bundled, strict=True))
        )
        groups = tuple(group for group in bounds.groups if self._is_kept(group))
        if upper.sum() < 1 - _SLACK or lower.sum() > 1 + _SLACK:
            short = upper.sum() < 1 - _SLACK
            raise ConstraintError(
                f"bounds with fixed proportions must leave room for a sum of 1; '{scarcest if short else lowest}' "
                f"holds the {len(self.fixed_ratio)} domains at a fixed ratio to {high if short else low:.4f} in total",
                received=float(upper.sum() if short else lower.sum()),
                hint=f"recompute '{scarcest if short else lowest}', or relax its bound",
            )
        return replace(bounds, lower=lower, upper=upper, reasons=reasons, groups=groups)

    def component_bounds(self, bounds: Bounds) -> Bounds:
        """`tighten`ed leaf bounds as bounds on component mixtures, for a solver that works on components.

        Raises:
            ConstraintError: as `tighten` does.
        """
        tight = self.tighten(bounds)
        held = self.totals > 0
        groups = tuple(replace(group, members=np.any(held & group.members[:, None], axis=0)) for group in tight.groups)
        limits = [reason for reason, inside in zip(tight.reasons, self.bundled, strict=True) if inside]
        fixed_reason = next((reason for reason in limits if reason not in ("", "fixed ratio")), "")
        free = (reason for reason, inside in zip(tight.reasons, self.bundled, strict=True) if not inside)
        upper = np.minimum(tight.upper @ self.totals, 1.0)
        return Bounds(tight.lower @ self.totals, upper, (fixed_reason, *free), groups)

    def _range(self, bounds: Bounds) -> tuple[float, float, str, str]:
        """L, U <= 1, and the leaves that set them."""
        for name in self.unused:
            lower = float(bounds.lower[self.leaves.index(name)])
            if lower > 0:
                raise ConstraintError(
                    f"'{name}' is fixed at a share of zero, so it must have no floor",
                    received=lower,
                    hint=f"recompute '{name}', or drop its floor",
                )
        support = np.flatnonzero(self.ptilde > 0)
        least, greatest = (side[support] / self.ptilde[support] for side in (bounds.lower, bounds.upper))
        lowest, scarcest = support[int(least.argmax())], support[int(greatest.argmin())]
        names = self.leaves.names
        return float(least.max()), float(min(greatest.min(), 1.0)), names[lowest], names[scarcest]

    def _within_groups(self, bounds: Bounds, low: float, high: float) -> tuple[float, float]:
        """[L, U] within the groups of leaves at a fixed ratio alone; an error for a group that cuts the bundle."""
        for group in bounds.groups:
            share = float(self.ptilde[group.members].sum())
            if (group.members & ~self.bundled).any():
                if 0 < share < 1 - _SLACK:
                    raise ConstraintError(
                        f"group '{group.name}' must hold all domains at a fixed ratio with a share, or none of them, "
                        "or nothing else",
                        received=self._listed(group.members & (self.ptilde > 0)),
                        hint=f"recompute {self._listed(group.members & (self.ptilde > 0))}, or drop the group",
                    )
            elif share > 0:
                low, high = max(low, group.lower / share), min(high, group.upper / share)
            elif group.lower > 0:
                raise ConstraintError(
                    f"group '{group.name}' holds only domains fixed at zero, so it must have no least total",
                    received=group.lower,
                    hint=f"recompute {self._listed(group.members)}",
                )
        return low, high

    def _is_kept(self, group: GroupBound) -> bool:
        return bool((group.members & ~self.bundled).any())

    def _listed(self, members: Bools) -> str:
        return ", ".join(f"'{name}'" for name, inside in zip(self.leaves.names, members, strict=True) if inside)

    def _same_leaves(self, mixture: Mixture) -> Mixture:
        if mixture.domains.names != self.leaves.names:
            raise MixtureError("a prior must be over the leaves, in their order", received=mixture.domains.names)
        return mixture

    def _checked(self, P: npt.ArrayLike, width: int, what: str) -> Floats:
        array = np.asarray(P, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != width:
            raise MixtureError(f"mixtures must have shares of {width} {what}", received=array.shape)
        return array
