"""CollapsedSpace: mixtures over all leaves in which some domains keep the proportions they had (Olmix, mixture reuse).

The frozen domains D_fix with inner weights ptilde are one virtual domain v: q_j = r_v ptilde_j for j in D_fix, and
q_j = r_j for the others. A component mixture r has one number per component, a leaf mixture q one per leaf; the space
is the set of q that some r gives.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, GroupBound
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, DomainError, MixtureError
from evermix.mixture import Mixture
from evermix.reuse.virtual import VirtualDomain, effective_prior, flatten

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
_SLACK = 1e-9


@dataclass(frozen=True)
class CollapsedSpace:
    """Leaves, of which some are bundled in fixed proportions.

    Attributes:
        leaves: every domain; columns of leaf mixtures.
        virtual: the bundle; its inner mixture is over `leaves` (rebuilt so, whatever order it came in).
        unused: bundled leaves whose frozen share is zero.

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
                raise DomainError("an unused leaf must have no frozen share", received=name)
            self.leaves.index(name)
        over_leaves = Mixture.from_dict(self.leaves, inner)
        object.__setattr__(self, "virtual", VirtualDomain(self.virtual.name, over_leaves))
        object.__setattr__(self, "unused", tuple(dict.fromkeys(self.unused)))

    @classmethod
    def freeze(cls, leaves: DomainSet, shares: Mapping[str, float], name: str = "frozen") -> CollapsedSpace:
        """Bundle the leaves named in `shares` in proportion to them; a share of zero stays zero.

        Raises:
            MixtureError: if they have no mass, so that their relative weights are undefined.
            DomainError: if one is no leaf, or `name` is taken.
        """
        for leaf in shares:
            leaves.index(leaf)
        if sum(shares.values()) <= 0:
            raise MixtureError(
                "the domains to be frozen must have mass in the mixture they are frozen from",
                received=dict(shares),
                hint="measure all domains anew, or freeze others",
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
    def frozen(self) -> tuple[str, ...]:
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
        """The same totals with the frozen proportions, (..., leaves) -> (..., leaves)."""
        return self.expand(self.collapse(P))

    def holds(self, P: npt.ArrayLike, tolerance: float = 1e-6) -> Bools:
        """Which mixtures keep the frozen proportions or have no mass on D_fix, (..., leaves) -> (...).

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
            MixtureError: if a frozen leaf with a share has no prior mass, for then the KL is infinite wherever the
                bundle has mass.
        """
        missing = (self.ptilde > 0) & (self._same_leaves(leaf_prior).weights <= 0)
        if missing.any():
            raise MixtureError(
                f"frozen domain '{self.leaves.names[int(missing.argmax())]}' must have mass in the prior",
                received=0.0,
                hint="give it mass in the prior, or release it",
            )
        pi = effective_prior(leaf_prior, self.components, [self.virtual])
        return Mixture(self.leaves, self.expand(pi.weights))

    def released(self, names: Collection[str]) -> CollapsedSpace:
        """The wider space in which `names` are components of their own.

        Raises:
            DomainError: if one of them is not frozen.
            MixtureError: if nothing with a share would stay frozen.
        """
        for name in names:
            if name not in self.frozen:
                raise DomainError(
                    "only a frozen domain can be released", received=name, hint=f"frozen: {', '.join(self.frozen)}"
                )
        left = {name: self.virtual.inner[name] for name in self.frozen if name not in names}
        return CollapsedSpace.freeze(self.leaves, left, self.name)

    def tighten(self, bounds: Bounds) -> Bounds:
        """Leaf bounds under which any mixture may take on the frozen proportions with its totals kept.

        q_j = r_v ptilde_j must lie within every leaf's bounds, so r_v lies in [L, U], L = max_i l_i / ptilde_i and
        U = min_i u_i / ptilde_i, and q_j in ptilde_j [L, U]. The total of a group is one of components, as long as it
        holds all of the bundle or none; a group of frozen leaves alone is a bound on r_v.

        Raises:
            ConstraintError: naming the leaf or group, if the bounds do not allow the proportions.
        """
        low, high, lowest, scarcest = self._range(bounds)
        low, high = self._within_groups(bounds, low, high)
        if low > high + _SLACK:
            raise ConstraintError(
                f"the frozen proportions must allow a total between {low:.4f}, which '{lowest}' needs, and "
                f"{high:.4f}, which '{scarcest}' allows",
                hint=f"release '{lowest}' or '{scarcest}', or relax their bounds",
            )
        low = min(low, high)
        lower = np.where(self.bundled, self.ptilde * low, bounds.lower)
        upper = np.where(self.bundled, self.ptilde * high, bounds.upper)
        limit = self.leaves.index(scarcest)
        reasons = tuple(
            reason if not inside or j == limit else "frozen"
            for j, (reason, inside) in enumerate(zip(bounds.reasons, self.bundled, strict=True))
        )
        groups = tuple(group for group in bounds.groups if self._is_kept(group))
        if upper.sum() < 1 - _SLACK or lower.sum() > 1 + _SLACK:
            short = upper.sum() < 1 - _SLACK
            raise ConstraintError(
                f"bounds with frozen proportions must leave room for a sum of 1; '{scarcest if short else lowest}' "
                f"holds the {len(self.frozen)} frozen domains to {high if short else low:.4f} in total",
                received=float(upper.sum() if short else lower.sum()),
                hint=f"release '{scarcest if short else lowest}', or relax its bound",
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
        frozen_reason = next((reason for reason in limits if reason not in ("", "frozen")), "")
        free = (reason for reason, inside in zip(tight.reasons, self.bundled, strict=True) if not inside)
        upper = np.minimum(tight.upper @ self.totals, 1.0)
        return Bounds(tight.lower @ self.totals, upper, (frozen_reason, *free), groups)

    def _range(self, bounds: Bounds) -> tuple[float, float, str, str]:
        """L, U <= 1, and the leaves that set them."""
        for name in self.unused:
            lower = float(bounds.lower[self.leaves.index(name)])
            if lower > 0:
                raise ConstraintError(
                    f"'{name}' is frozen at a share of zero, so it must have no floor",
                    received=lower,
                    hint=f"release '{name}', or drop its floor",
                )
        support = np.flatnonzero(self.ptilde > 0)
        least, greatest = (side[support] / self.ptilde[support] for side in (bounds.lower, bounds.upper))
        lowest, scarcest = support[int(least.argmax())], support[int(greatest.argmin())]
        names = self.leaves.names
        return float(least.max()), float(min(greatest.min(), 1.0)), names[lowest], names[scarcest]

    def _within_groups(self, bounds: Bounds, low: float, high: float) -> tuple[float, float]:
        """[L, U] within the groups of frozen leaves alone; an error for a group that cuts the bundle."""
        for group in bounds.groups:
            share = float(self.ptilde[group.members].sum())
            if (group.members & ~self.bundled).any():
                if 0 < share < 1 - _SLACK:
                    raise ConstraintError(
                        f"group '{group.name}' must hold all frozen domains with a share, or none of them, or nothing "
                        "else",
                        received=self._listed(group.members & (self.ptilde > 0)),
                        hint=f"release {self._listed(group.members & (self.ptilde > 0))}, or drop the group",
                    )
            elif share > 0:
                low, high = max(low, group.lower / share), min(high, group.upper / share)
            elif group.lower > 0:
                raise ConstraintError(
                    f"group '{group.name}' holds only domains frozen at zero, so it must have no least total",
                    received=group.lower,
                    hint=f"release {self._listed(group.members)}",
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
