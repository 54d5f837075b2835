"""From observations to a law whose quality on held-out runs is known.

In a space with fixed proportions the law sees the totals of components only, and the prior keeps the proportions, so
that the optimum over leaves does too (laws.mapped).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.deciding.by_law import Progress, resampled_laws
from evermix.deciding.objectives import build_objective, over_what_is_left
from evermix.domain_updates import CollapsedSpace
from evermix.errors import ConstraintError, ObservationError
from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.mapped import LinearlyMappedLaw, on_sampled, on_totals
from evermix.laws.registry import law_class
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import LeftOut, Observations, without_mute_metrics
from evermix.observations.runs import scarcely_held
from evermix.recipe.decision import ObjectiveRecipe, PriorName, StudyRecipe
from evermix.trust.calibration import Calibration, calibrate

Floats = npt.NDArray[np.float64]
AUTO_ANY = "auto-any"


@dataclass(frozen=True)
class Prior:
    """A mixture over all domains, and where it comes from, a phrase for people."""

    mixture: Mixture
    source: str


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """A law fitted to observations, with what it is worth.

    Attributes:
        recipe: what was asked.
        observations: every run, in canonical order, and domain, without the metrics that no law can learn.
        law: fitted to their costs, over all domains.
        objective: over the law's costs.
        prior: over all domains.
        calibration: the law's held-out predictions.
        left_out: what was not used, and why.
        space: fixed proportions that the law and the prior keep; None for none.
        retired: domains that runs were trained on and that are gone: the law knows them, no mixture may hold them.
    """

    recipe: StudyRecipe
    observations: Observations
    law: MixingLaw
    objective: Objective
    prior: Prior
    calibration: Calibration
    left_out: tuple[LeftOut, ...]
    space: CollapsedSpace | None = None
    retired: tuple[str, ...] = ()

    @property
    def unsampled_domains(self) -> tuple[str, ...]:
        """Domains that no run was trained on: nothing is known of them, they keep their prior share.

        A domain that is fixed at a share of zero is not among them.
        """
        fixed_out = () if self.space is None else self.space.unused
        sampled = zip(self.observations.domains.names, self._seen.max(axis=0) > 0, strict=True)
        return tuple(name for name, was in sampled if not was and name not in fixed_out)

    @property
    def scarce_domains(self) -> dict[str, int]:
        """Domain -> runs that hold it, one or two: too few to tell what it does, so it keeps its prior share."""
        holders, scarce = (self._seen > 0).sum(axis=0), scarcely_held(self._seen)
        found = zip(self.observations.domains.names, holders.tolist(), scarce, strict=True)
        return {name: n for name, n, few in found if few and name not in self.retired}

    @property
    def _seen(self) -> Floats:
        """Shares that the law knows of, shape (runs, domains)."""
        weights = self.observations.weights
        return weights if self.space is None else self.space.expand(self.space.collapse(weights))

    @property
    def law_name(self) -> str:
        """The family, also where unsampled domains or a bundle wrap it."""
        law = self.law
        while isinstance(law, LinearlyMappedLaw):
            law = law.inner
        return law.name

    def resampled(self, n: int, progress: Progress | None = None) -> list[MixingLaw]:
        """The law refitted to resampled runs; see `resampled_laws`."""
        return resampled_laws(self.law, self.observations, n, self.recipe.seed, progress)

    def predict(self, mixture: Mixture) -> Floats:
        """The metrics in their own units at a mixture over all domains, shape (metrics,)."""
        return self.observations.orientation.value(self.law.predict(mixture.weights))


def fit(
    observations: Observations,
    recipe: StudyRecipe | None = None,
    left_out: tuple[LeftOut, ...] = (),
    space: CollapsedSpace | None = None,
    retired: tuple[str, ...] = (),
    where: Mapping[str, str | float] | None = None,
) -> FittedLaw:
    """Fit the recipe's law to the costs of all runs, weighted by their noise, and judge it on held-out runs.

    In what order the runs come changes nothing: see `Observations.in_canonical_order`.

        fitted = em.fit(em.read_observations("swarm").observations, em.StudyRecipe(seed=1))

    Args:
        left_out: what was left out of the observations before.
        space: fixed proportions, which the runs must keep; None for none.
        retired: domains of the observations that no mixture may hold.
        where: which runs, by their token budget or model size, `{"model_size": "60M"}`; see `Observations.where`.

    Raises:
        ObservationError: if the runs are of several model sizes or budgets, nothing remains that a law could learn, or
            the law refuses so few runs.
        RecipeError: if the law is not a known one.
        ConstraintError: if the objective names an unknown metric.
        MixtureError: if a domain at a fixed ratio has no mass in the prior.
    """
    recipe = recipe or StudyRecipe()
    chosen = observations.where(where or {})
    left_out = (*left_out, *not_chosen(observations, chosen, where or {}))
    chosen.check_one_budget()
    kept, dropped = _without_dropped_metrics(chosen.in_canonical_order(), recipe.objective)
    varying, mute = without_mute_metrics(kept)
    left_out = (*left_out, *dropped, *mute)
    prior = _prior(varying, recipe, space, retired)
    objective = build_objective(varying, over_what_is_left(recipe.objective, left_out))
    law = _law_over_all(varying, recipe, prior.mixture, space).fit(varying.runs)
    calibration = calibrate(law, varying, objective, seed=recipe.seed)
    return FittedLaw(recipe, varying, law, objective, prior, calibration, left_out, space, retired)


def not_chosen(
    observations: Observations, chosen: Observations, where: Mapping[str, str | float]
) -> tuple[LeftOut, ...]:
    """The runs of the observations that `where` has not chosen."""
    kept, asked = set(chosen.run_ids or ()), ", ".join(f"{name}={value}" for name, value in where.items())
    return tuple(
        LeftOut("run", run_id, f"not of {asked}, which where asks for")
        for run_id in observations.run_ids or ()
        if run_id not in kept
    )


def chosen_law(name: str, seed: int = 0) -> MixingLaw:
    """The unfitted law of a recipe: a family, `auto` among the convex ones, or `auto-any` among all.

    Raises:
        RecipeError: if there is none of that name.
    """
    if name == AUTO_ANY:
        return AutoLaw(seed=seed)
    if name == AutoLaw.name:
        return AutoLaw(seed=seed, convex=True)
    return law_class(name)()


def choose_prior(observations: Observations, asked: PriorName | dict[str, float]) -> Prior:
    """The prior asked for; `auto` is natural where every token count is known, else the swarm's mean.

    Raises:
        ConstraintError: if natural is asked for and a token count is unknown.
        DomainError, MixtureError: if given shares name an unknown domain or do not sum to 1.
    """
    domains = observations.domains
    known = domains.sizes_known
    if isinstance(asked, dict):
        return Prior(Mixture.from_dict(domains, asked), "given")
    if asked == "natural" and not known:
        missing = next(d.name for d in domains if d.size is None)
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


def _prior(
    observations: Observations, recipe: StudyRecipe, space: CollapsedSpace | None, retired: tuple[str, ...]
) -> Prior:
    """The prior over all domains: nothing for retired, and in a space with its proportions."""
    prior = choose_prior(observations, recipe.prior)
    if retired:
        gone = [name in retired for name in observations.domains.names]
        prior = Prior(
            Mixture.normalised(prior.mixture.domains, np.where(gone, 0.0, prior.mixture.weights)), prior.source
        )
    if space is not None:
        prior = Prior(space.prior(prior.mixture), f"{prior.source}, in the fixed proportions")
    return prior


def _law_over_all(
    observations: Observations, recipe: StudyRecipe, prior: Mixture, space: CollapsedSpace | None
) -> MixingLaw:
    """The law, told what it is over and what no run has seen."""
    law = chosen_law(recipe.law, recipe.seed)
    if space is None:
        return _among_sampled(law, observations.weights, prior)
    components = Mixture(space.components, space.collapse(prior.weights))
    return on_totals(_among_sampled(law, space.collapse(observations.weights), components), space)


def _among_sampled(law: MixingLaw, weights: Floats, prior: Mixture) -> MixingLaw:
    """The law, told which domains (or components) no run has seen; weights (runs, domains)."""
    seen = weights.max(axis=0) > 0
    if seen.all():
        return law
    unsampled_share = float(prior.weights[~seen].sum())
    if unsampled_share >= 1:
        named = ", ".join(name for name, was in zip(prior.domains.names, seen, strict=True) if was)
        raise ObservationError(
            "the prior must have mass on a domain that some run was trained on",
            received=prior.as_dict,
            hint=f"those are: {named}",
        )
    return on_sampled(law, seen, unsampled_share)


def _without_dropped_metrics(
    observations: Observations, asked: ObjectiveRecipe
) -> tuple[Observations, tuple[LeftOut, ...]]:
    """Readers may have dropped them already; a study's ledger and a caller's arrays still hold them."""
    dropped = asked.dropped(observations.metrics)
    if not dropped:
        return observations, ()
    kept = tuple(name for name in observations.metrics if name not in dropped)
    if not kept:
        raise ObservationError("at least one metric must be left", received=", ".join(asked.drop))
    left_out = tuple(LeftOut("metric", name, "asked for with drop") for name in observations.metrics if name in dropped)
    return observations.subset(metrics=kept), left_out
