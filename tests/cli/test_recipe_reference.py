"""docs/recipe.md names every key of the recipe, and is what the generator writes."""

from __future__ import annotations

from pathlib import Path

from evermix.cli.recipe_reference import markdown

PAGE = Path(__file__).parents[2] / "docs" / "recipe.md"


def test_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == markdown(), "run `make docs`"


def test_keys_limits_and_defaults_are_told() -> None:
    rows = {line.split("|")[1].strip(" *`"): line for line in markdown().splitlines() if line.startswith("| ")}
    assert "| required |" in rows["training.tokens"]
    assert "amount > 0" in rows["training.tokens"]
    assert "`wsd` or `cosine`" in rows["training.schedule"]
    assert "number > 0, < 1" in rows["decision.probes.budget"]
    assert "`[0.4]`" in rows["decision.at"]
    assert "list of text" in rows["domains[].files"]
    assert "base" not in rows
