"""propose: the mixture that a fitted law recommends, with everything one needs to trust it or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from evermix.deciding.fitting import FittedLaw, resampled_laws
from evermix.deciding.request import Problems, problems
from evermix.domain_updates import CollapsedSpace
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.notebook import html_table
from evermix.recipe.decision import StudyRecipe
from evermix.solvers.kl_path import DEFAULT_KL, KlChoice, PathPoint, choose_kl, kl_path
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal, binding_bounds
from evermix.solvers.solve import solve
from evermix.solvers.worst_case import least_worst_change, least_worst_law
from evermix.trust.assessment import AssessmentOptions, assess
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions
from evermix.trust.cautions import Caution
from evermix.trust.comparison import Comparison, compare
from evermix.trust.measured import clusters
from evermix.trust.references import Request

Progress = Callable[[int, int], None]
_WORST_OF = 30  # resampled laws of a worst case


@dataclass(frozen=True, eq=False)
class KlStrength:
    """The pull towards the prior.

    Attributes:
        weight: lambda, in the objective's quantity per nat.
        source: how it was chosen, a phrase for people.
        relative: the same in the objective's predicted spread; None if the weight was given.
        choice: the cross-fitting that chose it; None if it was given.
        path: the optimum at every strength compared; empty if it was given.
    """

    weight: float
    source: str
    relative: float | None = None
    choice: KlChoice | None = None
    path: tuple[PathPoint, ...] = ()

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "weight": self.weight,
            "source": self.source,
            "choice": None if self.choice is None else self.choice.as_dict,
            "path": [
                {"kl": point.kl, "n_effective": point.n_effective, **point.proposal.as_dict} for point in self.path
            ],
        }


@dataclass(frozen=True, eq=False)
class AssessedProposal:
    """A proposed mixture and its evidence.

    Attributes:
        fitted: the law it rests on.
        problem: what was solved.
        proposal: the answer, with the shadow prices of what held it back.
        kl: how strongly the prior pulls, and how that was chosen.
        comparison: the proposal beside natural, uniform, UniMax and the best observed run.
        bootstrap: the resampled runs; None if none were asked for.
        cautions: what speaks against using it as it is; none are looked for without resamples.
    """

    fitted: FittedLaw
    recipe: StudyRecipe
    problem: MixtureProblem
    proposal: Proposal
    kl: KlStrength
    comparison: Comparison
    bootstrap: Bootstrap | None
    cautions: tuple[Caution, ...]

    @property
    def mixture(self) -> Mixture:
        """The proposed mixture, over all domains."""
        return self.proposal.mixture

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

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "mixture": dict(self.mixture.as_dict),
            "prior": {"source": self.fitted.prior.source, "mixture": dict(self.fitted.prior.mixture.as_dict)},
            "n_tokens": self.recipe.tokens,
            "law": self.fitted.law_name,
            "kl": self.kl.as_dict,
            "proposal": self.proposal.as_dict,
            "comparison": self.comparison.as_dict,
            "bootstrap": None if self.bootstrap is None else self.bootstrap.as_dict,
            "calibration": self.fitted.calibration.as_dict,
            "cautions": [caution.as_dict for caution in self.cautions],
            "dead_domains": list(self.fitted.dead_domains),
            "frozen": frozen_shares(self.fitted.space),
            "left_out": [[item.kind, item.name, item.reason] for item in self.fitted.left_out],
        }


def frozen_shares(space: CollapsedSpace | None) -> dict[str, float] | None:
    """Leaf -> share within the bundle; None where nothing is frozen."""
    return None if space is None else {name: space.virtual.inner[name] for name in space.frozen}


def propose(
    fitted: FittedLaw,
    recipe: StudyRecipe | None = None,
    progress: Progress | None = None,
    kl_before: float | None = None,
) -> AssessedProposal:
    """The optimum of the recipe's objective under its rules, resampled and compared.

    Args:
        recipe: may differ from the fit's in all but law, objective and prior.
        progress: called with (done, total) after each resample.
        kl_before: relative strength of the pull that holds where kl is auto and the runs are too few to choose it.

    Raises:
        ConstraintError: if the rules contradict each other; the message says by how much.
        ConvergenceError: if the solver, or more than half of the resamples, do not converge.
    """
    recipe = recipe or fitted.recipe
    asked = problems(fitted, recipe)
    kl = _kl_strength(asked, kl_before)
    problem = asked.with_kl_weight(kl.weight)
    proposal = _solved(problem, fitted, recipe)
    named = {name: Mixture.from_dict(fitted.observations.domains, shares) for name, shares in recipe.compare.items()}
    wanted = Request(recipe.tokens, recipe.constraints.max_epochs or 4.0, named)
    observations = fitted.observations
    if recipe.resamples == 0:
        comparison = compare(problem, proposal, observations, wanted)
        return AssessedProposal(fitted, recipe, problem, proposal, kl, comparison, None, ())
    resampling = BootstrapOptions(recipe.resamples, recipe.seed, ceilings=asked.ceilings if asked.guards else None)
    bundled = None if fitted.space is None else fitted.space.bundled
    options = AssessmentOptions(resampling, fitted.calibration, bundled=bundled)
    found = assess(problem, proposal, observations, wanted, options, progress)
    return AssessedProposal(fitted, recipe, problem, proposal, kl, found.comparison, found.bootstrap, found.cautions)


def best_mixture(fitted: FittedLaw, law: MixingLaw | None = None) -> Mixture:
    """The optimum alone, under the fitted law or another in its place; kl "auto" counts as the default strength."""
    asked = problems(fitted)
    problem = asked.with_kl_weight(_given_strength(asked, DEFAULT_KL).weight)
    found = solve(problem if law is None else replace(problem, law=law, ceilings=asked.ceilings(law)))
    return _in_proportion(found, problem, fitted).mixture


def _solved(problem: MixtureProblem, fitted: FittedLaw, recipe: StudyRecipe) -> Proposal:
    if recipe.objective.aggregate == "worst metric":
        found = least_worst_change(problem, problem.prior).proposal
    elif recipe.objective.aggregate == "worst law":
        found = least_worst_law(problem, resampled_laws(fitted, _WORST_OF)).proposal
    else:
        found = solve(problem)
    return _in_proportion(found, problem, fitted)


def _in_proportion(found: Proposal, problem: MixtureProblem, fitted: FittedLaw) -> Proposal:
    """The proposal with frozen proportions kept to the last digit; without a KL term the solver is free in them."""
    if fitted.space is None:
        return found
    mixture = Mixture(found.mixture.domains, fitted.space.project(found.mixture.weights))
    kl_nats, binding = mixture.kl(problem.prior), binding_bounds(mixture, problem.bounds)
    return replace(found, mixture=mixture, kl_nats=kl_nats, binding=binding)


def _kl_strength(asked: Problems, before: float | None) -> KlStrength:
    recipe, fitted = asked.recipe, asked.fitted
    if recipe.kl_weight is not None or recipe.given_kl is not None:
        return _given_strength(asked, DEFAULT_KL)
    observations = fitted.observations
    labels = np.empty(observations.n_runs, dtype=np.intp)
    for label, rows in enumerate(clusters(observations)):
        labels[rows] = label
    problem = asked.with_kl_weight(1.0)
    choice = choose_kl(problem, observations.runs, seed=recipe.seed, labels=labels)
    kl, reason = choice.kl, choice.reason
    if not choice.scores and before is not None:
        kl, reason = before, f"as for the mixture before, since too few runs ({observations.n_runs}) choose another"
    path = kl_path(problem, seed=recipe.seed)
    return KlStrength(kl * _spread(asked), f"{kl:g} of the objective's spread: {reason}", kl, choice, path)


def _given_strength(asked: Problems, otherwise: float) -> KlStrength:
    recipe = asked.recipe
    if recipe.kl_weight is not None:
        return KlStrength(recipe.kl_weight, "given, in the objective's unit per nat")
    kl = otherwise if recipe.given_kl is None else recipe.given_kl
    return KlStrength(kl * _spread(asked), f"{kl:g} of the objective's predicted spread, as given", kl)


def _spread(asked: Problems) -> float:
    fitted = asked.fitted
    rng = np.random.default_rng(asked.recipe.seed)
    return scaled_kl_weight(fitted.law, fitted.objective, fitted.prior.mixture, rng, 1.0)
