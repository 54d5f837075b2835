"""The whole chain on a tiny budget: results, reuse of finished work, and death at any moment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evermix.errors import ConstraintError, CorpusError, EvermixError, RecipeError
from evermix.ledger import Ledger
from evermix.lifecycle import plan, run
from evermix.recipe import Recipe

Make = Callable[..., dict[str, Any]]


def _run(content: dict[str, Any]) -> dict[str, Any]:
    return run(Recipe.model_validate(content))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Make) -> tuple[dict[str, Any], dict[str, Any]]:
    """A recipe with every mode cross-checked, and its result."""
    content = tiny_recipe(tmp_path_factory.mktemp("run") / "project", arms=["natural", "uniform", "evermix"])
    content["decision"] = content["decision"] | {"cross_checks": True}
    return content, _run(content)


def _comparable(result: dict[str, Any]) -> dict[str, Any]:
    """Everything but wall-clock time."""
    if isinstance(result, dict):
        return {key: _comparable(value) for key, value in result.items() if "seconds" not in key}
    return [_comparable(value) for value in result] if isinstance(result, list) else result


def test_result_says_what_was_decided_and_what_it_cost(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    content, result = finished
    assert json.loads((Path(content["project"]) / "result.json").read_text()) == result
    assert list(result["arms"]) == ["natural", "uniform", "evermix"]
    (decision,) = result["decisions"]
    assert decision["mode"] == "probe-law"
    assert set(decision["modes"]) == {"probe-law", "interpolation", "gradient"}
    for mode in decision["modes"].values():
        shares = np.array(list(mode["mixture"].values()))
        assert shares.sum() == pytest.approx(1)
        assert shares.min() >= 0.01 - 1e-6
    arm = result["arms"]["evermix"]
    assert arm["mixture"] == decision["mixture"]
    assert arm["flops"] == pytest.approx(sum(arm["flops_by_part"].values()))
    n = result["n_parameters"]["non_embedding"] + result["n_parameters"]["output_projection"]
    assert arm["flops_by_part"]["training"] == 6 * n * result["total_tokens"]
    assert arm["flops_by_part"]["probes"] == 4 * n * 4 * 5 * 4 * 32
    assert sum(arm["tokens"].values()) == result["total_tokens"]
    losses = [row["loss_nats"] for row in arm["per_domain"].values()]
    assert arm["mean_perplexity"] == pytest.approx(np.mean(np.exp(losses)))
    assert arm["means_over_all_domains"]["mean_perplexity"] == pytest.approx(arm["mean_perplexity"])
    assert [point["n_tokens"] for point in arm["curve"]] == [20 * 128, 30 * 128, 40 * 128, 60 * 128]


def test_tokens_follow_the_schedule_exactly(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    arm = finished[1]["arms"]["evermix"]
    for name, n_tokens in arm["tokens"].items():
        wanted = sum(phase["mixture"][name] * 30 * 128 for phase in arm["schedule"])
        assert abs(n_tokens - wanted) <= 2 * 32


def test_uniform_and_evermix_share_their_beginning(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    content, result = finished
    ledger = Ledger(Path(content["project"]) / "ledger.sqlite")
    assert len(ledger.entries("segment")) == 2 * 3 - 1
    (outcome,) = ledger.entries("outcome")
    assert outcome.payload["realised_loss_nats"] == result["decisions"][0]["realised_loss_nats"]


def test_the_second_run_trains_nothing(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    content, result = finished
    runs = Path(content["project"]) / "runs"
    before = {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}
    assert _run(content) == result
    assert before == {path: path.stat().st_mtime_ns for path in runs.rglob("*") if path.is_file()}


def test_killed_at_any_moment_it_goes_on_to_the_same_result(tmp_path: Path, tiny_recipe: Make) -> None:
    """kill -9 after ever more work, until the run ends by itself; the result equals an undisturbed one bit for bit."""
    content = tiny_recipe(tmp_path / "killed")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps(content))
    program = (
        "import json, sys; from evermix.lifecycle import run; from evermix.recipe import Recipe\n"
        "run(Recipe.model_validate(json.load(open(sys.argv[1]))))"
    )
    kills = 0
    for n_files in (3, 12, 25, 40, 60, 10_000):
        process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", program, str(recipe)])
        while process.poll() is None and _count_files(tmp_path / "killed") < n_files:
            time.sleep(0.02)
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        if process.wait() == 0:
            break
    assert kills >= 3
    resumed = json.loads((tmp_path / "killed" / "result.json").read_text())
    undisturbed = _run(content | {"project": str(tmp_path / "whole")})
    assert _comparable(resumed) == _comparable(undisturbed)


def _count_files(folder: Path) -> int:
    """Files ever seen under the runs folder; a growing measure of progress."""
    return sum(len(files) for _, _, files in os.walk(folder))


@pytest.mark.parametrize("mode", ["interpolation", "gradient"])
def test_every_mode_keeps_every_constraint(mode: str, tmp_path: Path, tiny_recipe: Make) -> None:
    content = tiny_recipe(tmp_path / "p", arms=["evermix"])
    content["decision"] = content["decision"] | {"mode": mode}
    content["constraints"] = {"fixed": {"code": 0.3}, "caps": {"noise": 0.05}, "floors": {"noise": 0.02}}
    content["objective"] = {"quantity": "bits_per_byte", "weights": {"prose": 1.0, "noise": 0.0}}
    arm = _run(content)["arms"]["evermix"]
    mixture = arm["mixture"]
    assert arm["mean_bits_per_byte"] == pytest.approx(arm["per_domain"]["prose"]["bits_per_byte"])
    assert arm["objective_value"] == pytest.approx(arm["mean_bits_per_byte"])
    assert mixture["code"] == pytest.approx(0.3, abs=1e-6)
    assert 0.02 - 1e-6 <= mixture["noise"] <= 0.05 + 1e-6


def test_several_decision_points(tmp_path: Path, tiny_recipe: Make) -> None:
    content = tiny_recipe(tmp_path / "p", arms=["evermix"])
    content["decision"] = content["decision"] | {"at": [0.4, 0.7]}
    result = _run(content)
    assert [d["at_step"] for d in result["decisions"]] == [24, 42]
    first, second = result["decisions"]
    blend = {n: (24 * first["old"][n] + 18 * first["mixture"][n]) / 42 for n in first["old"]}
    assert second["old"] == pytest.approx(blend)


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"constraints": {"max_epochs": 0.01}}, ConstraintError, "too few"),
        ({"training": {"tokens": 300, "batch_sequences": 4}}, RecipeError, "at least 4 steps"),
        ({"domains": [{"name": "x", "files": ["nowhere.jsonl"]}]}, CorpusError, r"nowhere\.jsonl"),
        ({"model": {"checkpoint": "nowhere"}}, EvermixError, "nowhere"),
        ({"model": {"rung": "3M"}}, RecipeError, "ladder"),
    ],
)
def test_input_that_cannot_work(
    changes: dict[str, Any], error: type[EvermixError], words: str, tmp_path: Path, tiny_recipe: Make
) -> None:
    with pytest.raises(error, match=words):
        _run(tiny_recipe(tmp_path / "p") | changes)


def test_plan_agrees_with_the_run(finished: tuple[dict[str, Any], dict[str, Any]]) -> None:
    content, result = finished
    planned = plan(Recipe.model_validate(content))
    assert planned["total_tokens"] == result["total_tokens"]
    assert planned["flops_training_per_arm"] == result["arms"]["uniform"]["flops"]
    assert planned["flops_probes"] == result["arms"]["evermix"]["flops_by_part"]["probes"]
    assert planned["decision_steps"] == [result["decisions"][0]["at_step"]]
