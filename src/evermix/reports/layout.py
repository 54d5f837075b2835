"""The look of tables and paragraphs that the reports of swarms share."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text


def plain_table(title: str) -> Table:
    """Title and head, no frame."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def rest_row(table: Table, n: int, what: str) -> None:
    """A row that says how many are not shown, and how to see them."""
    table.add_row(Text(f"... {n:,} more {what} (--all)", style="dim"), *[""] * (len(table.columns) - 1))


def note(console: Console, text: str) -> None:
    """A remark below a table."""
    console.print(Padding(Text(text, style="dim"), (0, 0, 1, 0), expand=False))


def items(console: Console, head: str, lines: Sequence[str], most: int | None = None) -> None:
    """A head, and its lines indented below it; of more than `most`, how many are not shown."""
    if not lines:
        return
    console.print(Text(head, style="bold"))
    shown = list(lines if most is None else lines[:most])
    if len(lines) > len(shown):
        shown.append(f"... {len(lines) - len(shown):,} more (--all)")
    for line in shown:
        console.print(Padding(Text(line), (0, 0, 0, 2), expand=False))
