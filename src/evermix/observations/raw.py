"""Raw tables: cells as a file gives them, each with the place where a person finds it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from evermix.errors import ObservationError
from evermix.observations.cells import Parsed, label, parse

UNNAMED = "(unnamed column {})"


@dataclass(frozen=True)
class Row:
    """One row: its place ("line 7" of a text file, "row 3" of a Parquet file) and its cells, one per column."""

    place: str
    cells: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class RawTable:
    """A file's columns and rows.

    Attributes:
        path: the file.
        columns: unique names, stripped; a column without a name is called "(unnamed column 1)".
        rows: in the file's order.

    Raises:
        ObservationError: if two columns share a name, or there are no rows.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    _parsed: dict[str, tuple[Parsed, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        seen: dict[str, int] = {}
        for j, name in enumerate(self.columns, start=1):
            if name in seen:
                raise ObservationError(
                    f"{self.path}: column names must be unique; columns {seen[name]} and {j} share one",
                    received=name,
                    hint="rename or remove one of them",
                )
            seen[name] = j
        if not self.rows:
            raise ObservationError(f"{self.path}: a table must have at least one row of cells below its header")

    @property
    def name(self) -> str:
        """The file's name, for messages about rows."""
        return self.path.name

    def cell(self, row: Row, column: str) -> object:
        """The raw cell."""
        return row.cells[self.columns.index(column)]

    def parsed(self, column: str) -> tuple[Parsed, ...]:
        """What each cell of a column says, one per row."""
        if column not in self._parsed:
            j = self.columns.index(column)
            self._parsed[column] = tuple(parse(row.cells[j]) for row in self.rows)
        return self._parsed[column]

    def holds_numbers(self, column: str) -> bool:
        """Whether at least one cell is a number, finite or not."""
        return any(isinstance(cell, float) and not math.isnan(cell) for cell in self.parsed(column))

    def is_empty(self, column: str) -> bool:
        """Whether every cell is missing."""
        return all(isinstance(cell, float) and math.isnan(cell) for cell in self.parsed(column))

    def is_blank(self, column: str) -> bool:
        """Whether no cell holds anything at all."""
        j = self.columns.index(column)
        return all(label(row.cells[j]) == "" for row in self.rows)

    def where(self, row: Row, column: str) -> str:
        """File, line and column, as an error message begins."""
        return f"{self.path}, {row.place}, column {column!r}"


def named(header: Sequence[str]) -> tuple[str, ...]:
    """Column names, stripped, with a stand-in for each empty one."""
    return tuple(name.strip() or UNNAMED.format(j) for j, name in enumerate(header, start=1))
