"""Bad input through the real command line: one line that starts with `error:`, exit code 2, nothing half-written."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from evermix.cli.app import main

Call = Callable[..., tuple[int, str, str]]
Make = Callable[..., dict[str, Any]]
NAN, INF = math.nan, math.inf


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a fault makes the command write lands in the test's folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def evermix(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Call:
    """The command in this process: exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["evermix", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        printed = capsys.readouterr()
        return int(ended.value.code or 0), printed.out, printed.err

    return call


def error_line(outcome: tuple[int, str, str]) -> str:
    """The one line of an error with exit code 2, without a trace and without a result on stdout."""
    code, out, err = outcome
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert err.rstrip("\n").splitlines()[-1] == lines[0], "the error must be the last line"
    assert "Traceback" not in err
    assert out == ""
    return lines[0]


def half_written(folder: Path) -> list[str]:
    """Files that no finished step leaves."""
    marks = (".tmp", ".deleted", "-journal")
    return [str(p) for p in folder.rglob("*") if any(mark in p.name for mark in marks)]


def write_recipe(folder: Path, content: dict[str, Any]) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def changed(content: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """`content` with the value at a dotted key replaced."""
    first, _, rest = key.partition(".")
    return content | {first: changed(dict(content.get(first, {})), rest, value) if rest else value}


@pytest.fixture
def recipe(tmp_path: Path, tiny_recipe: Make) -> dict[str, Any]:
    return tiny_recipe(tmp_path / "p")


# --- the recipe itself -------------------------------------------------------------------------------------------

TEXTS = {
    "empty": (b"", "mapping"),
    "comment only": (b"# nothing\n", "mapping"),
    "list": (b"- a\n", "mapping"),
    "scalar": (b"hello\n", "mapping"),
    "syntax": (b"project: [\n", r"recipe.yaml:2"),
    "tabs": (b"project: x\ntraining:\n\ttokens: 5\n", "recipe.yaml:3"),
    "two documents": (b"project: x\n---\nproject: y\n", "recipe.yaml"),
    "latin-1": ("project: Bücher\n".encode("latin-1"), "UTF-8"),
    "utf-16": ("project: x\n".encode("utf-16"), "UTF-8"),
    "zero bytes": (b"project: \0x\n", "recipe.yaml"),
    "bell": (b"project: \x07x\n", "recipe.yaml"),
    "python tag": (b"project: !!python/object/apply:os.getcwd []\n", "recipe.yaml:1"),
    "unhashable key": (b"? [a, b]\n: 1\n", "recipe.yaml"),
    "mapping as key": (b"{a: 1}: 2\n", "recipe.yaml"),
    "number as key": (b"1: 2\n", "recipe.yaml:1: 1: "),
    "itself": (b"&a\nproject: *a\n", "recipe.yaml"),
    "anchor loop": (b"project: x\ndomains: &d [*d]\n", "recipe.yaml"),
    "unknown anchor": (b"project: *nobody\n", "recipe.yaml:1"),
    "deep": (b"[" * 5000, "recipe.yaml"),
    "date": (b"project: 2024-99-99\n", "recipe.yaml"),
    "date project": (b"project: 2024-01-01\n", "project"),
    "merge nonsense": (b"<<: 5\n", "recipe.yaml"),
    "huge int": (b"seed: " + b"9" * 5000 + b"\n", "recipe.yaml"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_text_that_is_no_recipe(name: str, tmp_path: Path, evermix: Call) -> None:
    text, words = TEXTS[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text)
    line = error_line(evermix("run", path))
    assert "recipe.yaml" in line
    assert words in line
    assert list(tmp_path.iterdir()) == [path]


def test_recipe_that_is_a_folder_or_missing(tmp_path: Path, evermix: Call) -> None:
    assert "folder" in error_line(evermix("run", tmp_path))
    assert "Hint" in error_line(evermix("run", tmp_path / "absent.yaml"))
    (tmp_path / "file").write_text("")
    assert "file" in error_line(evermix("run", tmp_path / "file" / "below.yaml"))
    assert "recipe" in error_line(evermix("run", tmp_path / ("x" * 300)))


VALUES: list[tuple[str, object]] = [
    ("seed", -1),
    ("seed", 1.5),
    ("seed", None),
    ("seed", 2**70),
    ("project", ""),
    ("project", 5),
    ("project", None),
    ("project", "a\0b"),
    ("domains", []),
    ("domains", {}),
    ("domains", None),
    ("domains", ["code"]),
    ("domains", [{"name": "a", "files": []}]),
    ("domains", [{"name": "a", "files": ["x"], "registry": "y"}]),
    ("domains", [{"name": "", "files": ["x"]}]),
    ("domains", [{"name": 5, "files": ["x"]}]),
    ("domains", [{"name": "a", "files": [5]}]),
    ("domains", [{"name": "a", "files": ["x"], "text-field": "y"}]),
    ("domains", [{"name": "a", "files": ["x"], "max_bytes": 0}]),
    ("domains", [{"name": "a", "files": ["x"], "format": "csv"}]),
    ("unknown", 1),
    ("training.learnin_rate", 1),
    ("decision.probes.step", 1),
    ("objective.weight", {}),
    ("training.tokens", 0),
    ("training.tokens", NAN),
    ("training.tokens", INF),
    ("training.tokens", "1.2.3M"),
    ("training.tokens", "NaN"),
    ("training.tokens", "1e999"),
    ("training.tokens", True),
    ("training.tokens", 300),
    ("training.tokens", 1000.5),
    ("training.tokens", [1]),
    ("training.learning_rate", NAN),
    ("training.learning_rate", 0),
    ("training.clip_norm", NAN),
    ("training.clip_norm", INF),
    ("training.weight_decay", -1),
    ("training.warmup_fraction", 2),
    ("training.gradient_accumulation", 3),
    ("training.batch_sequences", 0),
    ("training.schedule", "linear"),
    ("corpus.sequence_length", 4),
    ("corpus.heldout_fraction", 0),
    ("corpus.heldout_fraction", NAN),
    ("tokenizer.vocab_size", 256),
    ("model.rung", "3M"),
    ("model.rung", None),
    ("decision.at", [0.5, 0.5]),
    ("decision.at", [0.7, 0.3]),
    ("decision.at", [1.0]),
    ("decision.at", [0.0]),
    ("decision.at", [NAN]),
    ("decision.at", [0.5, 0.501]),
    ("decision.at", 0.5),
    ("decision.mode", "magic"),
    ("decision.kl", -1),
    ("decision.kl", NAN),
    ("decision.probes.budget", NAN),
    ("decision.probes.purities", []),
    ("decision.probes.purities", [NAN]),
    ("decision.probes.purities", [1.5]),
    ("decision.probes.rank", 0),
    ("decision.probes.alpha", NAN),
    ("decision.probes.alpha", INF),
    ("decision.probes.learning_rate_factor", INF),
    ("objective.quantity", "accuracy"),
    ("objective.weights", {"code": -1}),
    ("objective.weights", {"code": NAN}),
    ("objective.weights", {"code": INF}),
    ("objective.weights", {"code": 0}),
    ("objective.weights", {}),
    ("objective.weights", {"nobody": 1}),
    ("objective.weights", {"code": "much"}),
    ("start", {"code": -0.5, "prose": 1.5}),
    ("start", {"code": NAN, "prose": 1}),
    ("start", {"code": INF}),
    ("start", {"nobody": 1}),
    ("start", {"code": 0.5}),
    ("start", {}),
    ("start", "even"),
    ("constraints.floor", 0.4),
    ("constraints.floor", -0.1),
    ("constraints.floor", NAN),
    ("constraints.floors", {"code": 0.7, "prose": 0.7}),
    ("constraints.floors", {"code": -1}),
    ("constraints.floors", {"code": NAN}),
    ("constraints.floors", {"nobody": 0.1}),
    ("constraints.caps", {"nobody": 0.1}),
    ("constraints.caps", {"code": 1.5}),
    ("constraints.caps", {"code": 0.1, "prose": 0.1, "noise": 0.1}),
    ("constraints.fixed", {"code": 0.7, "prose": 0.7}),
    ("constraints.fixed", {"code": 0.4, "prose": 0.3, "noise": 0.2}),
    ("constraints.fixed", {"code": NAN}),
    ("constraints.fixed", {"nobody": 0.1}),
    ("constraints", {"floors": {"code": 0.5}, "caps": {"code": 0.2}}),
    ("constraints", {"fixed": {"code": 0.5}, "caps": {"code": 0.2}}),
    ("constraints", {"fixed": {"code": 0.1}, "floors": {"code": 0.2}}),
    ("constraints.max_epochs", 0),
    ("constraints.max_epochs", NAN),
    ("constraints.max_epochs", 0.01),
    ("arms", []),
    ("arms", ["evermix", "evermix"]),
    ("arms", ["best"]),
    ("arms", "evermix"),
]


@pytest.mark.parametrize(("key", "value"), VALUES)
def test_value_that_cannot_work(key: str, value: object, tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    line = error_line(evermix("run", write_recipe(tmp_path, changed(recipe, key, value))))
    assert key.rpartition(".")[2].removesuffix("s") in line.replace("_", " ") or key.rpartition(".")[2] in line
    assert half_written(tmp_path) == []
    assert list(tmp_path.rglob("done.json")) == []
