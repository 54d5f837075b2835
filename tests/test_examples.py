"""The examples: recipes that load, whose domains exist, and that run on a tiny budget."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

import evermix as em
from evermix.corpora import CORPORA
from evermix.recipe import Recipe
from tests.in_this_process import in_this_process

FOLDER = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(path for path in FOLDER.glob("*.yaml") if "update" not in path.name)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_recipe_loads(path: Path) -> None:
    recipe = Recipe.load(path)
    assert {domain.registry for domain in recipe.labels.sources.values() if domain.registry} <= set(CORPORA)


class Shrunk:
    """An example with text of this machine in the place of its own, a tiny model and seconds of training."""

    def __init__(self, path: Path, text: Path, folder: Path) -> None:
        self.content = yaml.safe_load(path.read_text(encoding="utf-8"))
        self.texts = itertools.cycle(str(text / f"{name}.jsonl") for name in ("code", "prose", "noise"))
        self.sums = folder / "sums.jsonl"
        lines = [json.dumps({"prompt": f"{a} + {b} =", "answer": f" {a + b}"}) for a in range(20) for b in range(20)]
        self.sums.write_text("\n".join(lines))
        self.content |= {
            "project": str(folder / "project"),
            "model": {"rung": "0.05M"},
            "tokenizer": {"vocab_size": 300},
            "corpus": {"sequence_length": 32, "heldout_fraction": 0.1, "heldout_sequences": 8},
        }
        self.content["training"] |= {"tokens": 16 * 4 * 32, "batch_sequences": 4, "evaluations": 1, "checkpoints": 1}
        self.content["domains"] = [self._domain(domain) for domain in self.content.get("domains", [])]
        self.content["constraints"] = {"max_epochs": None}
        for phase in self.content.get("phases", []):
            phase["add"] = [self._domain(domain) for domain in phase.get("add", [])]
            phase |= {key: 16 * 4 * n for key, n in (("tokens", 32), ("examples", 1)) if key in phase}
        for task in self.content.get("tasks", []):
            task |= {"file": str(self.sums), "max_items": 4, "max_new_tokens": 4}
        if "swarm" not in self.content and "instruct" not in path.name:
            self.content["decision"] = {**self.content.get("decision", {}), "at": [0.6]}  # of 16 steps: ten
        if "swarm" in self.content:
            self.content["swarm"] |= {"tokens": 8 * 4 * 32, "batch_sequences": 4, "evaluation_sequences": 8, "runs": 6}
            self.content["decision"] = {"law": "power-link", "resamples": 5}

    def _domain(self, domain: dict[str, Any]) -> dict[str, Any]:
        if domain.get("format") == "chat":
            return {"name": domain["name"], "files": [str(self.sums)], "format": "chat"}
        return {"name": domain["name"], "files": [next(self.texts)], "max_bytes": domain.get("max_bytes")}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_recipe_runs_on_a_tiny_budget(path: Path, text_folder: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(Shrunk(path, text_folder, tmp_path).content)
    with in_this_process():
        result = em.run(recipe)
    assert {arm.arm for arm in result.arms.values()} == set(recipe.arms)
    assert any(arm.given == "evermix" for arm in result.arms.values())
    assert (tmp_path / "project" / "result.json").is_file()
    assert em.report(recipe.project_folder).is_file()


def test_the_update_follows_its_recipe() -> None:
    """It adds what the recipe does not have, and revises what it has."""
    update = em.TextUpdate.load(FOLDER / "3-swarm-update.yaml")
    names = {domain.name for domain in Recipe.load(FOLDER / "3-swarm.yaml").domains}
    assert {domain.name for domain in update.add} == {"code:cpp"}
    assert "code:cpp" not in names
    assert {domain.name for domain in update.revise} <= names


def test_the_demo_is_as_real_corpora_are() -> None:
    """At least five clean domains, one of noise and one near duplicate, three arms, a model of at most 1M."""
    recipe = Recipe.load(Path(__file__).parents[1] / "examples" / "1-pretraining.yaml")
    assert {"hex-noise", "dictionary-reprint"} <= {domain.registry for domain in recipe.domains}
    assert sum(weight > 0 for weight in (recipe.objective.weights or {}).values()) >= 5
    assert recipe.arms == ("natural", "uniform", "evermix")
    assert recipe.model.rung in {"0.2M", "1M"}
    assert recipe.project == "../runs/demo"


def test_deciding_from_runs_prints_a_mixture_with_its_evidence() -> None:
    script = Path(__file__).parents[1] / "examples" / "2-deciding-from-runs.py"
    ended = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert "40 runs, 6 domains, 5 metrics" in ended.stdout
    assert "gain over natural: " in ended.stdout
    assert "the objective changes by" in ended.stdout
