"""Bad input through the real command line: one line that starts with `error:`, exit code 2, nothing half-written."""

from __future__ import annotations

import gc
import json
import math
import os
import resource
import shutil
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from transformers import GPT2Config, GPT2LMHeadModel, MixtralConfig, MixtralForCausalLM

from evermix import lifecycle
from evermix.cli.app import main
from evermix.corpus.tokenizer import train_bpe
from evermix.ledger import Project
from evermix.recipe import Recipe
from evermix.wording import composed
from tests.lifecycle.killing import begin

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
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
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
    "number as key": (b"1: 2\n", "recipe.yaml:1: a key must be a name, and YAML reads 1 as a number"),
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


# --- the data files ----------------------------------------------------------------------------------------------


def _jsonl(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


FILES: dict[str, tuple[bytes | None, dict[str, Any], str]] = {
    "missing": (None, {}, "must exist"),
    "glob without match": (None, {"files": ["*.nothing"]}, "glob must match"),
    "folder": (None, {"files": ["."]}, "not a folder"),
    "every file left out": (_jsonl("x"), {"files": ["x.jsonl", "!x.jsonl"]}, "at least one file"),
    "empty": (b"", {}, "must not be empty"),
    "blank": (b"\n \n\n", {}, "blank"),
    "only blank texts": (_jsonl("", " "), {}, "blank"),
    "no text field": (b'{"body": "x"}\n', {}, "fields found: body"),
    "other text field": (_jsonl("x"), {"text_field": "body"}, "text field 'body'"),
    "number as text": (b'{"text": 5}\n', {}, "must be a string, got 'int'"),
    "null as text": (b'{"text": null}\n', {}, "x.jsonl:1"),
    "invalid JSON": (_jsonl("x") + b'{"text": "cut\n', {}, "x.jsonl:2"),
    "list": (b"[1]\n", {}, "x.jsonl record 1 must be a JSON object"),
    "deep": (b"[" * 100_000 + b"\n", {}, "x.jsonl record 1"),
    "huge number": (b'{"text": "a", "n": ' + b"9" * 5000 + b"}\n", {}, "x.jsonl:1"),
    "lone surrogate": (b'{"text": "\\ud800"}\n', {}, "x.jsonl:1"),
    "not UTF-8": (b'{"text": "B\xfccher"}\n', {}, "byte 11"),
    "UTF-16": ('{"text": "x"}\n'.encode("utf-16"), {}, "UTF-8"),
    "zero bytes": (b"\0" * 100, {}, "x.jsonl must be UTF-8 text, but byte 0 is not"),
    "fewer tokens than a sequence": (_jsonl("too short"), {}, "at least one sequence of 32 tokens"),
    "one document": (_jsonl("a much too short text, yet longer than one sequence " * 1), {}, "sequence of 32"),
    "no gzip": (_jsonl("x"), {"files": ["x.jsonl.gz"]}, "x.jsonl.gz"),
    "no zstandard": (_jsonl("x"), {"files": ["x.jsonl.zst"]}, "x.jsonl.zst"),
    "no Parquet": (_jsonl("x"), {"files": ["x.parquet"]}, "Parquet"),
    "text is binary": (bytes(range(256)) * 10, {"format": "text"}, "UTF-8"),
    "unknown registry corpus": (None, {"files": None, "registry": "nothing"}, "nothing"),
    "unknown data set": (None, {"files": None, "dataset": {"path": "absent/folder"}}, "absent/folder"),
    "data set without name": (None, {"files": None, "dataset": {"paht": "x"}}, "x"),
    "name with NUL": (None, {"files": ["a\0b"]}, "domain"),
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_cannot_be_read(name: str, tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    content, changes, words = FILES[name]
    domain = {"name": "odd", "files": ["x.jsonl"]} | changes
    if content is not None:
        (tmp_path / domain["files"][0]).write_bytes(content)
    store = tmp_path / "p" / "tokens"
    odd = changed(recipe, "corpus.store", str(store)) | {"domains": [*recipe["domains"], domain]}
    line = error_line(evermix("run", write_recipe(tmp_path, odd)))
    assert words in line
    assert half_written(tmp_path) == []
    assert not (tmp_path / "p" / "runs").exists()
    assert not (store / "store.json").exists()


# --- checkpoints and tokenizers ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_recipe: Make) -> tuple[Path, dict[str, Any]]:
    """A finished project of one arm, and its result."""
    folder = tmp_path_factory.mktemp("finished")
    content = tiny_recipe(folder / "p", arms=["evermix"])
    return folder / "p", lifecycle.run(Recipe.load(write_recipe(folder, content))).to_json()


@pytest.fixture
def checkpoint(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    (source,) = (finished[0] / "runs").glob("*/checkpoint-60")
    return Path(shutil.copytree(source, tmp_path / "checkpoint"))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "gone": (shutil.rmtree, "checkpoint"),
    "empty": (lambda c: [p.unlink() for p in c.iterdir()], "checkpoint"),
    "a file": (lambda c: (shutil.rmtree(c), c.write_text("x")), "checkpoint"),
    "cut weights": (lambda c: _cut(c / "model.safetensors"), "safetensors"),
    "no weights": (lambda c: (c / "model.safetensors").unlink(), "safetensors"),
    "empty weights": (lambda c: (c / "model.safetensors").write_bytes(b""), "safetensors"),
    "cut config": (lambda c: _cut(c / "config.json"), "config"),
    "no config": (lambda c: (c / "config.json").unlink(), "config"),
    "config is a list": (lambda c: (c / "config.json").write_text("[]"), "config"),
    "config of no model": (lambda c: (c / "config.json").write_text("{}"), "config"),
    "other shape": (
        lambda c: (c / "config.json").write_text(
            (c / "config.json").read_text().replace('"hidden_size": 48', '"hidden_size": 24')
        ),
        "checkpoint",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_checkpoint_that_is_torn(
    name: str, checkpoint: Path, tmp_path: Path, recipe: dict[str, Any], evermix: Call, text_folder: Path
) -> None:
    tokenizer = next((text_folder / "tokens").glob("tokenizer-*.json"))
    damage, words = DAMAGES[name]
    damage(checkpoint)
    changes = {"model": {"checkpoint": "checkpoint"}, "tokenizer": {"path": str(tokenizer)}}
    line = error_line(evermix("run", write_recipe(tmp_path, recipe | changes)))
    assert words in line
    assert list(tmp_path.rglob("done.json")) == []
    if (checkpoint / "config.json").is_file() and words == "config":
        assert words in error_line(evermix("run", write_recipe(tmp_path, recipe | changes), "--dry-run"))


def test_checkpoint_with_too_few_positions(
    tmp_path: Path, recipe: dict[str, Any], evermix: Call, text_folder: Path
) -> None:
    """Said before any text is read where its configuration is at hand, and before anything is trained in any case."""
    train_bpe({"prose": [text_folder.joinpath("prose.jsonl").read_text()]}, 300).save(tmp_path / "t.json")
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=16, n_embd=8, n_layer=1, n_head=1)).save_pretrained(
        tmp_path / "short"
    )
    changes = {"model": {"checkpoint": "short"}, "tokenizer": {"path": "t.json"}}
    file = write_recipe(tmp_path, recipe | changes)
    for line in (error_line(evermix("run", file, *flags)) for flags in (["--dry-run"], [])):
        assert "short: a checkpoint must have positions for a sequence: it has 16, not 32" in line
        assert "corpus.sequence_length" in line
    assert list(tmp_path.rglob("done.json")) == []


def test_checkpoint_that_cannot_be_interpolated(
    tmp_path: Path, recipe: dict[str, Any], evermix: Call, text_folder: Path
) -> None:
    train_bpe({"prose": [text_folder.joinpath("prose.jsonl").read_text()]}, 300).save(tmp_path / "t.json")
    shape = {"vocab_size": 300, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 1, "num_key_value_heads": 1}
    MixtralForCausalLM(MixtralConfig(**shape, **heads, num_local_experts=2)).save_pretrained(tmp_path / "experts")
    changes = {"model": {"checkpoint": "experts"}, "tokenizer": {"path": "t.json"}}
    asked = changed(recipe | changes, "decision.mode", "gradient")
    line = error_line(evermix("run", write_recipe(tmp_path, asked)))
    assert "experts: " in line
    assert "mode probe-law" in line
    assert list(tmp_path.rglob("done.json")) == []


def test_a_checkpoint_of_conv1d_layers_is_decided_by_interpolation(
    tmp_path: Path, recipe: dict[str, Any], text_folder: Path
) -> None:
    train_bpe({"prose": [text_folder.joinpath("prose.jsonl").read_text()]}, 300).save(tmp_path / "t.json")
    GPT2LMHeadModel(GPT2Config(vocab_size=300, n_positions=32, n_embd=8, n_layer=1, n_head=1)).save_pretrained(
        tmp_path / "gpt2"
    )
    changes = {"model": {"checkpoint": "gpt2"}, "tokenizer": {"path": "t.json"}, "arms": ["evermix"]}
    training = {"tokens": 8 * 4 * 32, "batch_sequences": 4, "evaluations": 0, "checkpoints": 1}
    decision = {"at": [0.5], "mode": "interpolation", "cross_checks": True, "gradient_evaluations": 2}
    decision["probes"] = {"steps": 1, "rank": 1, "evaluation_sequences": 4}
    asked = recipe | changes | {"training": training, "decision": decision}
    (made,) = lifecycle.run(Recipe.load(write_recipe(tmp_path, asked))).decisions
    assert {name: found.mixture is not None for name, found in made.modes.items()} == dict.fromkeys(made.modes, True)
    assert set(made.modes) == {"probe-law", "interpolation", "gradient"}


def test_checkpoint_of_another_tokenizer(
    checkpoint: Path, tmp_path: Path, recipe: dict[str, Any], evermix: Call, text_folder: Path
) -> None:
    texts = {"prose": ["some other words " * 50]}
    train_bpe(texts, 280).save(tmp_path / "small.json")
    train_bpe(texts, 300).save(tmp_path / "same size.json")
    kept = next((text_folder / "tokens").glob("tokenizer-*.json"))
    other = recipe | {"model": {"checkpoint": "checkpoint"}, "tokenizer": {"path": "same size.json"}}
    shutil.copy(kept, checkpoint / "tokenizer.json")
    assert "another tokenizer" in error_line(evermix("run", write_recipe(tmp_path, other)))
    (checkpoint / "tokenizer.json").write_text("{")
    assert "tokenizer" in error_line(evermix("run", write_recipe(tmp_path, other)))
    (checkpoint / "tokenizer.json").unlink()
    train_bpe({"prose": [text_folder.joinpath("prose.jsonl").read_text()]}, 3000).save(tmp_path / "large.json")
    large = changed(other, "tokenizer.path", "large.json")
    assert "embeds 300 tokens" in error_line(evermix("run", write_recipe(tmp_path, large)))
    none = changed(other, "tokenizer", {})
    assert "tokenizer" in error_line(evermix("run", write_recipe(tmp_path, none)))


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"[]", b'{"version": "1.0"}', b"\xff\xfe", b'{"model": {"type": "BPE"}}'], ids=repr
)
def test_tokenizer_that_cannot_be_read(
    content: bytes | None, tmp_path: Path, recipe: dict[str, Any], evermix: Call
) -> None:
    if content is not None:
        (tmp_path / "t.json").write_bytes(content)
    assert "t.json" in error_line(evermix("run", write_recipe(tmp_path, recipe | {"tokenizer": {"path": "t.json"}})))
    assert list(tmp_path.rglob("store.json")) == []


def test_tokenizer_folder_without_tokenizer(tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    (tmp_path / "t").mkdir()
    assert "tokenizer.json" in error_line(evermix("run", write_recipe(tmp_path, recipe | {"tokenizer": {"path": "t"}})))


# --- odd input that works ----------------------------------------------------------------------------------------

NAMES = [
    *["Bücher", "数学", "e\u0301🙂", "a/b", "../x", "/etc", "CON", "[red]x[/red]", "<script>alert(1)</script>"],
    *["{{7*7}} %s $x$ _^", "new\nline", "old", "web:science:high", "x" * 400],
]


def short(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe of 16 steps and probes of 2, for runs whose result does not matter."""
    content = changed(content, "training.tokens", 16 * content["training"]["batch_sequences"] * 32)
    content = changed(changed(content, "training.evaluations", 2), "training.checkpoints", 4)
    return changed(changed(content, "decision.probes.steps", 2), "arms", ["evermix"])


def test_odd_names_work_and_stay_in_the_project(tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    """Many domains at once: their names in other scripts, like paths, like markup, like our own words."""
    home = tmp_path / "my wörk [1]"
    home.mkdir()
    domains = []
    for k, name in enumerate(NAMES):
        (home / f"{k} ü.jsonl").write_bytes(_jsonl(*(f"{k} says {i} and {i * i}; " * 4 for i in range(30))))
        domains.append({"name": name, "files": [f"{k} ?.jsonl"]})
    before = {path.name for path in home.iterdir()}
    odd = short(recipe) | {"project": str(home / "päth"), "domains": domains}
    odd = changed(changed(odd, "corpus.store", None), "decision.probes.evaluation_sequences", 2)
    odd = changed(odd, "constraints.max_epochs", None)
    code, _, err = evermix("run", write_recipe(home, odd))
    assert code == 0, err
    assert [p.name for p in tmp_path.iterdir()] == ["my wörk [1]"]
    assert {p.name for p in home.iterdir()} == before | {"päth", "recipe.yaml"}
    assert half_written(home) == []
    result = json.loads((home / "päth" / "result.json").read_text(encoding="utf-8"))
    assert set(last_phase(result)["mixture"]) == set(map(composed, NAMES))
    for verb in ("status", "log", "report"):
        assert evermix(verb, home / "päth")[0] == 0
    assert "<script>alert(1)" not in (home / "päth" / "report.html").read_text(encoding="utf-8")


SHAPES: dict[str, dict[str, Any]] = {
    "zeros": {
        "objective": {"weights": {"prose": 1}},
        "start": {"code": 1.0},
        "constraints": {"fixed": {"noise": 0.0}, "caps": {"code": 0.0}},
        "decision.at": [0.0001, 0.2],
    },
    "all fixed": {
        "constraints": {"fixed": {"code": 0.5, "prose": 0.3, "noise": 0.2}, "max_epochs": None},
        "decision.probes.purities": [1.0],
        "training.evaluations": 0,
        "training.checkpoints": 0,
        "decision.mode": "gradient",
    },
    "long sequences": {
        "corpus.sequence_length": 256,
        "training.tokens": 8 * 4 * 256,
        "training.evaluations": 10_000,
        "training.warmup_fraction": 1.0,
        "training.decay_fraction": 1.0,
        "decision.kl": 1e9,
        "decision.mode": "interpolation",
    },
    "one domain": {"domains": 1, "training.batch_sequences": 3},
    "two domains": {"domains": 2, "decision.mode": "interpolation", "decision.kl": 0, "start": "natural"},
}


def last_phase(result: dict[str, Any]) -> dict[str, Any]:
    """What arm evermix ends with, out of `result.json`."""
    found: dict[str, Any] = result["arms"]["evermix"]["orders"][0][-1]
    return found


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_settings_work(shape: str, tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    content = short(recipe)
    for key, value in SHAPES[shape].items():
        content = changed(content, key, recipe["domains"][:value] if key == "domains" else value)
    code, _, err = evermix("run", write_recipe(tmp_path, content))
    assert code == 0, err
    mixture = last_phase(json.loads((tmp_path / "p" / "result.json").read_text()))["mixture"]
    assert sum(mixture.values()) == pytest.approx(1)
    if shape == "zeros":
        shares = {name: mixture.get(name, 0.0) for name in ("code", "prose", "noise")}
        assert shares == pytest.approx({"code": 0.0, "prose": 1.0, "noise": 0.0}, abs=1e-6)


# --- the project folder ------------------------------------------------------------------------------------------


@pytest.fixture
def project(finished: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """A copy of a finished project with its recipe beside it."""
    shutil.copy(finished[0].parent / "recipe.yaml", tmp_path / "recipe.yaml")
    content = json.loads((tmp_path / "recipe.yaml").read_text())
    write_recipe(tmp_path, content | {"project": str(tmp_path / "p")})
    return Path(shutil.copytree(finished[0], tmp_path / "p"))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _garbage(path: Path) -> None:
    path.write_bytes(b"\xff\x00 garbage")


def _zeros(path: Path) -> None:
    """As where some pages of a file never reached the disk: its size is right."""
    raw = path.read_bytes()
    path.write_bytes(raw[:2048] + bytes(len(raw[2048:6144])) + raw[6144:])


def _zeros_in_what_is_needed(path: Path) -> None:
    """Weights and adapters are damaged, and what was made from them is lost: they have to be read again."""
    for pattern in ("runs/*/checkpoint-*/model.safetensors", "runs/probe-*/adapter/adapter_model.safetensors"):
        found = list(path.glob(pattern))
        assert found
        for file in found:
            _zeros(file)
    for folder in path.glob("runs/scores-*"):
        shutil.rmtree(folder)
    _remove_ledger(path)


def _remove_ledger(path: Path) -> None:
    """Every decision is made again, from the probes that are there."""
    for ledger in path.glob("ledger.sqlite*"):
        ledger.unlink()


def _unfinished(path: Path) -> None:
    """The segment of this checkpoint must be gone on with, and the checkpoint is cut."""
    (path.parents[1] / "done.json").unlink()
    _cut(path)


def _wrong_json(path: Path) -> None:
    path.write_text('{"unexpected": []}')


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def _remove_all_but_runs(path: Path) -> None:
    """A project whose ledger is lost, with a damaged record of a finished part: the record has to be read."""
    _remove_ledger(path)
    _cut(next(path.glob("runs/probe-*/done.json")))


@pytest.mark.parametrize(
    ("part", "damage"),
    [
        ("result.json", _cut),
        ("result.json", _garbage),
        ("result.json", _wrong_json),
        ("status.json", _cut),
        ("ledger.sqlite", _cut),
        ("ledger.sqlite", _garbage),
        (".", _remove_all_but_runs),
        (".", _zeros_in_what_is_needed),
        ("runs/[!p]*/done.json", _cut),
        ("runs/[!p]*/done.json", _empty),
        ("runs/[!p]*/done.json", _wrong_json),
        ("runs/[!p]*/checkpoint-60/optimizer.pt", _unfinished),
        ("runs/[!p]*/checkpoint-60/model.safetensors", _unfinished),
        ("runs/[!p]*/checkpoint-60/trainer_state.json", _unfinished),
        ("runs", _remove),
    ],
)
def test_damaged_project_is_mended_or_named(
    part: str,
    damage: Callable[[Path], None],
    project: Path,
    finished: tuple[Path, dict[str, Any]],
    evermix: Call,
) -> None:
    """Either the same result again, or one line that names the file."""
    for path in [project] if part == "." else list(project.glob(part)):
        damage(path)
    for verb in ("status", "log", "report"):
        outcome = evermix(verb, project)
        assert outcome[0] == 0 or str(project) in error_line(outcome)
    code, _, err = outcome = evermix("run", project.parent / "recipe.yaml")
    if code:
        assert f"{project.name}/" in error_line(outcome)
        assert "Hint" in err
    else:
        result = json.loads((project / "result.json").read_text())
        kept, expected = last_phase(result), last_phase(finished[1])
        assert kept["mixture"] == expected["mixture"]
        assert kept["means"] == expected["means"]


def test_a_damaged_ledger_is_moved_away_and_finished_runs_are_kept(
    project: Path, finished: tuple[Path, dict[str, Any]], evermix: Call
) -> None:
    """What the message says to do works."""
    recipe, trained = project.parent / "recipe.yaml", _markers(project)
    _zeros(project / "ledger.sqlite")
    line = error_line(evermix("run", recipe))
    assert "move ledger.sqlite away and run the same command again: finished runs are kept" in line
    (project / "ledger.sqlite").rename(project.parent / "ledger.sqlite")
    code, _, err = evermix("run", recipe)
    assert code == 0, err
    assert _markers(project) == trained
    assert (
        last_phase(json.loads((project / "result.json").read_text()))["mixture"] == last_phase(finished[1])["mixture"]
    )
    assert evermix("check", project)[0] == 0


def _markers(project: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in project.glob("runs/*/done.json")}


def test_second_run_names_the_first(project: Path, evermix: Call) -> None:
    with Project(project).lock():
        line = error_line(evermix("run", project.parent / "recipe.yaml"))
        assert f"process {os.getpid()} on" in line
        assert "Hint" in line
    assert evermix("run", project.parent / "recipe.yaml")[0] == 0


def test_project_that_is_no_folder(tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    (tmp_path / "file").write_text("kept")
    for place in ("file", "file/below"):
        path = write_recipe(tmp_path, recipe | {"project": str(tmp_path / place)})
        assert error_line(evermix("run", path)).startswith("error: file")
    assert (tmp_path / "file").read_text() == "kept"


@pytest.mark.parametrize("verb", ["status", "report", "log"])
def test_folder_without_a_project(verb: str, tmp_path: Path, evermix: Call) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("")
    for place in ("absent", "empty", "file"):
        assert "Hint" in error_line(evermix(verb, tmp_path / place))
    assert list((tmp_path / "empty").iterdir()) == []


def run_command(arguments: list[str], err: Path) -> None:
    """The command in a process of its own, what it says in a file."""
    descriptor = os.open(err, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    gc.freeze()  # see conftest.py
    warnings.simplefilter("ignore")
    sys.argv = ["evermix", *arguments]
    main()


@contextmanager
def largest_file(n_bytes: int) -> Iterator[None]:
    """Writes beyond `n_bytes` per file fail with EFBIG, in every library: a disk that is full at will."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))


def test_full_disk_then_the_same_command_goes_on(tmp_path: Path, recipe: dict[str, Any], evermix: Call) -> None:
    """Full in the ledger, the token store, the weights, and the optimiser state; then there is room."""
    content = changed(short(recipe), "corpus.store", str(tmp_path / "p" / "tokens"))
    path = write_recipe(tmp_path, changed(content, "model.rung", "0.2M"))
    for n_bytes in (2_000, 40_000, 300_000, 700_000):
        with largest_file(n_bytes):
            outcome = evermix("run", path)
        assert "Hint: free some space" in error_line(outcome)
        assert half_written(tmp_path) == []
        assert list(tmp_path.rglob("checkpoint-*")) == []
        assert list(tmp_path.rglob("done.json")) == []
    code, _, err = evermix("run", path)
    assert code == 0, err


def test_stopped_and_killed_in_every_part(finished: tuple[Path, dict[str, Any]], tmp_path: Path, evermix: Call) -> None:
    """Ctrl-C, SIGTERM, kill -9, each in another part; in the end the result is that of an undisturbed run."""
    content = json.loads((finished[0].parent / "recipe.yaml").read_text())
    content = changed(content, "corpus.store", str(tmp_path / "tokens")) | {"project": str(tmp_path / "p")}
    path = write_recipe(tmp_path, content)
    status = tmp_path / "p" / "status.json"
    ends = []
    for end, part in (
        (signal.SIGINT, "corpus"),
        (signal.SIGKILL, "training"),
        (signal.SIGTERM, "probes"),
        (signal.SIGKILL, "decision"),
    ):
        status.unlink(missing_ok=True)
        process = begin(run_command, ["run", str(path)], tmp_path / "err")
        while process.is_alive() and not (status.exists() and f'"{part}"' in status.read_text()):
            time.sleep(0.01)
        os.kill(process.pid or 0, end)
        process.join()
        err = (tmp_path / "err").read_text()
        assert "Traceback" not in err
        ends.append(process.exitcode)
        assert end == signal.SIGKILL or err.rstrip().endswith("run the same command again to go on")
    assert ends == [130, -signal.SIGKILL, 143, -signal.SIGKILL]
    code, _, err = evermix("run", path)
    assert code == 0, err
    found, expected = last_phase(json.loads((tmp_path / "p" / "result.json").read_text())), last_phase(finished[1])
    assert found["mixture"] == expected["mixture"]
    assert found["per_domain"] == expected["per_domain"]
    assert half_written(tmp_path) == []


# --- init --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["empty", "hidden only", "pictures", "empty files", "a file", "binary"])
def test_init_on_folders_without_text(kind: str, tmp_path: Path, evermix: Call) -> None:
    data = tmp_path / "data"
    if kind == "a file":
        data.write_text("words")
    else:
        data.mkdir()
    files = {"hidden only": (".x.txt", b"words"), "pictures": ("x.png", b"\x89PNG"), "empty files": ("x.txt", b"")}
    name, content = (files | {"binary": ("x.jsonl", b"\xff\xfe\x00")}).get(kind, (None, b""))
    if name:
        (data / name).write_bytes(content)
    assert str(data) in error_line(evermix("init", data))
    assert not (tmp_path / "recipe.yaml").exists()
