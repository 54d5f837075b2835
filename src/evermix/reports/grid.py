"""Tables of a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Cell:
    """One cell of a table: `mark` is a class name such as `best`."""

    text: str
    mark: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: `groups` are headings over several columns (text, number of columns)."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    groups: Sequence[tuple[str, int]] = ()
    foot: Sequence[Sequence[Cell]] = ()
