"""From observations to a law whose quality on held-out runs is known."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.live import LiveLaw
from evermix.laws.registry import law_class
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import LeftOut, Observations
from evermix.recipe.study import StudyObjectiveRecipe, StudyRecipe
from evermix.study.prior import Prior, choose_prior
from evermix.trust.calibration import Calibration, calibrate

Floats = npt.NDArray[np.float64]
AUTO_ANY = "auto-any"


@dataclass(frozen=True, eq=False)
class FittedLaw:
    """A law fitted to observations, with what it is worth.

    Attributes:
        recipe: what was asked.
        observations: every run and domain, without the metrics that no law can learn.
        law: fitted to their costs, over all domains.
        objective: over the law's costs.
        prior: over all domains.
        calibration: the law's held-out predictions.
        left_out: what was not used, and why.
    """

    recipe: StudyRecipe
    observations: Observations
    law: MixingLaw
    objective: Objective
    prior: Prior
    calibration: Calibration
    left_out: tuple[LeftOut, ...]

    @property
    def dead_domains(self) -> tuple[str, ...]:
        """Domains that no run was trained on: nothing is known of them, they keep their prior share."""
        live = set(self.observations.live_domains)
        return tuple(name for name in self.observations.domains.names if name not in live)

    @property
    def law_name(self) -> str:
        """The family, also where dead domains wrap it."""
        return self.law.inner.name if isinstance(self.law, LiveLaw) else self.law.name

    def predict(self, mixture: Mixture) -> Floats:
        """The metrics in their own units at a mixture over all domains, shape (metrics,)."""
        return self.observations.orientation.value(self.law.predict(mixture.weights))


def fit(observations: Observations, recipe: StudyRecipe | None = None, left_out: tuple[LeftOut, ...] = ()) -> FittedLaw:
    """Fit the recipe's law to the costs of all runs, weighted by their noise, and judge it on held-out runs.

    Raises:
        ObservationError: if nothing remains that a law could learn, or the law refuses so few runs.
        RecipeError: if the law is not a known one.
        ConstraintError: if the objective names an unknown metric.
    """
    recipe = recipe or StudyRecipe()
    kept, dropped = _without_dropped_metrics(observations, recipe.objective)
    varying, constant = _without_constant_metrics(kept)
    prior = choose_prior(varying, recipe.prior)
    objective = build_objective(varying, recipe.objective)
    law = _law_over_all(varying, recipe.law, recipe.seed, prior.mixture).fit(
        varying.weights, varying.costs, varying.sigma
    )
    calibration = calibrate(law, varying, objective, seed=recipe.seed)
    return FittedLaw(recipe, varying, law, objective, prior, calibration, left_out + dropped + constant)


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


def build_objective(observations: Observations, asked: StudyObjectiveRecipe) -> Objective:
    """The recipe's weights over the observations' metrics."""
    metrics = observations.metrics
    if asked.groups is not None:
        objective = Objective.from_groups(metrics, asked.groups, asked.group_weights)
    else:
        objective = Objective.from_dict(metrics, asked.weights, "metric")
    if asked.unit == "deviations":
        spread = np.nanstd(observations.costs, axis=0)
        return Objective(metrics, tuple(np.array(objective.weights) / spread), "metric")
    return objective


def _law_over_all(observations: Observations, name: str, seed: int, prior: Mixture) -> MixingLaw:
    """The law, told which domains no run has seen."""
    law = chosen_law(name, seed)
    seen = set(observations.live_domains)
    live = tuple(domain in seen for domain in observations.domains.names)
    if all(live):
        return law
    dead_share = sum(share for share, alive in zip(prior.weights.tolist(), live, strict=True) if not alive)
    if dead_share >= 1:
        raise ObservationError(
            "the prior must have mass on a domain that some run was trained on",
            received=prior.as_dict,
            hint=f"those are: {', '.join(observations.live_domains)}",
        )
    return LiveLaw(law, live, dead_share)


def _without_dropped_metrics(
    observations: Observations, asked: StudyObjectiveRecipe
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


def _without_constant_metrics(observations: Observations) -> tuple[Observations, tuple[LeftOut, ...]]:
    costs = observations.costs
    known = np.isfinite(costs)
    spread = np.where(known, costs, -np.inf).max(axis=0) - np.where(known, costs, np.inf).min(axis=0)
    varies = spread > 0
    if varies.all():
        return observations, ()
    if not varies.any():
        raise ObservationError("at least one metric must differ between runs", received=", ".join(observations.metrics))
    kept = tuple(name for name, good in zip(observations.metrics, varies, strict=True) if good)
    reason = "the same value in every run: no law can learn from it"
    dropped = (name for name, good in zip(observations.metrics, varies, strict=True) if not good)
    return observations.subset(metrics=kept), tuple(LeftOut("metric", name, reason) for name in dropped)
