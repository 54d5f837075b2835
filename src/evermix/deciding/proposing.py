"""propose: the mixture that a fitted law leads to under a recipe, with everything one needs to trust it or not.

A recipe is turned into bounds, guards and reference mixtures here; what follows from them is `by_law`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, Constraints, NoRegression
from evermix.deciding.by_law import AssessedRuns, Ceilings, LawDecision, LawProblem, Progress, decide_by_law, optimum
from evermix.deciding.fitting import FittedLaw
from evermix.deciding.objectives import mixed_units, objective_warnings
from evermix.deciding.views import proposal_view
from evermix.domain_updates import CollapsedSpace
from evermix.errors import ConstraintError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.notebook import html_table
from evermix.recipe.decision import GuardRecipe, StudyRecipe
from evermix.results.proposal import ProposalView
from evermix.trust.assessment import by_severity
from evermix.trust.comparison import Comparison
from evermix.trust.references import NATURAL, UNIFORM, Request, best_run, run_objective

Floats = npt.NDArray[np.float64]
_UNCAPPED_REQUEST = 1.0  # tokens; without caps the request's size changes nothing


@dataclass(frozen=True, eq=False)
class AssessedProposal(LawDecision):
    """A mixture proposed from runs.

    Attributes:
        fitted: the law it rests on.
        recipe: what was asked.
    """

    comparison: Comparison
    fitted: FittedLaw
    recipe: StudyRecipe

    def _repr_html_(self) -> str:
        prior, law = self.fitted.prior, self.fitted.law_name
        intervals = None if self.bootstrap is None else self.bootstrap.weight_intervals()
        rows = [
            [
                name,
                f"{share:.2%}",
                *([] if intervals is None else [f"{intervals[j, 0]:.1%} to {intervals[j, 1]:.1%}"]),
                f"{prior.mixture[name]:.2%}",
            ]
            for j, (name, share) in enumerate(self.mixture.as_dict.items())
        ]
        columns = ["domain", "share", *([] if intervals is None else ["90% interval"]), "prior"]
        return html_table(f"Proposed mixture (law {law}, prior: {prior.source})", columns, rows)

    def __str__(self) -> str:
        """The mixture, what it gains over natural and uniform, and the warnings; `view` has all the rest."""
        shares = sorted(self.mixture.as_dict.items(), key=lambda pair: -pair[1])
        width = max(len(name) for name, _ in shares)
        lines = [f"{name:{width}} {share:6.1%}" for name, share in shares]
        if self.bootstrap is not None:
            lines += [f"gain {self.bootstrap.gain(name)}" for name in (NATURAL, UNIFORM) if name in self.comparison]
        return "\n".join([*lines, *map(str, self.warnings)])

    @property
    def view(self) -> ProposalView:
        """Everything that tables, pages and results show of it."""
        return proposal_view(self)

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        fitted = self.fitted
        return {
            **super().as_dict,
            "prior": {"source": fitted.prior.source, "mixture": dict(fitted.prior.mixture.as_dict)},
            "n_tokens": self.recipe.tokens,
            "law": fitted.law_name,
            "calibration": fitted.calibration.as_dict,
            "unsampled_domains": list(fitted.unsampled_domains),
            "scarce_domains": fitted.scarce_domains,
            "fixed_ratio": fixed_ratio(fitted.space),
            "left_out": [[item.kind, item.name, item.reason] for item in fitted.left_out],
        }


def fixed_ratio(space: CollapsedSpace | None) -> dict[str, float] | None:
    """Leaf -> share within the bundle; None where no proportions are fixed."""
    return None if space is None else {name: space.virtual.inner[name] for name in space.fixed_ratio}


def propose(
    fitted: FittedLaw,
    recipe: StudyRecipe | None = None,
    progress: Progress | None = None,
    kl_before: float | None = None,
) -> AssessedProposal:
    """The optimum of the recipe's objective under its rules, resampled and compared.

        found = em.propose(fitted)
        found.mixture["code"], found.bootstrap.weight_intervals()

    Args:
        recipe: may differ from the fit's in all but law, objective and prior.
        progress: called with (done, total) after each resample.
        kl_before: relative strength of the pull that holds where kl is auto and the runs are too few to choose it.

    Raises:
        ConstraintError: if the rules contradict each other; the message says by how much.
        ConvergenceError: if the solver, or more than half of the resamples, do not converge.
    """
    recipe = recipe or fitted.recipe
    found = decide_by_law(replace(law_problem(fitted, recipe), kl_before=kl_before), progress)
    assert found.comparison is not None  # there are runs
    asked = fitted.recipe.objective
    mixed = mixed_units(fitted.observations, fitted.objective, asked)
    warnings = (*mixed, *objective_warnings(asked, fitted.left_out), *found.warnings)
    return AssessedProposal(**{**vars(found), "warnings": by_severity(warnings), "fitted": fitted, "recipe": recipe})


def best_mixture(fitted: FittedLaw, law: MixingLaw | None = None) -> Mixture:
    """The optimum alone, under the fitted law or another in its place; kl "auto" counts as the default strength."""
    return optimum(law_problem(fitted), law).mixture


def law_problem(fitted: FittedLaw, recipe: StudyRecipe | None = None, *, hold_scarce: bool = True) -> LawProblem:
    """What a recipe asks of a fitted law; it may differ from the fit's in all but law, objective and prior.

    Args:
        hold_scarce: whether domains that fewer than three runs hold keep their prior share.

    Raises:
        ConstraintError: if names are unknown, or no mixture satisfies the constraints; the message says by how much.
        MixtureError: if a mixture to compare with is none over the domains.
    """
    recipe = recipe or fitted.recipe
    observations = fitted.observations
    guards = _guards(fitted, recipe)
    bounds = _bounds(fitted, recipe)
    if hold_scarce:
        bounds = _scarce_held(fitted, recipe, bounds)
    compared = {name: Mixture.from_dict(observations.domains, shares) for name, shares in recipe.compare.items()}
    target = Request(recipe.tokens, recipe.constraints.max_epochs or 4.0, compared)
    return LawProblem(
        fitted.law,
        fitted.objective,
        bounds,
        fitted.prior.mixture,
        AssessedRuns(observations, fitted.calibration, recipe.resamples, target),
        "auto" if recipe.given_kl is None else recipe.given_kl,
        recipe.kl_weight,
        ceilings=guards,
        aggregate=recipe.objective.aggregate,
        space=fitted.space,
        seed=recipe.seed,
    )


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


def _guards(fitted: FittedLaw, recipe: StudyRecipe) -> Ceilings | None:
    """How a law says the greatest cost that the recipe's guards allow of each metric; None without guards."""
    if not recipe.guards:
        return None
    guards = [_guard(fitted, asked) for asked in recipe.guards]
    orientation, metrics = fitted.observations.orientation, fitted.observations.metrics

    def ceilings(law: MixingLaw) -> Floats:
        rows = []
        for guard in guards:  # a relative tolerance is of the metric's own value, which a cost may have shifted
            costs = law.predict(guard.reference.weights)
            rows.append(guard.ceilings(costs, metrics, np.abs(orientation.value(costs))))
        return np.min(rows, axis=0)

    return ceilings


def _guard(fitted: FittedLaw, asked: GuardRecipe) -> NoRegression:
    """The guard, but for metrics that no law can learn: nothing is predicted of them."""
    gone = {item.name for item in fitted.left_out if item.kind == "metric"}
    metrics = None if asked.metrics is None else tuple(name for name in asked.metrics if name not in gone)
    return NoRegression(named_mixture(fitted, asked.reference), asked.tolerance, metrics, asked.absolute)


def _bounds(fitted: FittedLaw, recipe: StudyRecipe) -> Bounds:
    """The recipe's bounds: unsampled domains held at their prior share, retired ones at none; within the space."""
    domains = fitted.observations.domains
    asked = recipe.constraints
    held = {name: fitted.prior.mixture[name] for name in fitted.unsampled_domains}
    for name in held:
        if name in asked.fixed and abs(asked.fixed[name] - held[name]) > 1e-9:
            raise ConstraintError(
                f"no run was trained on '{name}', so it keeps its prior share of {held[name]:.4f}",
                received=asked.fixed[name],
                hint="set its share in the prior, or measure runs with it",
            )
    held |= dict.fromkeys(fitted.retired, 0.0)
    constraints = asked.model_copy(update={"fixed": {**asked.fixed, **held}}).build()
    if recipe.tokens is None or not domains.sizes_known:
        constraints = _without_epochs(constraints, recipe)
    bounds = constraints.bounds(domains, float(recipe.tokens or _UNCAPPED_REQUEST))
    return bounds if fitted.space is None else fitted.space.tighten(bounds)


def _scarce_held(fitted: FittedLaw, recipe: StudyRecipe, bounds: Bounds) -> Bounds:
    """The bounds with domains that one or two runs hold at their prior share, or what the bounds make of it."""
    held = [
        j
        for j, name in enumerate(fitted.observations.domains.names)
        if name in fitted.scarce_domains and name not in recipe.constraints.fixed
    ]
    if not held:
        return bounds
    shares = fitted.prior.mixture.weights
    if not bounds.hold(shares):
        shares = bounds.clip(shares)
    lower, upper, reasons = bounds.lower.copy(), bounds.upper.copy(), list(bounds.reasons)
    for j in held:
        lower[j] = upper[j] = shares[j]
        reasons[j] = "fixed"
    return replace(bounds, lower=lower, upper=upper, reasons=tuple(reasons))


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
