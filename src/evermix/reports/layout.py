"""Grid: a table that is built once, and drawn in the terminal and on the page alike; notes and lists below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from evermix.reports.units import known

_MOST_WHOLE = 8  # columns up to which numbers are never folded
_STYLES = {"best": "bold", "faint": "dim", "better": "green", "worse": "red"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table: `mark` is best, faint, better or worse."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """A table.

    Attributes:
        title: for the terminal; the page has headings of its own.
        columns: headings.
        groups: headings over several columns (text, number of columns).
        foot: rows below the others.
        note: a remark below it.
        words: positions of columns that hold words, besides the first one.
        rest: how many rows are not shown, and of what; "" for none.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = ()
    foot: Sequence[Sequence[Cell]] = ()
    note: str = ""
    words: Sequence[int] = ()
    rest: str = ""


def cells(*texts: str) -> list[Cell]:
    """Plain cells."""
    return [Cell(text) for text in texts]


def best(values: Sequence[float | None], write: Callable[[float | None], str], *, lowest: bool = True) -> list[Cell]:
    """One cell per value, the best of several marked."""
    there = [value for value in values if known(value)]
    wanted = (min if lowest else max)(there) if len(there) > 1 else None
    return [Cell(write(value), "best" if value is not None and value == wanted else "") for value in values]


def table(grid: Grid) -> Table:
    """The grid for a terminal; a column's group stands above its name."""
    drawn = plain_table(grid.title)
    over = [text for text, n in grid.groups for _ in range(n)] or [""] * len(grid.columns)
    for number, (group, column) in enumerate(zip(over, grid.columns, strict=True)):
        heading = f"{column}\n{group}" if group else column
        words = not number or number in grid.words
        whole = not words and len(grid.columns) <= _MOST_WHOLE
        drawn.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=whole)
    for row in grid.rows:
        drawn.add_row(*map(_text, row))
    if grid.rest:
        drawn.add_row(Text(f"... {grid.rest} (--all)", style="dim"), *[""] * (len(grid.columns) - 1))
    if grid.foot:
        drawn.add_section()
    for row in grid.foot:
        drawn.add_row(*map(_text, row))
    return drawn


def _text(cell: Cell) -> Text:
    return Text(cell.text, style=_STYLES.get(cell.mark, ""))


def show(console: Console, grids: Iterable[Grid | None]) -> None:
    """Every table that there is, each with its note."""
    for grid in grids:
        if grid is not None:
            console.print(table(grid))
            if grid.note:
                note(console, grid.note)


def plain_table(title: str) -> Table:
    """Title and head, no frame."""
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


def facts_table(rows: Iterable[tuple[str, str]]) -> Table:
    """Labels and values, without a head."""
    drawn = Table(show_header=False, box=None, pad_edge=False)
    drawn.add_column(style="dim", no_wrap=True)
    drawn.add_column(overflow="fold")
    for label, value in rows:
        drawn.add_row(label, Text(value))
    return drawn


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
