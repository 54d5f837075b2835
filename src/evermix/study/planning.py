"""What an update would cost: for each strategy, what is at a fixed ratio, what is measured, and how many runs.

The runs of a strategy (Olmix, arXiv 2602.12237; c = 3 for log-linear, 2 for power-link, m' leaves after the update,
A the affected ones and those recomputed):

    full      c (m' + 1), all new
    swarm     c (m' + 1), less the runs that can be carried over; at least c |A| new ones
    mixture, partial, auto
              c (|A| + 1), at least one more than there are components, less the runs that lie in the space already,
              which count for at most half; none where nothing is affected: the mixture is renormalised
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evermix.deciding.next_runs import prior_before_runs, runs_for, runs_per_domain
from evermix.domain_updates import CollapsedSpace, DomainUpdate, Lineage
from evermix.domains import DomainSet
from evermix.errors import DomainError, ProjectError
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study.run_reuse import CarriedRuns, carry_runs
from evermix.study.state import State
from evermix.study.versions import FIXING, STRATEGIES, Strategy

_NAME = "fixed ratio"


@dataclass(frozen=True, eq=False)
class StrategyPlan:
    """One way to the mixture after an update.

    Attributes:
        strategy: its name.
        domains: the leaves after it.
        space: the mixtures considered; None for all.
        measured: leaves that the new runs are about; empty for all alike.
        recomputed: those of them that the update leaves alone.
        n_needed: runs that the law wants.
        n_reused: runs in hand that count among them.
        n_runs: runs to be made.
        carried: the mixture, where it needs no runs; None where they decide.
    """

    strategy: Strategy
    domains: DomainSet
    space: CollapsedSpace | None
    measured: tuple[str, ...]
    recomputed: tuple[str, ...]
    n_needed: int
    n_reused: int
    n_runs: int
    carried: Mixture | None = None

    @property
    def fixed_ratio(self) -> dict[str, float]:
        """Leaf -> share within the bundle; empty without one."""
        return {} if self.space is None else {name: self.space.virtual.inner[name] for name in self.space.fixed_ratio}

    @property
    def components(self) -> tuple[str, ...]:
        """What is mixed: leaves, and the bundle by its name."""
        return self.domains.names if self.space is None else self.space.components.names

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "strategy": self.strategy,
            "fixed_ratio": self.fixed_ratio,
            "components": list(self.components),
            "measured": list(self.measured),
            "recomputed": list(self.recomputed),
            "n_needed": self.n_needed,
            "n_reused": self.n_reused,
            "n_runs": self.n_runs,
            "carried": None if self.carried is None else dict(self.carried.as_dict),
        }


@dataclass(frozen=True, eq=False)
class UpdatePlan:
    """An update and every way to deal with it.

    Attributes:
        version: number of the version that it changes.
        update: the change.
        domains: after it.
        lineage: of every domain after it.
        strategy: the one asked for.
        strategies: those that can be had.
        unavailable: the others, and why.
    """

    version: int
    update: DomainUpdate
    domains: DomainSet
    lineage: tuple[Lineage, ...]
    strategy: Strategy
    strategies: Mapping[Strategy, StrategyPlan]
    unavailable: Mapping[Strategy, str]

    @property
    def chosen(self) -> StrategyPlan:
        """The plan asked for.

        Raises:
            ProjectError: if it cannot be had.
        """
        if self.strategy not in self.strategies:
            raise ProjectError(
                f"strategy '{self.strategy}' {self.unavailable[self.strategy]}",
                hint="propose() before the update, or take one of: " + ", ".join(self.strategies),
            )
        return self.strategies[self.strategy]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "version": self.version,
            "update": self.update.as_dict,
            "domains": list(self.domains.names),
            "lineage": [vars(each) for each in self.lineage],
            "strategy": self.strategy,
            "strategies": {name: plan.as_dict for name, plan in self.strategies.items()},
            "unavailable": dict(self.unavailable),
        }


def plan_update(
    state: State, recipe: StudyRecipe, update: DomainUpdate, strategy: Strategy = "auto", recompute: Sequence[str] = ()
) -> UpdatePlan:
    """Every strategy for an update of the current version.

    Args:
        recipe: over the domains after the update.
        recompute: for strategy partial: unaffected domains, by their names after the update, to be measured anew too.

    Raises:
        DomainError: if the update does not fit the domains, or `recompute` names none that it leaves alone.
        ProjectError: if the strategy is unknown, or `recompute` is given for another one.
    """
    if strategy not in STRATEGIES:
        raise ProjectError("a strategy must be a known one", received=strategy, hint=f"known: {', '.join(STRATEGIES)}")
    if (strategy == "partial") != bool(recompute):
        raise ProjectError(
            "strategy partial, and no other, must name the domains to recompute",
            received=f"{strategy}, {', '.join(recompute) or 'none'}",
            hint="strategy='partial', recompute=(...); or auto, which chooses them",
        )
    before = state.version
    lineage = update.lineage(before.domains)
    ways = _Ways(state, recipe, update, tuple(dict.fromkeys(recompute)))
    plans: dict[Strategy, StrategyPlan] = {}
    unavailable: dict[Strategy, str] = {}
    for name in STRATEGIES:
        found = ways.plan(name)
        if isinstance(found, str):
            unavailable[name] = found
        else:
            plans[name] = found
    return UpdatePlan(before.number, update, ways.after, lineage, strategy, plans, unavailable)


def plan_recomputation(state: State, recipe: StudyRecipe, names: Sequence[str]) -> StrategyPlan:
    """The wider space of the current version, and the runs it still needs.

    Raises:
        ProjectError: if nothing is at a fixed ratio. DomainError: if one of the names is not. MixtureError: if nothing
            with a share would stay so.
    """
    version = state.version
    if version.space is None:
        raise ProjectError(
            "a version must have domains at a fixed ratio, so that some can be recomputed",
            received="none at a fixed ratio",
        )
    space = version.space.recomputed(names)
    recomputed = tuple(dict.fromkeys((*version.recomputed, *names)))
    measured = (*version.measured, *(name for name in names if name not in version.measured))
    needed = max(runs_for(len(measured), recipe), len(space.components) + 1)
    told = len(carry_runs(state.measured.values(), state.versions.path()).within(space).rows)
    reused = min(told + len(state.pending()), needed // 2)
    return StrategyPlan(
        version.strategy, version.domains, space, measured, recomputed, needed, reused, max(needed - reused, 0)
    )


@dataclass(frozen=True, eq=False)
class _Ways:
    """The strategies for one update."""

    state: State
    recipe: StudyRecipe
    update: DomainUpdate
    recompute: tuple[str, ...]

    def __post_init__(self) -> None:
        unaffected = self.unaffected
        for name in self.recompute:
            if name not in unaffected:
                raise DomainError(
                    "only a domain that the update leaves alone can be recomputed",
                    received=name,
                    hint=f"those are: {', '.join(unaffected) or 'none'}",
                )

    @property
    def before(self) -> DomainSet:
        return self.state.domains

    @property
    def after(self) -> DomainSet:
        return self.update.apply(self.before)

    @property
    def affected(self) -> tuple[str, ...]:
        return self.update.affected(self.before)

    @property
    def unaffected(self) -> tuple[str, ...]:
        return self.update.unaffected(self.before)

    def plan(self, strategy: Strategy) -> StrategyPlan | str:
        """The strategy, or the end of the sentence "strategy ... " that says why it cannot be had."""
        if strategy in FIXING:
            return self._fixing(strategy)
        needed = runs_for(int((prior_before_runs(self.after, self.recipe).weights > 0).sum()), self.recipe)
        if strategy == "full":
            return StrategyPlan(strategy, self.after, None, (), (), needed, 0, needed)
        in_hand = len(self._carried().rows)
        least = max(runs_per_domain(self.recipe) * len(self.affected), len(self.affected) + 1) if self.affected else 0
        n_runs = max(needed - in_hand, least)
        reused = needed - n_runs if n_runs < needed else 0
        return StrategyPlan(strategy, self.after, None, self.affected, (), needed, reused, n_runs)

    def _fixing(self, strategy: Strategy) -> StrategyPlan | str:
        recompute = self.recompute if strategy == "partial" else ()
        if strategy == "partial" and not recompute:
            return "needs the names of the domains to recompute"
        measured = (*self.affected, *recompute)
        mixture = self.state.mixture
        if not measured:
            return self._without_runs(strategy, mixture)
        kept = {} if mixture is None else self.update.kept(mixture)
        kept = {name: share for name, share in kept.items() if name not in recompute}
        if sum(kept.values()) <= 0:
            if strategy == "auto" and (mixture is not None or not self.unaffected):
                return self._as_auto_without_bundle()
            return (
                "needs a mixture whose ratio is kept"
                if mixture is None
                else "needs unaffected domains with a share to keep"
            )
        space = CollapsedSpace.fix(self.after, kept, self._free_name())
        needed = max(runs_for(len(measured), self.recipe), len(space.components) + 1)
        reused = min(len(self._carried().within(space).rows), needed // 2)
        return StrategyPlan(strategy, self.after, space, measured, recompute, needed, reused, needed - reused)

    def _without_runs(self, strategy: Strategy, mixture: Mixture | None) -> StrategyPlan | str:
        """Nothing is affected: the mixture is renormalised, and a space keeps what is left of its bundle."""
        carried = None
        if mixture is not None:
            kept = self.update.kept(mixture)
            if sum(kept.values()) <= 0:
                return "needs remaining domains with a share in the mixture"
            carried = Mixture.normalised(self.after, [kept.get(name, 0.0) for name in self.after.names])
        return StrategyPlan(strategy, self.after, self._rest_of_space(), (), (), 0, 0, 0, carried)

    def _rest_of_space(self) -> CollapsedSpace | None:
        space = self.state.version.space
        if space is None:
            return None
        rows = self.update.lineage(self.before)
        left = {
            e.name: space.virtual.inner[e.source]
            for e in rows
            if e.source is not None and e.source in space.fixed_ratio
        }
        return CollapsedSpace.fix(self.after, left, self._free_name()) if sum(left.values()) > 0 else None

    def _as_auto_without_bundle(self) -> StrategyPlan:
        """Where there is no ratio to keep, auto is full."""
        full = self.plan("full")
        assert isinstance(full, StrategyPlan)
        return StrategyPlan("auto", full.domains, None, (), (), full.n_needed, 0, full.n_runs)

    def _carried(self) -> CarriedRuns:
        return carry_runs(self.state.measured.values(), self.state.versions.then(self.update).path())

    def _free_name(self) -> str:
        name = _NAME
        while name in self.after:
            name += "'"
        return name
