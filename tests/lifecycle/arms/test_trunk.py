"""Phases on a trunk: trunk and branch against undivided runs, what is decided from, counted and carried on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evermix.ledger import Ledger
from evermix.lifecycle import plan, run
from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.arms.base import PhaseOutcome
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.course import optimisation_of
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.state import ModelState, Piece, Stretch, train
from evermix.recipe import Recipe
from evermix.results import PhaseResult, RunResult
from evermix.training.segment import LearningRate
from tests.lifecycle.arms.conftest import opened
from tests.lifecycle.arms.test_mergemix import n_parameters

Make = Callable[..., dict[str, Any]]
Rows = dict[str, tuple[PhaseResult, ...]]


def weights(state: ModelState) -> dict[str, torch.Tensor]:
    return load_file(state.trained / "model.safetensors")


def go_through(context: RunContext, arm: str = "uniform") -> list[PhaseOutcome]:
    """What an arm makes of every phase."""
    phases, state, outcomes = context.orders[0], ModelState.initial(context), list[PhaseOutcome]()
    for k in range(len(phases)):
        outcomes.append(ARMS[arm].run(context, state, phases[: k + 1]))
        state = outcomes[-1].state
    return outcomes


def cuts(context: RunContext) -> list[tuple[int, int, str]]:
    """Every training so far: steps of four rows over all phases, and the part that it is booked under."""
    entries = [entry.payload for entry in context.project.ledger.entries("segment")]
    return [(each["start_row"] // 4, each["end_row"] // 4, each["part"]) for each in entries]


@pytest.fixture
def unchanging(life: Make, tmp_path: Path) -> dict[str, Any]:
    """A recipe of three phases over the same two domains."""
    content = life(tmp_path / "project", arms=["uniform"])
    code = content["phases"][1]["add"][0]
    more = [{"name": name, "tokens": 10 * 4 * 32} for name in ("more", "last")]
    return content | {"domains": [*content["domains"], code], "phases": [{"name": "base"}, *more]}


def test_trunk_and_branch_are_undivided_runs(unchanging: dict[str, Any]) -> None:
    """Bit for bit, over phases on one mixture: one run at a constant rate, and one that decays at its end."""
    unchanging["training"] |= {"warmup_fraction": 0.1}
    context = opened(unchanging)
    _, second, last = go_through(context)
    assert (second.state.step, last.state.step) == (30, 40)
    assert second.record == {"optimiser": "carried on", "decay_steps": 2.0, "trunk": second.state.run_id}
    assert last.state is last.judged
    phase = context.orders[0][0]

    def undivided(n_steps: int, rate: LearningRate) -> ModelState:
        optimisation = optimisation_of(phase.training, rate)
        whole = Piece((Stretch(second.mixture, n_steps),), optimisation, replace(phase, n_steps=n_steps), "one run")
        return train(context, ModelState.initial(context), whole)[0]

    for found, whole in (
        (second.state, undivided(30, LearningRate("constant", 30, 2))),
        (second.judged, undivided(30, LearningRate("wsd", 30, 2, 2))),
        (last.judged, undivided(40, LearningRate("wsd", 40, 2, 2))),
    ):
        assert found.run_id != whole.run_id
        torch.testing.assert_close(weights(found), weights(whole), atol=0, rtol=0)


def test_trunk_and_branch_read_the_same_rows(unchanging: dict[str, Any]) -> None:
    """Nothing goes on from the last phase: its trunk ends where the branch leaves it."""
    context = opened(unchanging)
    outcomes = go_through(context)
    assert all(outcome.state.history == outcome.judged.history for outcome in outcomes)
    first = [(0, 16, "prefix"), (16, 20, "prefix"), (16, 20, "decay")]
    second = [(20, 28, "training"), (28, 30, "training"), (28, 30, "decay")]
    assert cuts(context) == [*first, *second, (30, 38, "training"), (38, 40, "decay")]


def test_with_a_trunk_and_without_the_beginning_is_the_same(rows: Rows, rows_anew: Rows) -> None:
    for arm in set(rows) - {"retrain", "lora-merge"}:
        on, off = rows[arm], rows_anew[arm]
        assert on[0].model_id == off[0].model_id, arm
        assert {row.model_id for row in on[1:]}.isdisjoint(row.model_id for row in off[1:]), arm
        assert {row.record.get("optimiser") for row in off} == {None}
        assert [row.record["optimiser"] for row in on] == ["new", "carried on", "carried on"]
    assert [row.model_id for row in rows["retrain"]] == [row.model_id for row in rows_anew["retrain"]]


def test_decisions_are_made_from_the_trunk(lived: tuple[Path, RunResult], rows: Rows) -> None:
    probed = {entry.payload["base"] for entry in Ledger(lived[0] / "ledger.sqlite").entries("probe")}
    trunks = {row.record["trunk"] for row in rows["evermix"][:2]}
    assert probed == trunks | {row.model_id for row in rows["lora-merge"][:2]}  # which has none


@pytest.mark.parametrize("is_last", [True, False])
def test_a_decision_within_the_decay_is_made_from_the_trunk(unchanging: dict[str, Any], is_last: bool) -> None:
    phases = [{"name": "base", "kind": "pretrain"}, *unchanging["phases"][1:2]]
    decision = {"mode": "probe-law", "at": [0.5, 0.9], "probes": {"steps": 5, "rank": 4, "evaluation_sequences": 8}}
    context = opened(unchanging | {"phases": phases[:1] if is_last else phases, "decision": decision})
    (phase, *_) = context.orders[0]
    outcome = ARMS["evermix"].run(context, ModelState.initial(context), (phase,))
    assert [decision.at_step for decision in outcome.decisions] == [10, 18]
    trunk = [(0, 10, "prefix"), (10, 16, "training"), (16, 18, "training")]
    ended = [] if is_last else [(18, 20, "training")]
    assert cuts(context) == [*trunk, (16, 18, "decay"), *ended, (18, 20, "decay")]
    segments = [entry.key for entry in context.project.ledger.entries("segment")]
    probed = list(dict.fromkeys(entry.payload["base"] for entry in context.project.ledger.entries("probe")))
    assert probed == [segments[0], segments[2]]
    assert outcome.judged.run_id == segments[-1]
    booked = {part: compute.n_tokens for part, compute in outcome.compute.by_part.items()}
    planned = ARMS["evermix"].estimate(context.recipe, (phase,))
    for part in ("prefix", "training", "decay"):
        assert booked[part] == pytest.approx(sum(work.n_tokens for work in planned if work.part == part)), part


def test_trunk_and_branch_are_counted(lived: tuple[Path, RunResult], rows: Rows) -> None:
    n = n_parameters(lived[1])
    for row, trunk, branch in zip(rows["uniform"], (20, 10, 8), (4, 2, 2), strict=True):
        parts = row.compute.by_part
        assert parts["prefix" if row.number == 0 else "training"].flops == pytest.approx(6 * n * trunk * 4 * 32)
        assert parts["decay"].flops == pytest.approx(6 * n * branch * 4 * 32)
        assert len(parts) == 2
        assert row.record["decay_steps"] == branch


def test_progress_comes_to_what_was_expected(unchanging: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions within a phase rise with every step of trunk and branch, up to what the arm has estimated."""
    positions = list[float]()
    monkeypatch.setattr(Reporter, "trained", lambda self, position, n_new: positions.append(position))
    context, state = opened(unchanging), None
    phases = context.orders[0]
    for k in range(len(phases)):
        outcome = ARMS["uniform"].run(context, state or ModelState.initial(context), phases[: k + 1])
        state = outcome.state
        assert positions == sorted(positions)
        expected = sum(work.n_tokens for work in ARMS["uniform"].estimate(context.recipe, phases[: k + 1]))
        assert positions[-1] == pytest.approx(expected) == pytest.approx(outcome.compute.n_tokens)
        positions.clear()


def test_the_curve_of_a_phase_is_counted_from_its_beginning(unchanging: dict[str, Any]) -> None:
    unchanging["training"] |= {"evaluations": 2}
    outcomes = go_through(opened(unchanging))
    steps = [[point.step for point in outcome.judged.curve] for outcome in outcomes]
    assert steps == [[10, 16, 20], [5, 8, 10], [5, 8, 10]]
    for outcome in outcomes:
        assert [point.n_tokens for point in outcome.judged.curve] == [p.step * 4 * 32 for p in outcome.judged.curve]


def test_another_batch_begins_a_new_optimiser(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["uniform"])
    content["phases"][1]["training"] = {"batch_sequences": 8, "decay_fraction": 0.0}
    context = opened(content)
    first, second, _ = go_through(context)
    assert second.record == {"trunk": second.judged.run_id, "decay_steps": 0, "optimiser": "new"}
    assert second.state.step == 5
    assert second.state.history.n_rows == 20 * 4 + 5 * 8
    starts = [entry.payload for entry in context.project.ledger.entries("segment") if entry.payload["phase"] == "code"]
    assert len(starts) == 1
    assert first.state.run_id != first.judged.run_id


@pytest.mark.parametrize("cosine", [0, 1])
def test_a_phase_with_a_cosine_has_no_trunk(unchanging: dict[str, Any], cosine: int) -> None:
    unchanging["phases"] = unchanging["phases"][:2]
    unchanging["phases"][cosine] = {**unchanging["phases"][cosine], "training": {"schedule": "cosine"}}
    outcomes = go_through(opened(unchanging))
    assert outcomes[cosine].record == {}
    assert outcomes[cosine].state is outcomes[cosine].judged
    assert outcomes[1 - cosine].record["optimiser"] == "new"
    assert [outcome.state.step for outcome in outcomes] == [20, 10]


def optimisers(outcomes: Sequence[PhaseOutcome]) -> list[Any]:
    return [outcome.record["optimiser"] for outcome in outcomes]


def test_a_later_phase_goes_on_with_what_agrees(unchanging: dict[str, Any]) -> None:
    """The rate's shape and the clipping may change; the rate may not."""
    own = ({"decay_fraction": 0.5, "warmup_fraction": 0.5, "clip_norm": 2.0}, {"learning_rate": 1e-3})
    for phase, training in zip(unchanging["phases"][1:], own, strict=True):
        phase["training"] = training
    assert optimisers(go_through(opened(unchanging))) == ["new", "carried on", "new"]


@pytest.mark.parametrize("trunk", [True, False])
def test_a_later_phase_is_its_own_experiment(life: Make, tmp_path: Path, trunk: bool) -> None:
    """Steps and tokens of its segments are counted from where the phase begins, on a trunk too."""
    content = life(tmp_path / "project", arms=["evermix"], replay={"evidence": "in-run"})
    content["training"] |= {"trunk": trunk}
    content["phases"] = [{**content["phases"][0]}, {**content["phases"][1], "tokens": 60 * 4 * 32}]
    experiments = {"segments": 8, "evaluation_sequences": 2}
    content["decision"] |= {"mode": "in-run", "at": [0.6], "experiments": experiments}
    result = run(Recipe.model_validate(content))
    phase = result.arms["evermix"].orders[0][1]
    (decision,) = phase.decisions
    assert decision.evidence == "in-run"
    assert decision.at_step == 36
    steps = [segment.step for segment in decision.segments]
    assert len(steps) == 9
    assert steps == sorted(set(steps))
    assert steps[-1] == 36
    per_step = decision.segments[-1].n_tokens / 36
    assert [segment.n_tokens / segment.step for segment in decision.segments] == pytest.approx([per_step] * 9, rel=0.05)
    assert [part.start_row // 4 for part in phase.schedule] == [0, *steps]
    assert phase.mixture == pytest.approx(decision.mixture)
    assert "probes" not in phase.compute.by_part
    planned = plan(Recipe.model_validate(content)).phases[0][1]
    assert planned.n_probes == 0
