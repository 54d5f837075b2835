"""The training of a phase in pieces: which names and weights its beginning has, against undivided trainings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evermix.lifecycle.course import Course, optimisation_of, schedule_of
from evermix.lifecycle.state import ModelState, Piece, Stretch, train
from evermix.training.segment import ONLY_TO_GO_ON
from tests.lifecycle.arms.conftest import opened

Make = Callable[..., dict[str, Any]]
ROWS = 4 * 32  # tokens of a step


@pytest.fixture
def make(tiny_recipe: Make, tmp_path: Path) -> Make:
    """A recipe of one phase, all in one project."""

    def recipe(n_steps: int, **training: Any) -> dict[str, Any]:
        content = tiny_recipe(tmp_path / "project", model={"rung": "0.05M"}, arms=["uniform"])
        content["training"] = {"tokens": n_steps * ROWS, "batch_sequences": 4, "evaluations": 0, **training}
        content["decision"]["mode"] = "probe-law"
        return content

    return recipe


def weights(state: ModelState) -> dict[str, torch.Tensor]:
    return load_file(state.trained / "model.safetensors")


def test_a_phase_is_cut_where_its_rate_begins_to_fall(make: Make) -> None:
    """The two pieces are one training bit for bit; the first keeps its optimiser, the second ends without."""
    context = opened(make(20))
    phase = context.orders[0][0]
    mixture = context.over_all(context.named_mixture(phase))
    course = Course.begin(ModelState.initial(context), phase).on(context, mixture, 20)
    pieces = [entry.payload["end_row"] for entry in context.project.ledger.entries("segment")]
    assert pieces == [16 * 4, 20 * 4]
    optimisation = optimisation_of(phase.training, schedule_of(phase))
    undivided = Piece((Stretch(mixture, 20),), optimisation, phase, "whole")
    whole, compute = train(context, ModelState.initial(context), undivided)
    assert whole.run_id != course.state.run_id
    torch.testing.assert_close(weights(course.state), weights(whole), atol=0, rtol=0)
    assert course.compute.flops == compute.flops
    kept = {path.name for path in context.project.folder.glob("runs/*/checkpoint-16/*")}
    assert {"optimizer.pt", "scheduler.pt"} <= kept
    assert not ONLY_TO_GO_ON & {path.name for path in course.state.trained.iterdir()}


def test_trainings_of_any_length_have_their_beginning_in_common(make: Make) -> None:
    """It is trained once for all that are cut there, with whatever decay: 4 of 20 steps, 16 of 32, none of 16."""
    reached = []
    for n_steps, decay in ((20, 0.2), (32, 0.5), (16, 0.0)):
        context = opened(make(n_steps, decay_fraction=decay, warmup_fraction=2 / n_steps))
        phase = context.orders[0][0]
        mixture = context.over_all(context.named_mixture(phase))
        reached.append(Course.begin(ModelState.initial(context), phase).on(context, mixture, 16).state)
        assert phase.fork_step == 16
        assert len(list(context.project.ledger.entries("segment"))) == 1
    assert len({state.run_id for state in reached}) == 1


def test_a_decision_within_the_decay_cuts_it_once_more(make: Make) -> None:
    context = opened(make(20))
    phase = context.orders[0][0]
    mixture = context.over_all(context.named_mixture(phase))
    course = Course.begin(ModelState.initial(context), phase)
    for end in (10, 18, 20):
        course = course.on(context, mixture, end)
    cuts = [entry.payload["end_row"] // 4 for entry in context.project.ledger.entries("segment")]
    assert cuts == [10, 16, 18, 20]
    assert {"optimizer.pt", "scheduler.pt"} <= {
        path.name for path in context.project.folder.glob("runs/*/checkpoint-18/*")
    }


def test_a_cosine_is_one_piece(make: Make) -> None:
    context = opened(make(20, schedule="cosine"))
    phase = context.orders[0][0]
    assert phase.fork_step == 20
    mixture = context.over_all(context.named_mixture(phase))
    Course.begin(ModelState.initial(context), phase).on(context, mixture, 20)
    assert len(list(context.project.ledger.entries("segment"))) == 1
