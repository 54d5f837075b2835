"""A small life of a pretraining and two stages, gone through once by the arms under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evermix.lifecycle.continual import run
from evermix.recipe import Recipe

Make = Callable[..., dict[str, Any]]
ARMS = ("uniform", "naive", "evermix", "mergemix", "lora-merge", "wsd-restart", "proxy-swarm")


@pytest.fixture(scope="session")
def life(tiny_recipe: Make) -> Make:
    """A recipe of three phases: prose; then code; then noise."""

    def make(project: Path, **changes: Any) -> dict[str, Any]:
        content = tiny_recipe(project)
        code, prose, noise = content["domains"]
        content |= {
            "domains": [prose],
            "model": {"rung": "0.05M"},
            "training": {"tokens": 20 * 4 * 32, "batch_sequences": 4, "evaluations": 0, "checkpoints": 4},
            "phases": [
                {"name": "base", "kind": "pretrain"},
                {"name": "code", "add": [code], "tokens": 10 * 4 * 32},
                {"name": "noise", "add": [noise], "tokens": 10 * 4 * 32},
            ],
            "swarm": {
                "rung": "0.05M",
                "tokens": 8 * 4 * 32,
                "batch_sequences": 4,
                "runs": 6,
                "evaluation_sequences": 8,
                "workers": 1,
            },
            "constraints": {"max_epochs": None},
        }
        return content | changes

    return make


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory, life: Make) -> tuple[Path, dict[str, Any]]:
    """The project folder and the result."""
    project = tmp_path_factory.mktemp("arms") / "project"
    return project, run(Recipe.model_validate(life(project, arms=list(ARMS))))


@pytest.fixture(scope="session")
def rows(lived: tuple[Path, dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Arm -> its stages."""
    return {arm: orders[0] for arm, orders in lived[1]["lives"].items()}
