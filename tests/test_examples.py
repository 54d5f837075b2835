"""The examples: recipes that load, and whose domains exist."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from evermix.cli.update_file import UpdateFile
from evermix.corpus.registry import CORPORA
from evermix.recipe import Recipe

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = [FOLDER / "demo.yaml", FOLDER / "olmix.yaml"]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_recipe_loads(path: Path) -> None:
    recipe = Recipe.load(path)
    assert {domain.registry for domain in recipe.domains if domain.registry} <= set(CORPORA)


def test_the_update_follows_its_recipe() -> None:
    """It adds what the recipe does not have, and revises what it has."""
    update = UpdateFile.load(FOLDER / "olmix-update.yaml")
    names = {domain.name for domain in Recipe.load(FOLDER / "olmix.yaml").domains}
    assert {domain.name for domain in update.add} == {"code:cpp"}
    assert "code:cpp" not in names
    assert {domain.name for domain in update.revise} <= names


def test_the_demo_is_as_real_corpora_are() -> None:
    """At least five clean domains, one of noise and one near duplicate, three arms, a model of at most 1M."""
    recipe = Recipe.load(Path(__file__).parents[1] / "examples" / "demo.yaml")
    assert {"hex-noise", "dictionary-reprint"} <= {domain.registry for domain in recipe.domains}
    assert sum(weight > 0 for weight in (recipe.objective.weights or {}).values()) >= 5
    assert recipe.arms == ("natural", "uniform", "evermix")
    assert recipe.model.rung in {"0.2M", "1M"}
    assert recipe.project == "runs/demo"


def test_deciding_from_runs_prints_a_mixture_with_its_evidence() -> None:
    script = Path(__file__).parents[1] / "examples" / "deciding_from_runs.py"
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert "40 runs, 6 domains, 5 metrics" in ended.stdout
    assert "gain over natural: " in ended.stdout
    assert "the objective changes by" in ended.stdout
