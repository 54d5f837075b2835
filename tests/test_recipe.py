"""Recipes: what is read, and errors that name file, line and key."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import RecipeError
from evermix.recipe import Recipe, parse_amount

GOOD = """\
project: runs/x
domains:
  - name: a
    files: a.jsonl
  - name: b
    files: [b/*.txt]
training:
  tokens: 1.5M
"""


def load(folder: Path, text: str) -> Recipe:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return Recipe.load(path)


def test_good_recipe(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert recipe.training.tokens == 1_500_000
    assert recipe.domains[0].files == ("a.jsonl",)
    assert recipe.base == tmp_path.resolve()
    assert recipe.project_folder == Path("runs/x")


def test_fingerprint_ignores_the_project_folder(tmp_path: Path) -> None:
    recipe = load(tmp_path, GOOD)
    assert load(tmp_path, GOOD.replace("runs/x", "runs/y")).fingerprint() == recipe.fingerprint()
    assert load(tmp_path, GOOD + "seed: 1\n").fingerprint() != recipe.fingerprint()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD + "sead: 1\n", r"r\.yaml:9: sead: unknown key. Hint: allowed: project, method, seed"),
        (GOOD + "  batch: 3\n", r"r\.yaml:9: training\.batch: unknown key. Hint: allowed: tokens, batch_sequences"),
        (GOOD.replace("1.5M", "many"), r"r\.yaml:8: training\.tokens: must be an amount .*got 'many'"),
        (GOOD.replace("1.5M", "-5"), r"r\.yaml:8: training\.tokens: .*greater than 0"),
        (GOOD.replace("1.5M", ".nan"), r"r\.yaml:8: training\.tokens: "),
        (GOOD.replace("name: b", "name: a"), r"r\.yaml:5: domains\.1\.name: .*'a' is given twice"),
        (GOOD.replace("    files: a.jsonl\n", ""), r"r\.yaml:3: domains\.0: must have exactly one of files"),
        (GOOD.replace("project: runs/x\n", ""), r"r\.yaml:1: project: required key is missing"),
        (GOOD + "seed: 1\nseed: 2\n", r"r\.yaml:10: seed: a key must be given once"),
        (GOOD + "objective: {weights: {a: -1}}\n", r"r\.yaml:9: objective\.weights\.a: .*greater than or equal to 0"),
        (GOOD + "objective: {weights: {a: .nan}}\n", r"r\.yaml:9: objective\.weights\.a: .*finite number"),
        (GOOD + "objective: {weights: {a: 0}}\n", "at least one weight must be positive"),
        (GOOD + "objective: {weights: {c: 1}}\n", r"r\.yaml:9: .*unknown domain 'c' \(known: a, b\)"),
        (GOOD + "constraints: {fixed: {a: 0.7, b: 0.6}}\n", r"fixed shares must sum to at most 1 .*1\.3"),
        (GOOD + "start: {a: 0.7, b: 0.6}\n", r"the shares must sum to 1 .*1\.3"),
        (GOOD + "decision: {at: [0.5, 0.2]}\n", "decision points must strictly increase"),
        (GOOD + "arms: [evermix, evermix]\n", "arms must be unique"),
        ("- a\n", "must be a mapping of keys, got 'list'"),
        ("a: [\n", r"r\.yaml:2: the recipe must be valid YAML"),
    ],
)
def test_errors_name_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message) as caught:
        load(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_unreadable_files(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="must exist"):
        Recipe.load(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="not a folder"):
        Recipe.load(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("project: Bücher".encode("latin-1"))
    with pytest.raises(RecipeError, match="must be UTF-8"):
        Recipe.load(tmp_path / "latin.yaml")


@given(st.integers(1, 10**15))
def test_amounts_pass_through(value: int) -> None:
    assert parse_amount(value) == parse_amount(str(value)) == parse_amount(f"{value:_}") == value


@pytest.mark.parametrize(
    ("text", "value"), [("250k", 250_000), ("1.5M", 1_500_000), ("20B", 2 * 10**10), ("1e3", 1000)]
)
def test_amounts(text: str, value: int) -> None:
    assert parse_amount(text) == value
