"""The arguments of `evermix update` become domains, strategies and errors that name the way out."""

from pathlib import Path
from typing import Any

import pytest

from evermix.cli.update_options import UpdateArguments
from evermix.errors import RecipeError

_NAMES = ("recipe", "strategy", "release", "runs", "dry_run", "json", "files", "registry", "dataset")
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


def test_strategy_and_release() -> None:
    assert given().how().strategy == "auto"
    how = given(release="a, b:c", runs=3).how()
    assert (how.strategy, how.release, how.n_runs) == ("partial", ("a", "b:c"), 3)
    for values in ({"strategy": "partial"}, {"strategy": "full", "release": "a"}):
        with pytest.raises(RecipeError, match="--strategy partial and --release A,B must come together"):
            given(**values).how()
    with pytest.raises(RecipeError, match=r"--strategy must be a known one, got 'some'\. Hint: known: full, swarm"):
        given(strategy="some").how()


def test_only_a_swarm_is_updated(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text("project: p\ndomains: [{name: a, files: a.txt}]\ntraining: {tokens: 1M}\n", encoding="utf-8")
    with pytest.raises(RecipeError, match="an update needs a recipe of method olmix, got 'op-mix'"):
        given(recipe=path).recipe()
