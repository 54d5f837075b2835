"""propose: the mixture that a fitted law recommends, with everything one needs to trust it or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from evermix.mixture import Mixture
from evermix.recipe.study import StudyRecipe
from evermix.solvers.kl_path import KlPath, KlChoice, choose_kl
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.solvers.solve import solve
from evermix.solvers.worst_case import solve_worst_case
from evermix.study.fitting import FittedLaw
from evermix.study.request import Problems, problems
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, bootstrap
from evermix.trust.cautions import Caution, Evidence, cautions
from evermix.trust.comparison import Comparison, compare
from evermix.trust.references import Request

Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Recommendation:
    """A proposed mixture and its evidence.

    Attributes:
        fitted: the law it rests on.
        problem: what was solved.
        proposal: the answer, with the shadow prices of what held it back.
        kl_source: how the KL weight was chosen, a phrase for people.
        comparison: the proposal beside natural, uniform, UniMax and the best observed run.
        bootstrap: the resampled runs; None if none were asked for.
        cautions: what speaks against using it as it is; none are looked for without resamples.
    """

    fitted: FittedLaw
    recipe: StudyRecipe
    problem: MixtureProblem
    proposal: Proposal
    kl_source: str
    comparison: Comparison
    bootstrap: Bootstrap | None
    cautions: tuple[Caution, ...]

    @property
    def mixture(self) -> Mixture:
        """The proposed mixture, over all domains."""
        return self.proposal.mixture

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "mixture": dict(self.mixture.as_dict),
            "prior": {"source": self.fitted.prior.source, "mixture": dict(self.fitted.prior.mixture.as_dict)},
            "n_tokens": self.recipe.tokens,
            "law": self.fitted.law.name,
            "kl": {"weight": self.problem.kl_weight, "source": self.kl_source},
            "proposal": self.proposal.as_dict,
            "comparison": self.comparison.as_dict,
            "bootstrap": None if self.bootstrap is None else self.bootstrap.as_dict,
            "calibration": self.fitted.calibration.as_dict,
            "cautions": [caution.as_dict for caution in self.cautions],
            "dead_domains": list(self.fitted.dead_domains),
            "left_out": [[item.kind, item.name, item.reason] for item in self.fitted.left_out],
        }


def propose(fitted: FittedLaw, recipe: StudyRecipe | None = None, progress: Progress | None = None) -> Recommendation:
    """The optimum of the recipe's objective under its rules, resampled and compared.

    Args:
        recipe: may differ from the fit's in all but law, objective and prior.
        progress: called with (done, total) after each resample.

    Raises:
        ConstraintError: if the rules contradict each other; the message says by how much.
        ConvergenceError: if the solver, or more than half of the resamples, do not converge.
    """
    recipe = recipe or fitted.recipe
    asked = problems(fitted, recipe)
    kl_weight, kl_source = _kl_weight(asked)
    problem = asked.with_kl_weight(kl_weight)
    proposal = _solved(problem, recipe)
    wanted = Request(recipe.tokens, recipe.constraints.max_epochs or 4.0)
    resampled = None if recipe.resamples == 0 else _resampled(asked, problem, proposal, wanted, progress)
    comparison = compare(problem, proposal, fitted.observations, wanted, resampled)
    doubts: tuple[Caution, ...] = ()
    if resampled is not None:
        evidence = Evidence(problem, proposal, fitted.observations, fitted.calibration, resampled, comparison)
        doubts = cautions(evidence)
    return Recommendation(fitted, recipe, problem, proposal, kl_source, comparison, resampled, doubts)


def _solved(problem: MixtureProblem, recipe: StudyRecipe) -> Proposal:
    if recipe.objective.aggregate == "worst":
        return solve_worst_case(problem, problem.prior)
    return solve(problem)


def _kl_weight(asked: Problems) -> tuple[float, str]:
    """lambda in the objective's quantity per nat, and how it was chosen."""
    recipe, fitted = asked.recipe, asked.fitted
    if recipe.kl_weight is not None:
        return recipe.kl_weight, "given, in the objective's unit per nat"
    if recipe.kl == "auto":
        raise NotImplementedError
    rng = np.random.default_rng(recipe.seed)
    prior = fitted.prior.mixture
    weight = scaled_kl_weight(fitted.law, fitted.objective, prior, rng, recipe.kl)
    return weight, f"{recipe.kl:g} of the predicted spread of the objective"


def _resampled(
    asked: Problems, problem: MixtureProblem, proposal: Proposal, wanted: Request, progress: Progress | None
) -> Bootstrap:
    fitted, recipe = asked.fitted, asked.recipe
    options = BootstrapOptions(
        n_resamples=recipe.resamples,
        seed=recipe.seed,
        references=wanted.references(fitted.observations.domains, fitted.prior.mixture),
        ceilings=asked.ceilings if asked.guards else None,
        keep_laws=True,
    )
    rmse = fitted.calibration.objective.rmse
    return bootstrap(problem, fitted.observations, options, proposal, rmse, progress)
