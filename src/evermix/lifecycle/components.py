"""MixtureComponents: what a decision shares out: known domains, as one virtual domain or each, and new ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from evermix.constraints import Bounds
from evermix.designs.balanced import balanced_design
from evermix.domain_updates import CollapsedSpace
from evermix.domains import DomainSet
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.history import DataHistory
from evermix.measure.probes import Component
from evermix.mixture import Mixture
from evermix.recipe.phases import Phase

OLD = "old"
_LEAST_SEEN = 0.05  # of a design's centre, for components that it leaves out


@dataclass(frozen=True)
class MixtureComponents:
    """The components of one decision.

    Attributes:
        leaves: the phase's domains, with their rows.
        old: the proportions in which known domains were used, over `leaves`; None where nothing was trained on.
        space: known domains at a fixed ratio as one component, but for what is recomputed; None where every domain is a
            component of its own.
        recomputed: known domains whose shares are decided anew.
    """

    leaves: DomainSet
    old: Mixture | None
    space: CollapsedSpace | None
    recomputed: tuple[str, ...]

    @classmethod
    def of_all(cls, context: RunContext, history: DataHistory, names: Sequence[str]) -> MixtureComponents:
        """Every domain a component of its own."""
        return cls(context.leaves(names), history.proportions(names), None, tuple(names))

    @classmethod
    def beside_known(
        cls, context: RunContext, history: DataHistory, phase: Phase, recomputed: Sequence[str] = ()
    ) -> MixtureComponents | None:
        """New domains beside what was learnt before; None where nothing learnt before is left, or nothing is new."""
        leaves = context.leaves(phase.domains)
        known = history.proportions(phase.known) if phase.known else None
        if known is None or not phase.new:
            return None
        old = Mixture.from_dict(leaves, known.as_dict)
        bundled = {name: share for name, share in known.as_dict.items() if share > 0 and name not in recomputed}
        name = OLD if OLD not in leaves else f"{OLD} domains"
        space = CollapsedSpace.fix(leaves, bundled, name) if sum(bundled.values()) > 0 else None
        return cls(leaves, old, space, tuple(recomputed))

    @cached_property
    def components(self) -> DomainSet:
        """What gets a share: the bundle first, then recomputed and new domains."""
        return self.leaves if self.space is None else self.space.components

    @property
    def used(self) -> Mixture:
        """`old`, where there is such."""
        assert self.old is not None, "nothing was trained on before"
        return self.old

    @cached_property
    def old_shares(self) -> Mixture:
        """The proportions used so far, over the components."""
        return self.shares_of(self.used)

    def expand(self, shares: Mixture) -> Mixture:
        """Shares of components as a mixture of leaves."""
        return Mixture(self.leaves, shares.weights if self.space is None else self.space.expand(shares.weights))

    @property
    def own(self) -> tuple[int, ...]:
        """Per leaf, the position of the component that it belongs to."""
        if self.space is None:
            return tuple(range(len(self.leaves)))
        return tuple(self.space.totals.argmax(axis=1).tolist())

    def bounds(self, context: RunContext, history: DataHistory, n_rows: int) -> Bounds:
        """Bounds on the components' shares of `n_rows`.

        Raises:
            ConstraintError: if no shares are allowed.
        """
        bundled = () if self.space is None else self.space.fixed_ratio
        bounds = context.bounds(history, self.leaves.names, bundled, n_rows)
        if self.space is None:
            return bounds
        found = self.space.component_bounds(bounds)
        lower = found.lower.copy()
        lower[0] = min(max(lower[0], context.recipe.constraints.floor), found.upper[0])
        return replace(found, lower=lower)

    def mixture_of(self, new_share: float, new: Sequence[str]) -> Mixture:
        """`new_share` spread evenly over the new domains, the rest in the old proportions; over leaves."""
        pure = Mixture.normalised(self.leaves, [float(name in new) for name in self.leaves.names])
        return self.used.blend(pure, new_share)

    def parts(
        self, purities: Sequence[float], *, own_probes: bool, every_purity: bool = False
    ) -> tuple[Component, ...]:
        """What the probes are trained on (METHODS 2): one probed domain has a probe per purity, the rest is `old`.

        Several of them have a probe each beside one of `old` as it is, at every purity or at the last one.

        Args:
            own_probes: whether recomputed domains have probes of their own. A law of each domain's own share needs
                none: in the others they are seen at several shares.
            every_purity: of several probed domains.
        """
        probed = [n for n in self.leaves.names if self.used[n] <= 0 or (own_probes and n in self.recomputed)]
        if len(probed) == 1:
            return tuple(self._part(probed[0], purity, f"{probed[0]}@{purity:g}") for purity in purities)
        asked = purities if every_purity else purities[-1:]
        found = [
            self._part(name, purity, name if len(asked) == 1 else f"{name}@{purity:g}")
            for purity in asked
            for name in probed
        ]
        return (Component(OLD, self.used, self.old_shares), *found)

    def _part(self, domain: str, purity: float, name: str) -> Component:
        mixture = self.used.blend(Mixture.from_dict(self.leaves, {domain: 1.0}), purity)
        return Component(name, mixture, self.shares_of(mixture))

    def designed(self, centre: Mixture, n: int, levels: tuple[float, ...], seed: int) -> tuple[Component, ...]:
        """What designed probes are trained on: mixtures in which every component takes every level equally often.

        Their number does not grow with that of the components.

        Args:
            centre: over the components; one of no share gets an even part of a twentieth, so that it is seen.
            n, levels: see `designs.balanced_design`.
            seed: of the levels that are drawn.

        Raises:
            MixtureError: on levels or n out of range.
        """
        if centre.weights.min() <= 0:
            centre = centre.blend(Mixture.uniform(self.components), _LEAST_SEEN)
        drawn = balanced_design(centre, n, levels, np.random.default_rng(seed))
        return tuple(
            Component(f"mixture {number}", self.expand(shares), shares) for number, shares in enumerate(drawn, 1)
        )

    def shares_of(self, mixture: Mixture) -> Mixture:
        """The components' totals of a mixture of leaves."""
        weights = mixture.weights if self.space is None else self.space.collapse(mixture.weights)
        return Mixture(self.components, weights)

    def prior(self, leaves: Mixture) -> Mixture:
        """The component mixture to which KL is that of the expanded leaves to `leaves`, up to a constant."""
        return leaves if self.space is None else self.shares_of(self.space.prior(leaves))
