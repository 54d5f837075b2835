"""The table of families in docs/laws.md is the laws' own."""

from pathlib import Path

from evermix.cli.law_reference import replaced

PAGE = Path(__file__).parents[2] / "docs" / "laws.md"


def test_the_table_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert replaced(page) == page, "run `make docs`"
