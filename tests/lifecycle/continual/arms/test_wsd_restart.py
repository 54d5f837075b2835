"""Arm wsd-restart: its first branch against an ordinary run with a decay, its trunk against one long constant run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from evermix.ledger import Project
from evermix.lifecycle.continual.arms.wsd_restart import wsd_restart
from evermix.lifecycle.continual.bench import open_life
from evermix.lifecycle.continual.learner import Learner, Training, train
from evermix.lifecycle.progress import Reporter
from evermix.recipe import Recipe
from evermix.training.segment import LearningRate, Optimisation

Rows = dict[str, list[dict[str, Any]]]


def weights(project: Path, run_id: str) -> dict[str, torch.Tensor]:
    return load_file(next((project / "runs" / run_id).glob("checkpoint-*")) / "model.safetensors")


def test_the_first_branch_is_an_ordinary_run_with_a_decay(lived: tuple[Path, dict[str, Any]], rows: Rows) -> None:
    ordinary = weights(lived[0], rows["uniform"][0]["model"])
    branch = weights(lived[0], rows["wsd-restart"][0]["model"])
    torch.testing.assert_close(branch, ordinary, atol=0, rtol=0)


def test_the_trunk_is_one_long_run_at_a_constant_rate(life: Any, tmp_path: Path) -> None:
    content = life(tmp_path / "project")
    code = content["phases"][1]["add"][0]
    content |= {"domains": [*content["domains"], code], "arms": ["wsd-restart"]}
    content["phases"] = [{"name": "base", "kind": "pretrain"}, {"name": "more", "tokens": 10 * 4 * 32}]
    recipe = Recipe.model_validate(content)
    project = Project(recipe.project_folder)
    bench = open_life(recipe, project, Reporter(project, None))
    stages = recipe.timeline(recipe.phase_orders[0])
    first = wsd_restart(bench, Learner.newborn(bench), stages[:1])
    second = wsd_restart(bench, first.learner, stages)
    assert second.learner.step == 30
    assert second.record["optimiser"] == "carried on"

    training = recipe.training
    rate = LearningRate("constant", 30, round(training.warmup_fraction * 20))
    whole = Training(second.mixture, Optimisation(training.learning_rate, rate, 4), 30, 30, "one run")
    reached, _ = train(bench, Learner.newborn(bench), whole)
    assert reached.run_id != second.learner.run_id
    found, expected = (weights(project.folder, run_id) for run_id in (second.learner.run_id, reached.run_id))
    torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_trunk_and_branch_are_counted(lived: tuple[Path, dict[str, Any]], rows: Rows) -> None:
    n = sum(lived[1]["n_parameters"].values())
    for row, steps in zip(rows["wsd-restart"], (20, 10, 10), strict=True):
        parts = row["cost"]["by_part"]
        trunk = parts["prefix" if row["number"] == 0 else "training"]
        assert trunk["flops"] == pytest.approx(6 * n * steps * 4 * 32)
        assert parts["decay"]["flops"] == pytest.approx(6 * n * 0.2 * steps * 4 * 32)
        assert len(parts) == 2
        assert row["told"]["decay_steps"] == 0.2 * steps


def test_it_is_uniform_over_the_domains_so_far(rows: Rows) -> None:
    assert rows["wsd-restart"][1]["mixture"] == {"prose": 0.5, "code": 0.5}
    assert rows["wsd-restart"][2]["mixture"] == pytest.approx(dict.fromkeys(("prose", "code", "noise"), 1 / 3))


def test_another_batch_begins_a_new_optimiser(life: Any, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["wsd-restart"])
    content["phases"][1]["training"] = {"batch_sequences": 8, "decay_fraction": 0.0}
    recipe = Recipe.model_validate(content)
    project = Project(recipe.project_folder)
    bench = open_life(recipe, project, Reporter(project, None))
    stages = recipe.timeline(recipe.phase_orders[0])
    first = wsd_restart(bench, Learner.newborn(bench), stages[:1])
    second = wsd_restart(bench, first.learner, stages[:2])
    assert second.record == {"trunk": second.model_id, "decay_steps": 0, "optimiser": "new"}
    assert second.learner.step == 5
    assert second.learner.life.n_rows == 20 * 4 + 5 * 8
