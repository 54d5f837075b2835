"""From a recipe and a fitted law to the problem that the solver gets: bounds, guards, KL weight, reference mixtures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, Constraints, NoRegression
from evermix.deciding.fitting import FittedLaw
from evermix.errors import ConstraintError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.recipe.decision import GuardRecipe, StudyRecipe
from evermix.solvers.problem import MixtureProblem
from evermix.trust.measured import best_run, run_objective

Floats = npt.NDArray[np.float64]
_UNCAPPED_REQUEST = 1.0  # tokens; without caps the request's size changes nothing


@dataclass(frozen=True, eq=False)
class Problems:
    """Everything but the KL weight, which is chosen last."""

    fitted: FittedLaw
    recipe: StudyRecipe
    bounds: Bounds
    guards: tuple[NoRegression, ...]

    def with_kl_weight(self, kl_weight: float) -> MixtureProblem:
        """The problem to solve."""
        fitted = self.fitted
        return MixtureProblem(
            fitted.law, fitted.objective, self.bounds, fitted.prior.mixture, kl_weight, self.ceilings(fitted.law)
        )

    def ceilings(self, law: MixingLaw) -> Floats | None:
        """Highest allowed cost of each metric under a law, (metrics,), inf where unguarded; None without guards."""
        if not self.guards:
            return None
        orientation = self.fitted.observations.orientation
        metrics = self.fitted.observations.metrics
        rows = []
        for (
            guard
        ) in self.guards:  # a relative tolerance is one of the metric's own value, which a cost may have shifted
            costs = law.predict(guard.reference.weights)
            rows.append(guard.ceilings(costs, metrics, np.abs(orientation.value(costs))))
        return np.min(rows, axis=0)


def problems(fitted: FittedLaw, recipe: StudyRecipe | None = None) -> Problems:
    """Bounds and guards of a recipe, which may differ from the fit's in all but law, objective and prior.

    Raises:
        ConstraintError: if names are unknown, or no mixture satisfies the constraints; the message says by how much.
    """
    recipe = recipe or fitted.recipe
    guards = tuple(_guard(fitted, guard) for guard in recipe.guards)
    return Problems(fitted, recipe, _bounds(fitted, recipe), guards)


def named_mixture(fitted: FittedLaw, reference: str | Mapping[str, float]) -> Mixture:
    """The mixture called natural, uniform, prior or best observed, or given by its shares."""
    observations = fitted.observations
    domains = observations.domains
    if not isinstance(reference, str):
        return Mixture.from_dict(domains, reference)
    if reference == "natural":
        return Mixture.natural(domains)
    if reference == "uniform":
        return Mixture.uniform(domains)
    if reference == "prior":
        return fitted.prior.mixture
    if reference == "best observed":
        predicted = fitted.law.predict(observations.weights)
        return best_run(observations, run_objective(observations, fitted.objective, predicted)).mixture
    raise ConstraintError(
        "a reference mixture must be a known one",
        received=reference,
        hint="known: natural, uniform, prior, best observed",
    )


def _guard(fitted: FittedLaw, asked: GuardRecipe) -> NoRegression:
    return NoRegression(named_mixture(fitted, asked.reference), asked.tolerance, asked.metrics, asked.absolute)


def _bounds(fitted: FittedLaw, recipe: StudyRecipe) -> Bounds:
    """The recipe's bounds, dead domains held at their prior share, ghosts at none, within the space if there is one."""
    domains = fitted.observations.domains
    asked = recipe.constraints
    held = {name: fitted.prior.mixture[name] for name in fitted.dead_domains}
    for name in held:
        if name in asked.fixed and abs(asked.fixed[name] - held[name]) > 1e-9:
            raise ConstraintError(
                f"no run was trained on '{name}', so it keeps its prior share of {held[name]:.4f}",
                received=asked.fixed[name],
                hint="set its share in the prior, or measure runs with it",
            )
    held |= dict.fromkeys(fitted.ghosts, 0.0)
    constraints = asked.model_copy(update={"fixed": {**asked.fixed, **held}}).build()
    if recipe.tokens is None or not domains.sizes_known:
        constraints = _without_epochs(constraints, recipe)
    bounds = constraints.bounds(domains, float(recipe.tokens or _UNCAPPED_REQUEST))
    return bounds if fitted.space is None else fitted.space.tighten(bounds)


def _without_epochs(constraints: Constraints, recipe: StudyRecipe) -> Constraints:
    """No repetition caps where R or a token count is unknown; an error if caps were asked for."""
    if "max_epochs" in recipe.constraints.model_fields_set and recipe.constraints.max_epochs is not None:
        missing = "the tokens of the target run" if recipe.tokens is None else "the tokens available in every domain"
        raise ConstraintError(
            f"max_epochs needs {missing}",
            received=recipe.constraints.max_epochs,
            hint="give --tokens, and token counts beside the runs (tokens.yaml)",
        )
    return replace(constraints, max_epochs=None)
