"""Arm wsd-restart: its first branch against an ordinary run with a decay, its trunk against one long constant run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evermix.lifecycle.arms.wsd_restart import WsdRestart
from evermix.lifecycle.state import ModelState, Piece, train
from evermix.results import PhaseResult, RunResult
from evermix.training.segment import LearningRate, Optimisation
from tests.lifecycle.arms.conftest import opened
from tests.lifecycle.arms.test_mergemix import n_parameters

Make = Callable[..., dict[str, Any]]
Rows = dict[str, tuple[PhaseResult, ...]]


def weights(project: Path, run_id: str) -> dict[str, torch.Tensor]:
    return load_file(next((project / "runs" / run_id).glob("checkpoint-*")) / "model.safetensors")


def test_the_first_branch_is_an_ordinary_run_with_a_decay(lived: tuple[Path, RunResult], rows: Rows) -> None:
    ordinary = weights(lived[0], rows["uniform"][0].model_id)
    branch = weights(lived[0], rows["wsd-restart"][0].model_id)
    torch.testing.assert_close(branch, ordinary, atol=0, rtol=0)


def test_the_trunk_is_one_long_run_at_a_constant_rate(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project")
    code = content["phases"][1]["add"][0]
    content |= {"domains": [*content["domains"], code], "arms": ["wsd-restart"]}
    content["phases"] = [{"name": "base", "kind": "pretrain"}, {"name": "more", "tokens": 10 * 4 * 32}]
    context = opened(content)
    phases, arm = context.orders[0], WsdRestart()
    first = arm.run(context, ModelState.initial(context), phases[:1])
    second = arm.run(context, first.state, phases)
    assert second.state.step == 30
    assert second.record["optimiser"] == "carried on"

    training = context.recipe.training
    rate = LearningRate("constant", 30, round(training.warmup_fraction * 20))
    whole = Piece(second.mixture, Optimisation(training.learning_rate, rate, 4), 30, 30, "one run", "one run")
    reached, _ = train(context, ModelState.initial(context), whole)
    assert reached.run_id != second.state.run_id
    found, expected = (weights(tmp_path / "project", run_id) for run_id in (second.state.run_id, reached.run_id))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_trunk_and_branch_are_counted(lived: tuple[Path, RunResult], rows: Rows) -> None:
    n = n_parameters(lived[1])
    for row, steps in zip(rows["wsd-restart"], (20, 10, 10), strict=True):
        parts = row.compute.by_part
        trunk = parts["prefix" if row.number == 0 else "training"]
        assert trunk.flops == pytest.approx(6 * n * steps * 4 * 32)
        assert parts["decay"].flops == pytest.approx(6 * n * 0.2 * steps * 4 * 32)
        assert len(parts) == 2
        assert row.record["decay_steps"] == 0.2 * steps


def test_it_is_uniform_over_the_domains_so_far(rows: Rows) -> None:
    assert rows["wsd-restart"][1].mixture == {"prose": 0.5, "code": 0.5}
    assert rows["wsd-restart"][2].mixture == pytest.approx(dict.fromkeys(("prose", "code", "noise"), 1 / 3))


def test_another_batch_begins_a_new_optimiser(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["wsd-restart"])
    content["phases"][1]["training"] = {"batch_sequences": 8, "decay_fraction": 0.0}
    context = opened(content)
    phases, arm = context.orders[0], WsdRestart()
    first = arm.run(context, ModelState.initial(context), phases[:1])
    second = arm.run(context, first.state, phases[:2])
    assert second.record == {"trunk": second.model_id, "decay_steps": 0, "optimiser": "new"}
    assert second.state.step == 5
    assert second.state.history.n_rows == 20 * 4 + 5 * 8
