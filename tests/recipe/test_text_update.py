"""Several changes in a YAML file: paths from its folder, faults with file, line and key."""

from pathlib import Path

import pytest

from evermix.errors import RecipeError
from evermix.recipe.parts import TextUpdate, absolute


def written(folder: Path, text: str) -> Path:
    path = folder / "u.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_all_kinds_of_changes(tmp_path: Path) -> None:
    text = """
add: [{name: papers, files: p/*.jsonl}]
remove: [spam]
revise: [{name: web, registry: legal}]
partition: {code: [{name: "code:c", files: c.txt}, {name: "code:go", files: [go.txt, "!go2.txt"]}]}
"""
    update = TextUpdate.load(written(tmp_path, text))
    assert update.add[0].files == (f"{tmp_path}/p/*.jsonl",)
    assert update.remove == ("spam",)
    assert update.revise[0].registry == "legal"
    assert [part.name for part in update.partition["code"]] == ["code:c", "code:go"]
    assert update.partition["code"][1].files == (f"{tmp_path}/go.txt", f"!{tmp_path}/go2.txt")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adds: []\n", r"u.yaml:1: adds: unknown key.*allowed: add, remove, revise, partition"),
        ("remove: [a]\nadd:\n- {name: b, file: x}\n", r"u.yaml:3: add.0.file: unknown key"),
        ("remove: [a]\nadd:\n- {name: b}\n", r"u.yaml:3: add.0: must have exactly one of files"),
        ("partition:\n  a: [{name: b, files: c}]\n", r"u.yaml:2: partition.a: must have at least two parts"),
        ("add: []\n", r"u.yaml:1: recipe: must add, remove, revise or partition a domain"),
        ("- a\n", "a recipe must be a mapping"),
    ],
)
def test_faults_name_their_place(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        TextUpdate.load(written(tmp_path, text))


def test_absolute_of_nothing() -> None:
    assert absolute(None) is None
    assert absolute(["../a/./b"], Path("/x/y")) == ["/x/a/b"]
