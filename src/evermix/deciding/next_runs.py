"""Which runs a study asks for: a version's design first, then, given what is known, those worth most."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Constraints
from evermix.deciding.fitting import FittedLaw, fit
from evermix.deciding.proposing import best_mixture
from evermix.designs import (
    DirichletOptions,
    LevelOptions,
    SpaceFillingOptions,
    SwarmRules,
    dirichlet_design,
    nested_design,
    representative,
    space_filling_design,
)
from evermix.designs.adaptive import adaptive_design, candidate_pool
from evermix.designs.settled import Settledness, StoppingRule, how_settled, recommended_runs
from evermix.domain_updates import CollapsedSpace
from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError
from evermix.mixture import Mixture
from evermix.observations import Observations, Runs
from evermix.observations.runs import FEWEST_HOLDERS, canonical_order
from evermix.recipe.decision import ProposalRecipe, StudyRecipe
from evermix.recipe.measured import DesignKind, DesignRecipe, LevelRecipe, ScatterRecipe

Floats = npt.NDArray[np.float64]
_N_OPTIMA = 6  # resampled laws whose optima seed the candidates
_DISTINCT = 1e-6  # greatest difference of a share within which two mixtures are one
_POOL_PER_RUN = 16  # draws that each run of a later version stands for
_TO_MEASURED = 0.5  # share of a later version's runs that goes to what it is about


_NEXT_RUNS = 8
RULE = StoppingRule()


@dataclass(frozen=True, eq=False)
class Designed:
    """Mixtures to measure.

    Attributes:
        kind: of the design: that of a first swarm, or adaptive.
        prior: what it is drawn around.
        runs: run id -> mixture, the most valuable first if it is adaptive.
        settled: how much more runs could still change the mixture; None for a first swarm.
    """

    kind: str
    prior: Mixture
    runs: Mapping[str, Mixture]
    settled: Settledness | None = None

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        settled = None
        if self.settled is not None:
            settled = {
                "n_runs": self.settled.n_runs,
                "total_variation": RULE.total_variation,
                "confidence": RULE.confidence,
                "change": self.settled.change(confidence=RULE.confidence),
                "change_of_next": self.settled.change(len(self.runs), RULE.confidence),
                "gain": self.settled.gain(confidence=RULE.confidence),
                "runs_until": self.settled.runs_until(RULE),
            }
        return {
            "kind": self.kind,
            "prior": dict(self.prior.as_dict),
            "n_tokens": {d.name: d.n_tokens for d in self.prior.domains},
            "runs": [{"run": run_id, "mixture": dict(mixture.as_dict)} for run_id, mixture in self.runs.items()],
            "settled": settled,
        }


def design(
    source: DomainSet | Mapping[str, int] | Observations,
    recipe: StudyRecipe | None = None,
    n_runs: int | None = None,
    pending: Sequence[Mixture] = (),
) -> Designed:
    """Choose the mixtures to measure: a first swarm over domains, or the runs worth most after those measured.

        designed = em.design({"web": 900_000_000_000, "code": 100_000_000_000}, n_runs=8)

    Args:
        source: domains, or their tokens by name, for a first swarm, as the recipe's `design` says; or the runs so far.
        recipe: law, prior, design, seed; and for the next runs the objective.
        n_runs: None for as many as the law wants of a first swarm, and 8 next ones.
        pending: mixtures that are being measured.

    Raises:
        EvermixError: the design does not fit the domains, or the runs are too few for a law.
    """
    recipe = recipe or StudyRecipe()
    if isinstance(source, Observations):
        fitted = fit(source, recipe)
        mixtures = next_mixtures(fitted, n_runs or _NEXT_RUNS, pending, seed=source.n_runs)
        runs = _named(mixtures, source.n_runs + len(pending), source.run_ids or ())
        return Designed("adaptive", fitted.prior.mixture, runs, settled(fitted))
    domains = source if isinstance(source, DomainSet) else DomainSet(Domain(name, n) for name, n in source.items())
    mixtures = first_design(DesignRequest(domains, n_runs), recipe)
    kind = design_kind(recipe.design, domains)
    return Designed(kind, prior_before_runs(domains, recipe), _named(mixtures, 0, ()))


def _named(mixtures: Sequence[Mixture], first: int, taken: Collection[str]) -> dict[str, Mixture]:
    """Run id -> mixture; numbers go on after the runs made, past ids that are taken."""
    found: dict[str, Mixture] = {}
    number = first
    for mixture in mixtures:
        while f"run-{number:04d}" in taken:
            number += 1
        found[f"run-{number:04d}"] = mixture
        number += 1
    return found


@dataclass(frozen=True, eq=False)
class DesignRequest:
    """What the runs of a version are to tell about.

    Attributes:
        domains: the leaves.
        n_runs: None for as many as the law needs.
        version: number; each has a design of its own.
        space: the mixtures to stay within; None for all.
        measured: leaves that the runs are about; empty for all alike.
        in_hand: (runs, leaves), mixtures that are known already and need not be made again.
    """

    domains: DomainSet
    n_runs: int | None = None
    version: int = 0
    space: CollapsedSpace | None = None
    measured: tuple[str, ...] = ()
    in_hand: Floats | None = None


def prior_before_runs(domains: DomainSet, recipe: StudyRecipe) -> Mixture:
    """The recipe's prior while no swarm has a mean: natural where token counts are known, else uniform."""
    asked = recipe.prior
    if isinstance(asked, dict):
        return Mixture.from_dict(domains, asked)
    known = domains.sizes_known
    return Mixture.natural(domains) if known and asked != "uniform" else Mixture.uniform(domains)


def runs_for(n_domains: int, recipe: ProposalRecipe) -> int:
    """Runs that the recipe's law wants over so many domains; `auto` counts as power-link, its usual choice."""
    return recommended_runs(n_domains, "power-link" if recipe.law == "auto" else recipe.law)


def runs_per_domain(recipe: StudyRecipe) -> int:
    """Runs that one more domain costs: c of c (m + 1)."""
    return runs_for(2, recipe) - runs_for(1, recipe)


def first_design(asked: DesignRequest, recipe: StudyRecipe) -> list[Mixture]:
    """The swarm that a version begins with, by levels where names are nested.

    The first version, and a full recomputation, draw around the prior as the recipe's design says. Where the runs are
    about some domains, those get half of the mass on average (a new domain is often a sliver of the whole, of which a
    swarm around the prior would learn nothing), and the design is the part of a larger swarm that stands for it best
    beside the runs in hand. In a space the components are drawn, and expanded. Of the design's settings only kind and
    scatter hold then: its rules and levels are of the domains that the recipe was written for.

    Raises:
        MixtureError, ConstraintError: if the design does not fit the domains.
    """
    prior = prior_before_runs(asked.domains, recipe)
    n = runs_for(int((prior.weights > 0).sum()), recipe) if asked.n_runs is None else asked.n_runs
    rng = np.random.default_rng([recipe.seed, asked.version])
    if n == 0:
        return []
    if asked.space is None and not asked.measured:
        return draw_swarm(prior, n, rng, recipe.design)
    base, space = _towards_measured(prior, asked), asked.space
    scatter = DesignRecipe(**{key: getattr(recipe.design, key) for key in ("kind", *ScatterRecipe.model_fields)})
    pool = np.array([mixture.weights for mixture in draw_swarm(base, _POOL_PER_RUN * n, rng, scatter)])
    known = asked.in_hand
    if known is not None and space is not None:
        known = space.collapse(known)
    chosen = pool[representative(pool, n, known)]
    rows = chosen if space is None else space.expand(chosen)
    return [Mixture(asked.domains, row) for row in rows]


def draw_swarm(prior: Mixture, n: int, rng: np.random.Generator, asked: DesignRecipe) -> list[Mixture]:
    """n mixtures around a prior, or over the whole simplex, as a design asks.

    Raises:
        MixtureError: if a level's names fit no node.
        ConstraintError: if caps and floor leave no mixture, or name no domain.
    """
    domains, kind = prior.domains, design_kind(asked, prior.domains)
    bounds = Constraints(None, asked.floor, caps=asked.caps).bounds(domains, 1.0) if asked.caps or asked.floor else None
    coverage = min(FEWEST_HOLDERS, n) if asked.coverage is None else asked.coverage
    rules = SwarmRules(bounds, coverage, asked.grid)
    if kind == "space-filling":
        return space_filling_design(
            domains, n, rng, SpaceFillingOptions(minimum_weight=asked.minimum_weight or 0.0), rules
        )
    if kind == "nested":
        depth = max(name.count(":") + 1 for name in domains.names)
        levels = [asked.level(number) for number in range(max(depth, len(asked.levels)))]
        return nested_design(prior, n, rng, [_level(each) for each in levels], rules)
    return dirichlet_design(prior, n, rng, _scatter(asked, kind), rules)


def design_kind(asked: DesignRecipe, domains: DomainSet) -> DesignKind:
    """The kind of a design; `auto` is nested where names are, else dirichlet."""
    if asked.kind != "auto":
        return asked.kind
    return "nested" if any(":" in name for name in domains.names) else "dirichlet"


def _scatter(asked: ScatterRecipe, kind: DesignKind) -> DirichletOptions:
    presets = {"sparse": DirichletOptions.sparse(), "dense": DirichletOptions.dense()}
    preset = presets.get(kind, DirichletOptions())
    return replace(
        preset,
        strength=asked.strength or preset.strength,
        temperature=asked.temperature,
        minimum_weight=preset.minimum_weight if asked.minimum_weight is None else asked.minimum_weight,
    )


def _level(asked: LevelRecipe) -> LevelOptions:
    kept = asked.fixed_ratio
    return LevelOptions(_scatter(asked, "nested"), asked.prior, kept if isinstance(kept, bool) else frozenset(kept))


def next_mixtures(fitted: FittedLaw, n: int, pending: Sequence[Mixture] = (), seed: int = 0) -> list[Mixture]:
    """The n mixtures worth most beside the runs made and those still pending, most valuable first.

    A pending run counts as made, with the value that the law foretells: asking twice is asking for other mixtures. A
    mixture that was run is not asked for again.

    Raises:
        ObservationError: if fewer than 4 runs are known.
    """
    runs, law = fitted.observations.runs, fitted.law
    if pending:
        waiting = np.array([mixture.weights for mixture in pending])
        waiting = waiting[canonical_order(waiting)]
        runs = Runs(np.vstack([runs.mixtures, waiting]), np.vstack([runs.values, law.predict(waiting)]))
    rng = np.random.default_rng([fitted.recipe.seed, seed])
    laws = [law, *fitted.resampled(_N_OPTIMA)]
    pool = _new(_candidates(fitted, [best_mixture(fitted, one) for one in laws], rng), runs.mixtures)
    if len(pool) < n:
        raise ObservationError(f"at most {len(pool)} runs can be asked for at once", received=n)
    return adaptive_design(law, runs, fitted.objective.value, pool, n, rng)


def settled(fitted: FittedLaw, n_resamples: int = 30) -> Settledness:
    """How much more runs could still change the mixture; see designs.StoppingRule."""
    runs, rng = fitted.observations.runs, np.random.default_rng(fitted.recipe.seed)
    value = fitted.objective.value
    return how_settled(fitted.law, runs, value, lambda law: best_mixture(fitted, law), rng, n_resamples)


def _towards_measured(prior: Mixture, asked: DesignRequest) -> Mixture:
    """The middle of a version's swarm: half the prior, half even over what it is about (in a space: its components)."""
    if asked.space is None:
        names = asked.domains.names
        even = np.array([name in asked.measured for name in names], dtype=np.float64)
        even *= prior.weights > 0
    else:
        prior = Mixture(asked.space.components, asked.space.collapse(prior.weights))
        even = (prior.weights > 0).astype(np.float64)
    if even.sum() == 0:
        return prior
    return prior.blend(Mixture.normalised(prior.domains, even), _TO_MEASURED)


def _new(pool: Sequence[Mixture], known: Floats) -> list[Mixture]:
    """The candidates that are no run yet; known (runs, domains)."""
    return [mixture for mixture in pool if np.abs(known - mixture.weights).max(axis=1).min() > _DISTINCT]


def _candidates(fitted: FittedLaw, optima: Sequence[Mixture], rng: np.random.Generator) -> list[Mixture]:
    """Mixtures that may be worth a run; in a space its components are scattered, and expanded."""
    rules, space, prior = SwarmRules(coverage=0), fitted.space, fitted.prior.mixture
    if space is None:
        return candidate_pool(prior, optima, rng, rules=rules)
    centre, *others = [Mixture(space.components, space.collapse(each.weights)) for each in (prior, *optima)]
    pool = candidate_pool(centre, others, rng, rules=rules)
    return [Mixture(space.leaves, space.expand(each.weights)) for each in pool]
