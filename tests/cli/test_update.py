"""Updates on the command line: what the arguments say, and one tiny swarm from recipe to update and back."""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from evermix.cli.app import UPDATE_VERBS
from evermix.cli.reference import help_text
from evermix.cli.update_options import UpdateArguments
from evermix.errors import RecipeError
from evermix.results import Decision, RunResult
from tests.cli.called import Ended, evermix
from tests.in_this_process import in_this_process

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
    pytest.importorskip("torch")
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
        "cannot be had": (*new, "--strategy", "partial", "--recompute", "d"),
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
        with in_this_process():
            said[name] = evermix(*command)
        if name == "page":
            (folder / "page.html").write_text((project / "report.html").read_text("utf-8"), "utf-8")
    return Story(folder, said)


def decided(content: dict[str, Any]) -> Decision:
    """What the swarm decided, of the JSON that an update prints."""
    result = RunResult.from_json({name: value for name, value in content.items() if name in RunResult.model_fields})
    assert result.proposal is not None
    return result.proposal


def test_commands_end_as_they_should(story: Story) -> None:
    failed = {"too early", "cannot be had", "unknown"}
    assert {name for name, ended in story.said.items() if ended.code} == failed, story.said
    for name in failed:
        assert "error: " in story.said[name].err.splitlines()[-1]
    assert "`evermix run` the recipe first" in story.said["too early"].err
    assert "only a domain that the update leaves alone can be recomputed, got 'd'" in story.said["cannot be had"].err


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
    assert set(strategies["mixture"]["fixed_ratio"]) == {"t:a", "t:b", "c"}
    assert strategies["mixture"]["flops"] < strategies["full"]["flops"]
    assert "add d" in story.said["add"].err  # it was not added before
    assert story.said["plan by file"].json == plan


def test_update_shows_plan_then_both_mixtures(story: Story) -> None:
    ended = story.said["add"]
    assert "> mixture" in ended.err
    assert "d: new text" in ended.err
    for words in ("before", "total variation", "Reuse: ", "Swarm: 4 proxies", "recomputing a domain at a fixed ratio"):
        assert words in ended.out


def test_status_log_and_graph(story: Story) -> None:
    assert story.said["status"].json["swarm"] == {"measured": 4, "wanted": 4, "version": 1}
    graph = story.said["graph"].json
    history = graph["history"]
    assert isinstance(history, dict)
    assert [each["id"] for each in history["versions"]] == ["version 0", "version 1"]
    assert [edge["kind"] for edge in history["edges"]] == ["propose", "update", "fix", "propose"]
    log = story.said["log"].out
    assert "add d (strategy mixture, 4 new runs)" in log
    assert "trained and scored" in log
    assert " ask " not in log


def test_page_of_the_update(story: Story) -> None:
    page = (story.folder / "page.html").read_text(encoding="utf-8")
    assert "<h2>History of domains and mixtures</h2>" in page
    compared = "Comparison: objective, perplexity (lower is better)"
    for heading in (compared, "Proxies", "What recomputing a domain at a fixed ratio"):
        assert f"<h3>{heading}" in page
    for words in ("The mixture. Decision of arm evermix", "judged on runs that it was not fitted to"):
        assert words in page
    assert "version 1: add d (mixture) (now)" in page
    assert "<script" not in page


def test_undo_and_removal(story: Story) -> None:
    undone, removed = decided(story.said["undo"].json), decided(story.said["remove"].json)
    assert undone.swarm is not None
    assert undone.swarm.version == 0
    before, after = undone.swarm.before, undone.mixture
    assert before is not None
    assert set(before) == {"t:a", "t:b", "c", "d"}
    assert set(after) == {"t:a", "t:b", "c"}
    assert story.said["again"].json["so_far"] == "8 of 8 proxies are done"
    left = removed.mixture
    assert left["t:a"] / left["t:b"] == pytest.approx(after["t:a"] / after["t:b"])
    assert removed.proposal is None


@pytest.mark.parametrize("verb", list(UPDATE_VERBS))
def test_every_help_has_examples(verb: str) -> None:
    assert f"Examples:\n    evermix update {verb} recipe.yaml" in help_text("update", verb)


# --- what the arguments say --------------------------------------------------------------------------------------

_NAMES = ("recipe", "strategy", "recompute", "runs", "dry_run", "json", "files", "registry", "dataset")
_READING = ("text_field", "format", "documents", "max_bytes")


def given(**values: Any) -> UpdateArguments:
    return UpdateArguments({**dict.fromkeys((*_NAMES, *_READING)), **values})


def test_text_of_a_domain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    domain = given(files=["a/*.txt", "!a/x.txt", "/b/c.txt"], documents="line", max_bytes="2M").domain("new")
    assert domain.files == (f"{tmp_path}/a/*.txt", f"!{tmp_path}/a/x.txt", "/b/c.txt")
    assert (domain.name, domain.documents, domain.max_bytes) == ("new", "line", 2_000_000)
    assert given(registry="legal").domain("x").registry == "legal"
    assert given(dataset='{"path": "p", "split": "train"}').domain("x").dataset == {"path": "p", "split": "train"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "domain 'x': must have exactly one of files, registry, dataset .*--files GLOB"),
        ({"files": ["a"], "registry": "b"}, "exactly one of files, registry, dataset"),
        ({"files": ["a"], "format": "tar"}, "domain 'x': --format: .*got 'tar'"),
        ({"files": ["a"], "max_bytes": "much"}, "domain 'x': --max-bytes: must be an amount"),
        ({"dataset": "{"}, "--dataset must be a JSON object"),
        ({"dataset": "[1]"}, "--dataset must be a JSON object"),
    ],
)
def test_text_that_cannot_be(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        given(**values).domain("x")


def test_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    parts = given().parts(["w:a=a/*.txt", "w:b=registry:legal", "w:a=x=1.txt"])
    assert [part.name for part in parts] == ["w:a", "w:b"]
    assert parts[0].files == (f"{tmp_path}/a/*.txt", f"{tmp_path}/x=1.txt")
    assert parts[1].registry == "legal"
    for text in ("a", "=b", "a="):
        with pytest.raises(RecipeError, match="--part must be NAME=GLOB"):
            given().parts([text])


def test_strategy_and_recomputation() -> None:
    assert given().how().strategy == "auto"
    how = given(recompute="a, b:c", runs=3).how()
    assert (how.strategy, how.recompute, how.n_runs) == ("partial", ("a", "b:c"), 3)
    for values in ({"strategy": "partial"}, {"strategy": "full", "recompute": "a"}):
        with pytest.raises(RecipeError, match="--strategy partial and --recompute A,B must come together"):
            given(**values).how()
    with pytest.raises(RecipeError, match=r"--strategy must be a known one, got 'some'\. Hint: known: full, swarm"):
        given(strategy="some").how()


def test_only_a_swarm_is_updated(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("project: p\ndomains: [{name: a, files: a.txt}]\ntraining: {tokens: 1M}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match=r"needs a recipe of method olmix .*, got 'method op-mix'"):
        given(recipe=path).recipe()
