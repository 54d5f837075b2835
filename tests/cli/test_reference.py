"""docs/cli.md, docs/recipe.md and the table in docs/laws.md are what the generator writes."""

from __future__ import annotations

from pathlib import Path

from evermix.cli.reference import cli_page, laws_page, recipe_page

DOCS = Path(__file__).parents[2] / "docs"


def test_pages_are_up_to_date() -> None:
    laws = (DOCS / "laws.md").read_text(encoding="utf-8")
    assert (DOCS / "cli.md").read_text(encoding="utf-8") == cli_page(), "run `make docs`"
    assert (DOCS / "recipe.md").read_text(encoding="utf-8") == recipe_page(), "run `make docs`"
    assert laws_page(laws) == laws, "run `make docs`"


def test_keys_limits_and_defaults_are_told() -> None:
    rows = {line.split("|")[1].strip(" *`"): line for line in recipe_page().splitlines() if line.startswith("| ")}
    assert "| required |" in rows["training.tokens"]
    assert "amount > 0" in rows["training.tokens"]
    assert "`wsd` or `cosine`" in rows["training.schedule"]
    assert "number > 0, < 1" in rows["decision.probes.budget"]
    assert "`[0.9]`" in rows["decision.probes.purities"]
    assert "| list of number > 0, < 1 |  | decision points" in rows["decision.at"]
    assert "default: 0.4 by probes" in rows["decision.at"]
    assert "list of text" in rows["domains[].files"]
    assert "base" not in rows
