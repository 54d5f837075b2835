"""What `evermix list-laws` and `list-corpora` show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from evermix.printing import Table, Text
from evermix.reports.layout import plain_table


def laws_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Rows of `list_laws` as a table."""
    table = plain_table("Families of laws (default: auto, the best per metric by cross-validation)")
    table.add_column("law", no_wrap=True)
    table.add_column("formula", overflow="fold")
    for column in ("convex", "gradient", "std"):
        table.add_column(column, justify="center", no_wrap=True)
    table.add_column("runs\nneeded", no_wrap=True)
    table.add_column("source", overflow="fold")
    table.add_column("install", no_wrap=True)
    for row in rows:
        flags = ["yes" if row[flag] else "" for flag in ("convex", "gradient", "std")]
        extra = f"evermix[{row['extra']}]" if row["extra"] else ""
        name, formula, source = Text(row["name"], style="bold"), Text(row["formula"]), Text(row["source"])
        table.add_row(name, formula, *flags, row["runs_needed"], source, Text(extra))
    return table


def print_corpora(corpora: Sequence[Mapping[str, Any]], console: Console) -> None:
    """One row per registry corpus; the columns are the keys of its description."""
    table = plain_table("Corpora that a recipe may name as `registry: NAME`")
    columns = list(dict.fromkeys(key for corpus in corpora for key in corpus))
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for corpus in corpora:
        table.add_row(*[Text(str(corpus.get(column, ""))) for column in columns])
    console.print(table)
