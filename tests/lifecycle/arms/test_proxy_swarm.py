"""Arm proxy-swarm: losses, compute and constraints against figures by hand; finished proxies are not trained again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evermix.ledger import Ledger
from evermix.lifecycle import run
from evermix.lifecycle.arms.decided import ProxySwarm
from evermix.lifecycle.evidence.swarm import PhaseSwarm, SwarmEvidence
from evermix.lifecycle.state import ModelState
from evermix.models.ladder import ModelSize
from evermix.models.loading import load_model
from evermix.recipe import Recipe
from evermix.recipe.start import by_weights
from evermix.results import PhaseResult, RunResult
from evermix.training.evaluation import evaluate
from tests.lifecycle.arms.conftest import opened

Make = Callable[..., dict[str, Any]]
Rows = dict[str, tuple[PhaseResult, ...]]


def test_a_single_domain_needs_no_swarm(rows: Rows) -> None:
    assert rows["proxy-swarm"][0].model_id == rows["uniform"][0].model_id
    assert set(rows["proxy-swarm"][0].compute.by_part) == {"prefix", "decay"}


def test_the_phase_is_trained_on_the_proposal(rows: Rows) -> None:
    for row, names in zip(rows["proxy-swarm"][1:], (("code", "prose"), ("code", "noise", "prose")), strict=True):
        (decision,) = row.decisions
        assert row.mixture == pytest.approx(decision.mixture)
        assert tuple(sorted(decision.predicted_loss_nats)) == names
        assert decision.evidence == "swarm"
        assert decision.swarm is not None
        assert decision.swarm.this_version.n_runs == 6
        assert decision.swarm.n_tokens == 10 * 4 * 32  # of the phase
        assert decision.mode == "power-link"
        assert not decision.swarm.left_out


def test_losses_of_a_proxy_are_nats_per_token(lived: tuple[Path, RunResult], life: Make) -> None:
    project = lived[0]
    context = opened(life(project, arms=["proxy-swarm"]))
    phases = context.orders[0][:2]
    swarm = PhaseSwarm(context, phases[1])
    evidence, state = SwarmEvidence(), ModelState.initial(context)
    request = evidence.request(context, state, phases, "proxy-swarm")
    assert request is not None
    observations = evidence.measure(context, state, request).observations
    assert observations.run_ids is not None
    assert observations.run_ids == tuple(proxy.run_id for proxy in swarm.proxies)
    heldout = context.heldout(observations.metrics, "decision", 8)
    scores = evaluate(load_model(project / "runs" / f"proxy-{observations.run_ids[0]}" / "weights"), heldout)
    assert observations.values[0] == pytest.approx(scores.loss_nats)


def test_compute_of_the_swarm_counts_what_an_earlier_phase_has_trained_once(
    lived: tuple[Path, RunResult], rows: Rows, life: Make
) -> None:
    project, earlier = lived[0], set[str]()
    context = opened(life(project, arms=["proxy-swarm"]))
    for row, phase, n_domains in zip(rows["proxy-swarm"][1:], context.orders[0][1:], (2, 3), strict=True):
        part = row.compute.by_part["proxies"]
        proxies = {proxy.run_id for proxy in PhaseSwarm(context, phase).proxies}
        assert len(proxies) == 6
        n = ModelSize.of(load_model(project / "runs" / f"proxy-{min(proxies)}" / "weights")).counted
        new, shared = len(proxies - earlier), len(proxies & earlier)
        trained, scored = new * 8 * 4 * 32, (new * n_domains + shared) * 8 * 32
        assert part.n_tokens == pytest.approx(trained + scored)
        assert part.flops == pytest.approx(n * (6 * trained + 2 * scored))
        markers = [project / "runs" / f"proxy-{run_id}" / "done.json" for run_id in proxies - earlier]
        assert part.seconds > sum(json.loads(marker.read_text())["seconds"] for marker in markers)
        earlier |= proxies


def test_bounds_count_what_was_spent_and_a_swarm_is_paid_once(life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=["proxy-swarm"])
    prose, code = content["domains"][0], content["phases"][1]["add"][0]
    rules = {"max_epochs": None, "floor": 0.01, "caps": {"prose": 0.3}}
    content |= {"domains": [prose, code], "constraints": rules}
    content["phases"] = [{"name": "base"}, {"name": "more", "tokens": 10 * 4 * 32}]
    context = opened(content)
    phases, arm = context.orders[0], ProxySwarm()
    first = arm.run(context, ModelState.initial(context), phases[:1])
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("project/runs/proxy-*/done.json")}
    assert len(trained) == 6
    assert first.mixture["prose"] <= 0.3 + 1e-9
    second = arm.run(context, first.state, phases)
    asked = [[proxy.run_id for proxy in PhaseSwarm(context, phase).proxies] for phase in phases]
    assert asked[0] == asked[1]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("project/runs/proxy-*/done.json")} == trained
    for outcome, parts in ((first, {"proxies", "prefix", "decay"}), (second, {"training", "decay"})):
        assert {name for name, part in outcome.compute.by_part.items() if part.flops > 0} == parts
    np.testing.assert_allclose(first.mixture.weights, second.mixture.weights, atol=1e-9)


def test_decisions_are_in_the_ledger(lived: tuple[Path, RunResult], rows: Rows) -> None:
    decisions = [entry.payload for entry in Ledger(lived[0] / "ledger.sqlite").entries("decision")]
    for arm in ("mergemix", "proxy-swarm"):
        kept = {each["phase"]: each for each in decisions if each["arm"] == arm}
        assert set(kept) == {"code", "noise"}
        for row in rows[arm][1:]:
            assert kept[row.phase]["mixture"] == row.mixture
            assert kept[row.phase]["new_share"] == pytest.approx(row.new_share)


def test_a_phase_asks_for_what_the_recipe_says_of_its_domains(life: Make, tmp_path: Path) -> None:
    """Rules about domains of later phases wait for them; a start by domain holds for the first phase only."""
    content = life(tmp_path / "project", arms=["evermix"], method="olmix")
    prose, (code, noise) = content["domains"][0], (content["phases"][k]["add"][0] for k in (1, 2))
    content |= {"domains": [prose, code], "start": {"prose": 0.75, "code": 0.25}}
    content["phases"] = [{"name": "base"}, {"name": "noise", "add": [noise], "tokens": 10 * 4 * 32}]
    content["objective"] = {"weights": {"prose": 1.0, "noise": 3.0}}
    content["constraints"]["groups"] = {"texts": {"members": ["prose", "noise"], "greatest": 0.4}}
    content["decision"] = {
        "law": "power-link",
        "prior": "start",
        "kl": 0.2,
        "resamples": 0,
        "compare": {"mine": {"prose": 0.5, "noise": 0.5}},
    }
    content["swarm"] = content["swarm"] | {"design": {"caps": {"noise": 0.8}}}
    result = run(Recipe.model_validate(content))
    first, second = (phase.decisions[0] for phase in result.arms["evermix"].orders[0])
    assert first.mixture["prose"] <= 0.4 + 1e-6
    assert second.mixture["prose"] + second.mixture["noise"] <= 0.4 + 1e-6
    assert first.prior == pytest.approx({"prose": 0.75, "code": 0.25})
    weights = {"prose": 1.0, "noise": 3.0}
    assert second.prior == pytest.approx(by_weights(("prose", "code", "noise"), weights, "perplexity"))
    assert "mine" not in first.predicted_objective
    assert "mine" in second.predicted_objective
    for decision, weights in ((first, {"prose": 1.0}), (second, {"prose": 0.25, "noise": 0.75})):
        told = sum(weight * np.exp(decision.predicted_loss_nats[name]) for name, weight in weights.items())
        assert decision.predicted_objective["chosen"] == pytest.approx(told)
