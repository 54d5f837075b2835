"""Arm proxy-swarm: losses, costs and constraints against figures by hand; finished proxies are never trained again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evermix.ledger import Ledger, Project
from evermix.lifecycle.continual.arms.proxy_swarm import proxy_swarm
from evermix.lifecycle.continual.bench import open_life
from evermix.lifecycle.continual.learner import Learner
from evermix.lifecycle.progress import Reporter
from evermix.models.ladder import ModelSize
from evermix.models.loading import load_model
from evermix.recipe import Recipe
from evermix.training.evaluation import evaluate

Rows = dict[str, list[dict[str, Any]]]


def test_a_single_domain_needs_no_swarm(rows: Rows) -> None:
    assert rows["proxy-swarm"][0]["model"] == rows["uniform"][0]["model"]
    assert set(rows["proxy-swarm"][0]["cost"]["by_part"]) == {"prefix"}


def test_the_stage_is_trained_on_the_proposal(rows: Rows) -> None:
    for row, names in zip(rows["proxy-swarm"][1:], (("code", "prose"), ("code", "noise", "prose")), strict=True):
        assert row["mixture"] == pytest.approx(row["told"]["mixture"])
        assert tuple(sorted(row["told"]["predicted_loss_nats"])) == names
        assert len(row["told"]["proxies"]) == 6
        assert row["told"]["law"] == "power-link"
        assert not row["told"]["left_out"]


def test_losses_of_a_proxy_are_nats_per_token(
    lived: tuple[Path, dict[str, Any]], rows: Rows, life: Any, tmp_path: Path
) -> None:
    project = lived[0]
    recipe = Recipe.model_validate(life(project, arms=["proxy-swarm"]))
    bench = open_life(recipe, Project(project), Reporter(Project(project), None))
    run_id, told = next(iter(rows["proxy-swarm"][1]["told"]["proxies"].items()))
    heldout = bench.heldout(("prose", "code"), 8)
    scores = evaluate(load_model(project / "runs" / f"proxy-{run_id}" / "weights"), heldout)
    assert [told["loss_nats"][name] for name in ("prose", "code")] == pytest.approx(scores.loss_nats.tolist())


def test_costs_of_the_swarm_count_what_an_earlier_stage_has_trained_once(
    lived: tuple[Path, dict[str, Any]], rows: Rows
) -> None:
    project, earlier = lived[0], set[str]()
    for row, n_domains in zip(rows["proxy-swarm"][1:], (2, 3), strict=True):
        part, proxies = row["cost"]["by_part"]["proxies"], set(row["told"]["proxies"])
        n = ModelSize.of(load_model(project / "runs" / f"proxy-{min(proxies)}" / "weights")).counted
        new, shared = len(proxies - earlier), len(proxies & earlier)
        trained, scored = new * 8 * 4 * 32, (new * n_domains + shared) * 8 * 32
        assert part["n_tokens"] == pytest.approx(trained + scored)
        assert part["flops"] == pytest.approx(n * (6 * trained + 2 * scored))
        markers = [project / "runs" / f"proxy-{run_id}" / "done.json" for run_id in proxies - earlier]
        assert part["seconds"] > sum(json.loads(marker.read_text())["seconds"] for marker in markers)
        earlier |= proxies


def test_bounds_count_what_was_spent_and_a_swarm_is_paid_once(life: Any, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["proxy-swarm"])
    prose, code = content["domains"][0], content["phases"][1]["add"][0]
    content |= {"domains": [prose, code], "constraints": {"max_epochs": None, "caps": {"prose": 0.3}}}
    content["phases"] = [{"name": "base"}, {"name": "more", "tokens": 10 * 4 * 32}]
    recipe = Recipe.model_validate(content)
    bench = open_life(recipe, Project(recipe.project_folder), Reporter(Project(recipe.project_folder), None))
    stages = recipe.timeline(recipe.phase_orders[0])
    first = proxy_swarm(bench, Learner.newborn(bench), stages[:1])
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("project/runs/proxy-*/done.json")}
    assert len(trained) == 6
    assert first.mixture["prose"] <= 0.3 + 1e-9
    second = proxy_swarm(bench, first.learner, stages)
    assert second.record["proxies"] == first.record["proxies"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("project/runs/proxy-*/done.json")} == trained
    assert [cost.flops > 0 for cost in (*first.costs, *second.costs)] == [True, True, False, True]
    np.testing.assert_allclose(first.mixture.weights, second.mixture.weights, atol=1e-9)


def test_decisions_are_in_the_ledger(lived: tuple[Path, dict[str, Any]], rows: Rows) -> None:
    decisions = [entry.payload for entry in Ledger(lived[0] / "ledger.sqlite").entries("stage-decision")]
    for arm in ("mergemix", "proxy-swarm"):
        told = {each["stage"]: each for each in decisions if each["mode"] == arm}
        assert set(told) == {"code", "noise"}
        for row in rows[arm][1:]:
            assert told[row["stage"]]["mixture"] == row["mixture"]
            assert told[row["stage"]]["new_share"] == pytest.approx(row["new_share"])
