"""The arms die at any place and go on; what is finished is not done again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evermix.lifecycle import run
from evermix.recipe import Recipe
from evermix.results import PhaseResult, RunResult
from tests.lifecycle.killing import comparable, kill_at

Make = Callable[..., dict[str, Any]]
Rows = dict[str, tuple[PhaseResult, ...]]
ARMS = ("mergemix", "lora-merge", "uniform", "proxy-swarm")


def test_killed_and_resumed_they_end_as_if_undisturbed(rows: Rows, life: Make, tmp_path: Path) -> None:
    content = life(tmp_path / "project", arms=list(ARMS))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps(content))
    for wanted in ("code: merges", "code: decay", "code: 6 proxies"):
        kill_at(recipe, tmp_path / "project" / "status.json", wanted)
    result = run(Recipe.model_validate(content))
    for arm in ARMS:
        assert comparable(result.arms[arm].orders[0]) == comparable(rows[arm])


def test_a_second_run_does_nothing_again(lived: tuple[Path, RunResult], life: Make) -> None:
    project, result = lived
    before = {path: path.stat().st_mtime_ns for path in project.glob("runs/*/*")}
    again = run(Recipe.model_validate(life(project, arms=list(result.arms))))
    assert again == result
    assert {path: path.stat().st_mtime_ns for path in project.glob("runs/*/*")} == before
