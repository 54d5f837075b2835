"""A swarm from recipe to update and back on the command line; one tiny project, trained once."""

import json
import random
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import pytest

from evermix.cli.app import UPDATE_VERBS, main
from evermix.cli.reference import help_text

pytest.importorskip("torch")

RECIPE = """
project: {folder}/project
method: olmix
domains:
- {{name: "t:a", files: a.jsonl}}
- {{name: "t:b", files: b.jsonl}}
- {{name: c, files: c.jsonl}}
tokenizer: {{vocab_size: 300}}
corpus: {{sequence_length: 32, heldout_sequences: 8}}
model: {{rung: 0.05M}}
training: {{tokens: 10K, batch_sequences: 4}}
swarm: {{rung: 0.05M, tokens: 1K, batch_sequences: 4, learning_rate: 3e-3, evaluation_sequences: 8, workers: 1}}
decision: {{law: power-link, resamples: 4, kl: 0.3}}
arms: []
"""


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.out)
        return found


def evermix(*arguments: object) -> Ended:
    out, err = StringIO(), StringIO()
    argv = ["evermix", *map(str, arguments)]
    streams = redirect_stdout(out), redirect_stderr(err)
    with patch.object(sys, "argv", argv), streams[0], streams[1], pytest.raises(SystemExit) as ended:
        main()
    return Ended(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def write_text(path: Path, words: str, seed: int) -> None:
    rng = random.Random(seed)
    lines = (json.dumps({"text": " ".join(rng.choices(words.split(), k=80))}) for _ in range(60))
    path.write_text("\n".join(lines), encoding="utf-8")


@dataclass(frozen=True)
class Story:
    """What every command said, in order."""

    folder: Path
    said: dict[str, Ended]

    @property
    def project(self) -> Path:
        return self.folder / "project"


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder = tmp_path_factory.mktemp("swarm")
    for seed, (name, words) in enumerate(
        {"a": "the of and to in", "b": "for while if else return", "c": "1 2 3 + =", "d": "la le les et un"}.items()
    ):
        write_text(folder / f"{name}.jsonl", words, seed)
    recipe, project = folder / "r.yaml", folder / "project"
    recipe.write_text(RECIPE.format(folder=folder), encoding="utf-8")
    (folder / "u.yaml").write_text("add: [{name: d, files: d.jsonl}]\n", encoding="utf-8")
    new = ("update", "add", recipe, "d", "--files", folder / "d.jsonl")
    commands: dict[str, tuple[object, ...]] = {
        "plan": ("run", recipe, "--dry-run"),
        "too early": ("update", "remove", recipe, "c"),
        "run": ("run", recipe),
        "plan of update": (*new, "--dry-run", "--json"),
        "plan by file": ("update", "apply", recipe, folder / "u.yaml", "--dry-run", "--json"),
        "cannot be had": (*new, "--strategy", "partial", "--release", "d"),
        "add": (*new, "--strategy", "mixture"),
        "page": ("report", project),
        "status": ("status", project, "--json"),
        "graph": ("log", project, "--graph", "--json"),
        "log": ("log", project),
        "unknown": ("update", "remove", recipe, "x"),
        "undo": ("update", "undo", recipe, "--json"),
        "again": ("run", recipe, "--dry-run", "--json"),
        "remove": ("update", "remove", recipe, "c", "--json"),
    }
    said = {}
    for name, command in commands.items():
        said[name] = evermix(*command)
        if name == "page":
            (folder / "page.html").write_text((project / "report.html").read_text("utf-8"), "utf-8")
    return Story(folder, said)


def test_commands_end_as_they_should(story: Story) -> None:
    failed = {"too early", "cannot be had", "unknown"}
    assert {name for name, ended in story.said.items() if ended.code} == failed, story.said
    for name in failed:
        assert "error: " in story.said[name].err.splitlines()[-1]
    assert "`evermix run` the recipe first" in story.said["too early"].err
    assert "only a domain that the update leaves alone can be released, got 'd'" in story.said["cannot be had"].err


def test_plan_and_tables_of_the_run(story: Story) -> None:
    for text in (story.said["plan"].out, story.said["run"].err):
        assert "8 of 0.05M (what law power-link needs for 3 domains)" in text
    out = story.said["run"].out
    assert "Swarm: 8 proxies of 0.05M" in out
    assert "over natural" in out
    assert "report: " in out


def test_plan_of_an_update_writes_nothing(story: Story) -> None:
    plan = story.said["plan of update"].json
    strategies = plan["strategies"]
    assert isinstance(strategies, dict)
    assert strategies["full"]["n_runs"] == 10
    assert strategies["mixture"]["n_runs"] == 4
    assert set(strategies["mixture"]["frozen"]) == {"t:a", "t:b", "c"}
    assert strategies["mixture"]["flops"] < strategies["full"]["flops"]
    assert "add d" in story.said["add"].err  # it was not added before
    assert story.said["plan by file"].json == plan


def test_update_shows_plan_then_both_mixtures(story: Story) -> None:
    ended = story.said["add"]
    assert "> mixture" in ended.err
    assert "d: new text" in ended.err
    for words in ("before", "total variation", "Reuse: ", "Swarm: 4 proxies", "releasing a frozen domain"):
        assert words in ended.out


def test_status_log_and_graph(story: Story) -> None:
    assert story.said["status"].json["swarm"] == {"told": 4, "wanted": 4, "era": 1}
    graph = story.said["graph"].json
    history = graph["history"]
    assert isinstance(history, dict)
    assert [era["id"] for era in history["eras"]] == ["era 0", "era 1"]
    assert [edge["kind"] for edge in history["edges"]] == ["propose", "update", "freeze", "propose"]
    log = story.said["log"].out
    assert "add d (strategy mixture, 4 new runs)" in log
    assert "trained and scored" in log
    assert " ask " not in log


def test_page_of_the_update(story: Story) -> None:
    page = (story.folder / "page.html").read_text(encoding="utf-8")
    for heading in ("The mixture", "Comparison", "Quality of the law", "The swarm", "History of domains and mixtures"):
        assert f"<h2>{heading}</h2>" in page
    assert "What keeping proportions costs" in page
    assert "era 1: add d (mixture) (now)" in page
    assert "<script" not in page


def test_undo_and_removal(story: Story) -> None:
    undone, removed = story.said["undo"].json, story.said["remove"].json
    assert undone["era"] == 0
    before, after = undone["mixture_before"], undone["mixture"]
    assert isinstance(before, dict)
    assert isinstance(after, dict)
    assert set(before) == {"t:a", "t:b", "c", "d"}
    assert set(after) == {"t:a", "t:b", "c"}
    assert story.said["again"].json["so_far"] == "8 of 8 proxies are done"
    left = removed["mixture"]
    assert isinstance(left, dict)
    assert left["t:a"] / left["t:b"] == pytest.approx(after["t:a"] / after["t:b"])
    assert removed["proposal"] is None


@pytest.mark.parametrize("verb", list(UPDATE_VERBS))
def test_every_help_has_examples(verb: str) -> None:
    assert f"Examples:\n    evermix update {verb} recipe.yaml" in help_text("update", verb)
