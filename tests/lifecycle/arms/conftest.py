"""A small run of a pretraining and two phases, gone through once by every arm of probes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from evermix.ledger import Project
from evermix.lifecycle import run
from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.context import RunContext, open_context
from evermix.lifecycle.progress import Reporter
from evermix.recipe import Recipe
from evermix.results import PhaseResult, RunResult
from tests.in_this_process import in_this_process

Make = Callable[..., dict[str, Any]]
OF_PHASES = tuple(arm for arm in ARMS if arm != "best-run")  # that one needs the swarm of a project


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--arms a,b` trains these alone, for who adds one; their tests are chosen by `-k`."""
    parser.addoption("--arms", default=None, help="train only these arms, parted by commas")


@pytest.fixture(scope="module", autouse=True)
def _no_workers() -> Iterator[None]:
    with in_this_process():
        yield


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
            "constraints": {"max_epochs": None, "floor": 0.01},
        }
        content |= changes
        if "proxy-swarm" in content["arms"]:  # the default law, resampled 200 times, would take most of the time
            content["decision"] = {**content["decision"], "law": "power-link", "resamples": 4}
        return content

    return make


def opened(content: dict[str, Any]) -> RunContext:
    """The context of a recipe, whose project may hold finished work."""
    recipe = Recipe.model_validate(content)
    project = Project(recipe.project_folder)
    return open_context(recipe, project, Reporter(project, None))


@pytest.fixture(scope="session")
def lived(
    tmp_path_factory: pytest.TempPathFactory, life: Make, request: pytest.FixtureRequest
) -> tuple[Path, RunResult]:
    """The project folder and the result of a run on a trunk."""
    project = tmp_path_factory.mktemp("arms") / "project"
    with in_this_process():
        return project, run(Recipe.model_validate(life(project, arms=_asked_for(request))))


@pytest.fixture(scope="session")
def lived_anew(
    tmp_path_factory: pytest.TempPathFactory, life: Make, request: pytest.FixtureRequest
) -> tuple[Path, RunResult]:
    """The same without a trunk: the optimiser begins anew in every phase."""
    project = tmp_path_factory.mktemp("anew") / "project"
    content = anew(life(project, arms=_asked_for(request)))
    with in_this_process():
        return project, run(Recipe.model_validate(content))


def anew(content: dict[str, Any]) -> dict[str, Any]:
    """The recipe without a trunk."""
    return content | {"training": content["training"] | {"trunk": False}}


def _asked_for(request: pytest.FixtureRequest) -> list[str]:
    asked = request.config.getoption("--arms", default=None)
    return asked.split(",") if asked else list(OF_PHASES)


@pytest.fixture(scope="session")
def rows(lived: tuple[Path, RunResult]) -> dict[str, tuple[PhaseResult, ...]]:
    """Arm -> its phases, on a trunk."""
    return {name: arm.orders[0] for name, arm in lived[1].arms.items()}


@pytest.fixture(scope="session")
def rows_anew(lived_anew: tuple[Path, RunResult]) -> dict[str, tuple[PhaseResult, ...]]:
    """Arm -> its phases, without a trunk."""
    return {name: arm.orders[0] for name, arm in lived_anew[1].arms.items()}
