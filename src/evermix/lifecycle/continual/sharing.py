"""What a stage's decision shares out: the domains learnt before as one virtual domain, and the new ones beside it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from evermix.constraints import Bounds
from evermix.domain_updates import CollapsedSpace
from evermix.domains import DomainSet
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.life import Life
from evermix.measure.probes import Component
from evermix.mixture import Mixture
from evermix.recipe.timeline import Phase

_OLD = "old"


@dataclass(frozen=True)
class Sharing:
    """The components of one decision.

    Attributes:
        leaves: the stage's domains, with their rows.
        old: the proportions in which those learnt before were used, over `leaves`.
        space: `old` bundled but for what is released; None where everything is a component of its own.
        released: domains learnt before whose shares are decided anew.
    """

    leaves: DomainSet
    old: Mixture
    space: CollapsedSpace | None
    released: tuple[str, ...]

    @classmethod
    def of_all(cls, bench: LifeBench, life: Life, names: Sequence[str]) -> Sharing | None:
        """Every domain a component of its own; None where none of them was learnt before."""
        old = life.proportions(names)
        return None if old is None else cls(bench.leaves(names), old, None, tuple(names))

    @classmethod
    def of(cls, bench: LifeBench, life: Life, stage: Phase, released: Sequence[str] = ()) -> Sharing | None:
        """The components of a stage; None where there is nothing to decide, for nothing learnt before is left."""
        leaves = bench.leaves(stage.domains)
        known = life.proportions(stage.known) if stage.known else None
        if known is None:
            return None
        old = Mixture.from_dict(leaves, known.as_dict)
        bundled = {name: share for name, share in known.as_dict.items() if share > 0 and name not in released}
        name = _OLD if _OLD not in leaves else f"{_OLD} domains"
        space = CollapsedSpace.freeze(leaves, bundled, name) if sum(bundled.values()) > 0 else None
        return cls(leaves, old, space, tuple(released))

    @cached_property
    def components(self) -> DomainSet:
        """What gets a share: the bundle first, then released and new domains."""
        return self.leaves if self.space is None else self.space.components

    @cached_property
    def old_shares(self) -> Mixture:
        """The proportions used so far, over the components."""
        return self.shares_of(self.old)

    def expand(self, shares: Mixture) -> Mixture:
        """Shares of components as a mixture of leaves."""
        return Mixture(self.leaves, shares.weights if self.space is None else self.space.expand(shares.weights))

    @property
    def own(self) -> tuple[int, ...]:
        """Per leaf, the position of the component that it belongs to."""
        if self.space is None:
            return tuple(range(len(self.leaves)))
        return tuple(self.space.totals.argmax(axis=1).tolist())

    def bounds(self, bench: LifeBench, life: Life, n_rows: int) -> Bounds:
        """Bounds on the components' shares of `n_rows`.

        Raises:
            ConstraintError: if no shares are allowed.
        """
        bundled = () if self.space is None else self.space.frozen
        bounds = bench.bounds(life, self.leaves.names, bundled, n_rows)
        if self.space is None:
            return bounds
        found = self.space.component_bounds(bounds)
        lower = found.lower.copy()
        lower[0] = min(max(lower[0], bench.recipe.constraints.floor), found.upper[0])
        return replace(found, lower=lower)

    def mixture_of(self, new_share: float, new: Sequence[str]) -> Mixture:
        """`new_share` spread evenly over the new domains, the rest in the old proportions; over leaves."""
        pure = Mixture.normalised(self.leaves, [float(name in new) for name in self.leaves.names])
        return self.old.blend(pure, new_share)

    def parts(self, purities: Sequence[float], *, own_probes: bool) -> tuple[Component, ...]:
        """What the probes are trained on (METHODS 2): one new domain has a probe per purity, the rest is `old`.

        Several new domains have one probe each, of the last purity, beside one of `old` as it is.

        Args:
            own_probes: whether released domains have probes of their own. A law of each domain's own share needs none:
                in the others they are seen at several shares.
        """
        probed = [n for n in self.leaves.names if self.old[n] <= 0 or (own_probes and n in self.released)]
        if len(probed) == 1:
            return tuple(self._part(probed[0], purity, f"{probed[0]}@{purity:g}") for purity in purities)
        found = [self._part(name, purities[-1], name) for name in probed]
        return (Component(_OLD, self.old, self.old_shares, 0.0), *found)

    def _part(self, domain: str, purity: float, name: str) -> Component:
        mixture = self.old.blend(Mixture.from_dict(self.leaves, {domain: 1.0}), purity)
        return Component(name, mixture, self.shares_of(mixture), purity)

    def shares_of(self, mixture: Mixture) -> Mixture:
        """The components' totals of a mixture of leaves."""
        weights = mixture.weights if self.space is None else self.space.collapse(mixture.weights)
        return Mixture(self.components, weights)

    def prior(self, leaves: Mixture) -> Mixture:
        """The component mixture to which KL is that of the expanded leaves to `leaves`, up to a constant."""
        return leaves if self.space is None else self.shares_of(self.space.prior(leaves))
