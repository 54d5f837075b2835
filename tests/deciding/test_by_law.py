"""decide_by_law: one decision whoever made the observations, and why it is not assessed where it is not."""

from dataclasses import replace

import numpy as np
import pytest

from evermix.constraints import Bounds, Constraints
from evermix.deciding import AssessedRuns, LawProblem, decide_by_law, fit, law_problem
from evermix.errors import ConstraintError
from evermix.laws.log_linear import LogLinearLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.recipe.decision import StudyRecipe
from evermix.solvers.kl_path import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve
from tests.deciding.test_deciding import SET, swarm

WHY = "4 probes of 3 domains are too few to be resampled"


@pytest.fixture
def probes() -> LawProblem:
    """A law of three domains' losses, as a decision by probes has it: no table of runs behind it."""
    observations = swarm(12)
    law = LogLinearLaw().fit(observations.runs)
    objective = Objective.from_dict(observations.metrics, None, "metric")
    bounds: Bounds = Constraints(max_epochs=None).bounds(SET, 1.0)
    return LawProblem(law, objective, bounds, Mixture.uniform(SET), WHY, kl=0.5, seed=3)


def test_without_runs_the_mixture_is_the_solvers_and_the_answer_says_why_it_is_not_assessed(probes: LawProblem) -> None:
    found = decide_by_law(probes)
    kl_weight = scaled_kl_weight(probes.law, probes.objective, probes.prior, np.random.default_rng(3), 0.5)
    alone = solve(MixtureProblem(probes.law, probes.objective, probes.bounds, probes.prior, kl_weight))
    assert found.kl.weight == kl_weight
    assert found.kl.relative == 0.5
    assert found.mixture.weights.tolist() == alone.mixture.weights.tolist()
    assert (found.comparison, found.bootstrap, found.warnings) == (None, None, ())
    assert found.assessment_absent == WHY
    assert found.as_dict["assessment_absent"] == WHY


def test_a_generator_that_has_drawn_already_goes_on(probes: LawProblem) -> None:
    used, same = np.random.default_rng(3), np.random.default_rng(3)
    used.normal(size=7), same.normal(size=7)
    found = decide_by_law(replace(probes, rng=used))
    assert found.kl.weight == scaled_kl_weight(probes.law, probes.objective, probes.prior, same, 0.5)
    assert found.kl.weight != decide_by_law(probes).kl.weight


def test_ceilings_hold(probes: LawProblem) -> None:
    sums_alone = replace(
        probes, objective=Objective.from_dict(probes.objective.metrics, {"sums": 1}, "metric"), kl=0.01
    )
    free = probes.law.predict(decide_by_law(sums_alone).mixture.weights)
    programs = probes.objective.metrics.index("programs")
    ceilings = np.full(len(free), np.inf)
    ceilings[programs] = free[programs] - 0.02
    held = probes.law.predict(decide_by_law(replace(sums_alone, ceilings=ceilings)).mixture.weights)
    assert held[programs] <= ceilings[programs] + 1e-6


def test_a_given_weight_is_taken_as_it_is(probes: LawProblem) -> None:
    found = decide_by_law(replace(probes, kl_weight=0.0125))
    assert (found.kl.weight, found.kl.relative, found.problem.kl_weight) == (0.0125, None, 0.0125)


def test_what_needs_runs_is_refused_without_them(probes: LawProblem) -> None:
    with pytest.raises(ConstraintError, match=r"kl auto needs runs that can be resampled.*4 probes"):
        decide_by_law(replace(probes, kl="auto"))
    with pytest.raises(ConstraintError, match="worst of resampled laws needs runs"):
        decide_by_law(replace(probes, aggregate="worst law"))


def test_with_runs_the_answer_is_compared_and_says_whether_it_was_resampled(probes: LawProblem) -> None:
    observations = swarm(12)
    with_runs = replace(probes, runs=AssessedRuns(observations, resamples=0))
    compared = decide_by_law(with_runs)
    assert compared.mixture.weights.tolist() == decide_by_law(probes).mixture.weights.tolist()
    assert compared.comparison is not None
    assert compared.bootstrap is None
    assert compared.assessment_absent == "no resamples were asked for"
    resampled = decide_by_law(replace(probes, runs=AssessedRuns(observations, resamples=5)))
    assert resampled.bootstrap is not None
    assert resampled.assessment_absent is None


def test_a_recipe_is_such_a_problem() -> None:
    fitted = fit(swarm(), StudyRecipe(law="log-linear", kl=0.2, resamples=0, tokens=1e9, seed=4))
    asked = law_problem(fitted)
    assert (asked.kl, asked.seed) == (0.2, 4)
    assert isinstance(asked.runs, AssessedRuns)
    assert asked.runs.target.n_tokens == 1e9
