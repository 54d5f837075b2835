"""Grid: a table that is built once, and drawn in the terminal and on the page alike; notes and lists below it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from itertools import groupby

from rich import box
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding

from evermix.printing import Table, Text
from evermix.reports.units import known
from evermix.wording import visible

_MOST_COLUMNS = 10  # of numbers, side by side on the page
_WORDS_WIDTH = 20  # of a column of words, from which on it is folded before the table is split
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

    @property
    def parts(self) -> list[Grid]:
        """For the page: of at most `_MOST_COLUMNS`, each with the first column; groups are whole where they can be."""
        groups = self.groups or [("", 1) for _ in self.columns]
        chosen: list[list[int]] = [[]]
        position = groups[0][1]  # of the column that names the rows, and what stands over it
        for _, width in groups[1:]:
            for begin in range(position, position + width, _MOST_COLUMNS):
                block = range(begin, min(begin + _MOST_COLUMNS, position + width))
                if chosen[-1] and len(chosen[-1]) + len(block) > _MOST_COLUMNS:
                    chosen.append([])
                chosen[-1] += block
            position += width
        head = list(range(groups[0][1]))
        return [self] if len(chosen) == 1 else [self._of([*head, *columns]) for columns in chosen]

    def _of(self, columns: Sequence[int]) -> Grid:
        """Some of the columns."""
        over = [text for text, n in self.groups for _ in range(n)]
        groups = [(text, len(list(each))) for text, each in groupby(over[i] for i in columns)] if over else ()
        rows, foot = ([[row[i] for i in columns] for row in part] for part in (self.rows, self.foot))
        words = [new for new, old in enumerate(columns) if old in self.words]
        return replace(
            self, columns=[self.columns[i] for i in columns], groups=groups, rows=rows, foot=foot, words=words
        )


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
        drawn.add_column(heading, justify="left" if words else "right", overflow="fold", no_wrap=not words)
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
    return Text(visible(cell.text, lines=False), style=_STYLES.get(cell.mark, ""))


def show(console: Console, grids: Iterable[Grid | None]) -> None:
    """Every table that there is, each with its note."""
    for grid in grids:
        if grid is not None:
            console.print(table(grid))
            if grid.note:
                note(console, grid.note)


class SplitTable(Table):
    """A table whose numbers are never folded: where it is too wide, its columns go on below, beside the first again."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        for part in self._parts(console, options):
            yield from Table.__rich_console__(part, console, options)

    def _parts(self, console: Console, options: ConsoleOptions) -> Iterator[Table]:
        needed = [self._needed(console, options, number) for number in range(len(self.columns))]
        chosen = [0]
        for number in range(1, len(self.columns)):
            if len(chosen) > 1 and sum(needed[i] for i in (*chosen, number)) > options.max_width:
                yield self._part(chosen)
                chosen = [0]
            chosen.append(number)
        yield self._part(chosen)

    def _needed(self, console: Console, options: ConsoleOptions, number: int) -> int:
        """Characters that a column takes at least, with what parts it from the next."""
        column = self.columns[number]
        measured: Measurement = self._measure_column(console, options.update(width=10_000), column)
        return 1 + (measured.maximum if column.no_wrap else min(measured.maximum, _WORDS_WIDTH))

    def _part(self, chosen: Sequence[int]) -> Table:
        part = copy(self)
        part.columns = [replace(self.columns[number], _index=i) for i, number in enumerate(chosen)]
        part.title = self.title if 1 in chosen or len(self.columns) == 1 else None
        return part


def plain_table(title: str) -> Table:
    """Title and head, no frame."""
    return SplitTable(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)


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
