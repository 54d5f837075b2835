"""A pretraining that is decided by experiments within it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

import evermix as em
from evermix.designs.balanced import balanced_levels
from evermix.domains import DomainSet
from evermix.executors.job import PROGRESS_FILE
from evermix.laws.horizon import Horizon, learnt
from evermix.laws.response import ResponseLaw
from evermix.ledger import Project
from evermix.lifecycle.context import RunContext, open_context
from evermix.lifecycle.course import Course
from evermix.lifecycle.deciding import decide
from evermix.lifecycle.evidence.base import on_the_way
from evermix.lifecycle.evidence.in_run import InRunEvidence, came_of
from evermix.lifecycle.evidence.timetable import timetable
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.state import ModelState
from evermix.mixture import Mixture
from evermix.observations.runs import Runs
from evermix.recipe import Recipe
from evermix.reports.decision_tables import decision_lines, responses_grid, segments_grid
from evermix.reports.plans import print_plan
from evermix.results import PhaseResult, RunResult
from tests.lifecycle.killing import comparable, kill_when

Floats = npt.NDArray[np.float64]

Make = Callable[..., dict[str, Any]]
TWICE = {"at": [0.35, 0.7], "experiments": {"budget": 0.3}}


def last_phase(result: RunResult, arm: str = "evermix") -> PhaseResult:
    (phase,) = result.arms[arm].last
    return phase


def opened(content: dict[str, Any]) -> RunContext:
    recipe = Recipe.model_validate(content)
    project = Project(recipe.project_folder)
    return open_context(recipe, project, Reporter(project, None))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Make) -> tuple[dict[str, Any], RunResult]:
    """A recipe with two experiments, and its result."""
    content = tiny_recipe(tmp_path_factory.mktemp("in-run") / "project", decision=TWICE, arms=["uniform", "evermix"])
    return content, em.run(Recipe.model_validate(content))


def test_the_run_trains_on_its_experiments_and_on_what_they_decide(made: tuple[dict[str, Any], RunResult]) -> None:
    content, result = made
    recipe = Recipe.model_validate(content)
    planned = timetable(recipe, recipe.timeline(recipe.phase_orders[0])[0])
    assert planned is not None
    phase = last_phase(result)
    assert [decision.at_step for decision in phase.decisions] == [21, 42] == list(planned.decided_at)
    starts = [round(each.start_row / 4) for each in phase.schedule]
    segments = [end for ends in planned.experiments for end in ends]
    assert starts == [0, planned.begin, *segments]
    assert phase.schedule[-1].mixture == pytest.approx(phase.decisions[-1].mixture)
    assert phase.mixture == pytest.approx(phase.decisions[-1].mixture)


def test_a_decision_shows_its_segments_and_what_it_expects(made: tuple[dict[str, Any], RunResult]) -> None:
    first, second = last_phase(made[1]).decisions
    assert (first.evidence, first.mode) == ("in-run", "in-run")
    assert [record.experiment for record in first.segments] == [0] * 9
    assert [record.experiment for record in second.segments] == [0] * 9 + [1] * 9
    assert second.segments[8] == first.segments[8]
    assert (
        second.segments[9].loss_nats == first.segments[8].loss_nats
    )  # an experiment begins where the one before ended
    for decision, levels in ((first, (0.5, 1.55)), (second, (0.7, 1.3))):
        own = np.array([list(record.mixture.values()) for record in decision.segments[-8:]])
        ratio = own / own.mean(axis=0)
        assert ratio.max() < 1.35 * levels[1]
        assert ratio.min() > 0.75 * levels[0]
    for decision in (first, second):
        assert decision.expected is not None
        assert decision.expected.low <= decision.expected.gain <= decision.expected.high
        assert all(found.low < found.slope < found.high for found in decision.responses.values())
        assert set(decision.compute.by_part) == {"evaluation"}
        assert decision.realised_objective == pytest.approx(last_phase(made[1]).objective_value)


def test_what_reading_costs_is_what_was_planned(made: tuple[dict[str, Any], RunResult]) -> None:
    content, result = made
    plan = em.plan(Recipe.model_validate(content))
    (phase,) = plan.phases[0]
    assert (phase.n_segments, phase.decided_at) == (16, (21, 42))
    read = sum(decision.compute.n_tokens for decision in last_phase(result).decisions)
    assert read == plan.arms["evermix"].tokens_by_part["evaluation"] == 17 * phase.evaluation_sequences * 3 * 32


def test_tables_and_plan_show_segments_responses_and_what_is_expected(made: tuple[dict[str, Any], RunResult]) -> None:
    decision = last_phase(made[1]).decisions[-1]
    segments, responses = segments_grid(decision), responses_grid(decision)
    assert segments is not None
    assert len(segments.rows) == len(decision.segments) == 18
    assert [row[0].text for row in segments.rows if "before it" in row[0].text] == ["1, before it", "2, before it"]
    assert responses is not None
    assert [row[0].text for row in responses.rows] == list(decision.responses)
    assert any(line.startswith("Expected gain over the mixture in force: ") for line in decision_lines(decision))
    (said,) = (line for line in decision_lines(decision) if line.startswith("Horizon: losses are taken to move "))
    assert said.endswith("times as far as segments moved them.")
    console = Console(width=200, record=True, file=io.StringIO())
    print_plan(em.plan(Recipe.model_validate(made[0])), console)
    shown = " ".join(console.export_text().split())
    assert "before steps 21, 42: 16 segments of the run itself" in shown
    assert "pretraining: deciding is expected to gain" in shown


def test_measuring_and_pieces_change_no_weight(tmp_path: Path, tiny_recipe: Make) -> None:
    """The experiment as one piece that measures, and mixture by mixture without, are the same training."""
    context = opened(tiny_recipe(tmp_path / "project", decision={"at": [0.5]}))
    (phase,), evidence = context.orders[0], InRunEvidence()
    planned, start = timetable(context.recipe, phase), context.named_mixture(phase)
    assert planned is not None
    before, measuring = [(context.over_all(start), planned.begin)], evidence.measuring(context, phase)
    whole = Course.begin(ModelState.initial(context), phase).through(context, before, measuring)
    segments = evidence.experiment(context, whole.state, phase, start, 0)
    whole = whole.through(context, segments, measuring)
    apart = Course.begin(ModelState.initial(context), phase)
    for mixture, end in (*before, *segments):
        apart = apart.on(context, mixture, end)
    one, other = (load_file(course.state.trained / "model.safetensors") for course in (whole, apart))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert whole.state.history.spent == pytest.approx(apart.state.history.spent)
    assert [each.step for each in whole.state.measured] == [planned.begin, *planned.experiments[0]]
    assert not apart.state.measured


def test_a_decision_is_made_once_and_again_the_same(tmp_path: Path, tiny_recipe: Make) -> None:
    content = tiny_recipe(tmp_path / "project", decision={"at": [0.5]}, arms=["evermix"])
    result = em.run(Recipe.model_validate(content))
    context = opened(content)
    (phase,), evidence, start = context.orders[0], InRunEvidence(), None
    planned, start = timetable(context.recipe, phase), context.named_mixture(phase)
    assert planned is not None
    measuring = evidence.measuring(context, phase)
    course = Course.begin(ModelState.initial(context), phase)
    course = course.through(context, [(context.over_all(start), planned.begin)], measuring)
    course = course.through(context, evidence.experiment(context, course.state, phase, start, 0), measuring)
    request = on_the_way(context, course.state, phase, start, "of this test")
    n_entries = len(list(context.project.ledger.entries("decision")))
    again = decide(context, evidence, course.state, request)
    assert len(list(context.project.ledger.entries("decision"))) == n_entries == 1
    unrealised = {"arm": "of this test", "realised_loss_nats": None, "realised_objective": None}
    assert last_phase(result).decisions[0].model_copy(update=unrealised) == again
    observations = evidence.measure(context, course.state, request).observations
    assert observations.n_runs == 9
    assert set(observations.metrics) == set(phase.domains)


def test_killed_within_an_experiment_it_goes_on_to_the_same_result(
    tmp_path: Path, tiny_recipe: Make, made: tuple[dict[str, Any], RunResult]
) -> None:
    content = made[0] | {"project": str(tmp_path / "killed")}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(str(content).replace("'", '"').replace("False", "false").replace("True", "true"))
    for n in (2, 4):  # checkpoints that were written before
        pattern = f"runs/*/checkpoint-*/{PROGRESS_FILE}"
        assert kill_when(recipe, lambda n=n, p=pattern: len(list((tmp_path / "killed").glob(p))) >= n)
    resumed = em.run(Recipe.load(recipe))
    assert comparable(resumed.arms) == comparable(made[1].arms)


def test_rules_hold_in_every_segment(tmp_path: Path, tiny_recipe: Make) -> None:
    constraints = {"floor": 0.3, "caps": {"noise": 0.34}, "max_epochs": None}
    content = tiny_recipe(tmp_path / "project", decision={"at": [0.5]}, constraints=constraints, arms=["evermix"])
    (decision,) = last_phase(em.run(Recipe.model_validate(content))).decisions
    for record in (*decision.segments[1:],):
        assert min(record.mixture.values()) >= 0.3 - 1e-9
        assert record.mixture["noise"] <= 0.34 + 1e-9
    assert decision.mixture["noise"] <= 0.34 + 1e-6


def test_the_mixture_in_force_stays_where_no_gain_is_expected(tmp_path: Path, tiny_recipe: Make) -> None:
    """Rules that leave one mixture leave nothing to gain: it stays in every digit."""
    start = {"code": 0.5, "prose": 0.3, "noise": 0.2}
    rules = {"fixed": start, "max_epochs": None}
    content = tiny_recipe(
        tmp_path / "project", decision={"at": [0.5]}, start=start, constraints=rules, arms=["evermix"]
    )
    (decision,) = last_phase(em.run(Recipe.model_validate(content))).decisions
    assert decision.expected is not None
    assert (decision.expected.gain, decision.expected.stays) == (0.0, True)
    assert decision.mixture == start
    assert decision.status.startswith("the mixture in force stays")


def test_a_strong_pull_keeps_the_start(tmp_path: Path, tiny_recipe: Make) -> None:
    content = tiny_recipe(tmp_path / "project", decision={"at": [0.5], "kl_weight": 1e9}, arms=["evermix"])
    (decision,) = last_phase(em.run(Recipe.model_validate(content))).decisions
    assert decision.mixture == pytest.approx(dict.fromkeys(decision.mixture, 1 / 3), abs=1e-4)


def test_what_rules_forbid_does_not_stay(tmp_path: Path, tiny_recipe: Make) -> None:
    """The start is above a cap: however little a change promises, it is left; without an experiment too."""
    rules = {"caps": {"noise": 0.2}, "max_epochs": None}
    for number, decision in enumerate(({"at": [0.5], "kl_weight": 1e9}, {})):
        content = tiny_recipe(tmp_path / str(number), decision=decision, constraints=rules, arms=["evermix"])
        phase = last_phase(em.run(Recipe.model_validate(content)))
        assert len(phase.decisions) == len(decision.get("at", ()))
        assert phase.mixture["noise"] == pytest.approx(0.2, abs=1e-6)


def test_tasks_are_decided_by_probes(tmp_path: Path, tiny_recipe: Make) -> None:
    task = {"name": "t", "kind": "answer", "file": "t.jsonl", "role": "fit"}
    content = tiny_recipe(tmp_path / "project", decision={"by": "tasks"}, tasks=[task])
    recipe = Recipe.model_validate(content)
    assert not recipe.decides_in_run
    assert timetable(recipe, recipe.timeline(recipe.phase_orders[0])[0]) is None


@pytest.mark.parametrize("h", [1.2, 2.2, 4.0])
def test_what_came_of_a_decision_tells_the_horizon(h: float) -> None:
    """Planted: a share moves losses by r after a segment and by h r at the end, in between by log of tokens.

    The second experiment sees a part of that of the mixture that was decided after the first.
    """
    rng, m, total = np.random.default_rng(0), 12, 1e6
    first, second = (np.array(start * 2.4 ** (np.arange(9) / 8)) for start in (1e5, 2.4e5))
    uniform, decided = Mixture.uniform(DomainSet(map(str, range(m)))), rng.dirichlet(np.full(m, 3.0))
    fall, r = 0.4, rng.uniform(0.03, 0.1, m)

    def losses(tokens: Floats, mixtures: Floats, moved: Floats) -> Floats:
        y: Floats = 4.0 - fall * np.log(tokens / 1e5)[:, None] - r * np.log(mixtures / mixtures[0]) - moved
        return y

    levels = balanced_levels(uniform.weights, 8, (0.5, 0.8, 1.15, 1.55), rng)
    laws = []
    for tokens, centre in ((first, uniform.weights), (second, decided)):
        mixtures = np.vstack([centre, [row * centre / (row @ centre) for row in levels]])
        way = np.log(tokens[-1] / first[-1]) / np.log(total / first[-1])
        moved = ((1 - way) + way * h) * r * np.log(centre / uniform.weights)
        law = ResponseLaw(None, tokens, total, centre).fit(Runs.of(mixtures, losses(tokens, mixtures, moved)))
        laws.append(law)
    names = tuple(map(str, range(m)))
    found = learnt(Horizon(), [came_of(laws[0], laws[1], names)], names)
    assert np.mean(found.factor) == pytest.approx(h, abs=0.5)
