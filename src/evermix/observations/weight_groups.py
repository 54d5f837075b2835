"""Weight groups: the columns of a table that are a mixture, found by their names or because they sum to 1."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations.raw import RawTable

Floats = npt.NDArray[np.float64]
_MARKERS = ("domain_weights", "weights", "weight", "mixtures", "mixture", "mix", "ratios", "ratio", "proportions")
_MARKER = re.compile(rf"(?:^|[./:_-])({'|'.join((*_MARKERS, 'proportion', 'shares', 'share'))})[./:_-]", re.IGNORECASE)
_MARKER_AT_END = re.compile(r"[./:_-](weight|ratio|proportion|share)$", re.IGNORECASE)


def find_weights(table: RawTable, columns: Sequence[str], alone: bool) -> list[str]:
    """Columns of weights among `columns`; all with numbers, if the table is said to hold nothing else (`alone`).

    A group of columns marked as weights (`config.weights.web`, `web_ratio`) whose rows sum to 1 or 100 comes first;
    then the only run of neighbouring columns whose rows do.

    Raises:
        ObservationError: if there are none, or several possible ones.
    """
    numbers = [name for name in columns if table.holds_numbers(name)]
    values = _matrix(table, numbers)
    marked = [group for group in _marked(numbers) if len(group) > 1]
    summing = [group for group in marked if _sums(values[:, [numbers.index(c) for c in group]])]
    if summing:
        return max(summing, key=len)
    if alone:
        return _not_empty(table, numbers)
    if len(marked) == 1:
        return marked[0]
    blocks = _blocks(numbers, values)
    if len(blocks) == 1:
        return blocks[0]
    found = "; ".join(f"{block[0]!r} to {block[-1]!r}" for block in blocks) or None
    raise ObservationError(
        f"{table.path}: one group of neighbouring columns must hold weights that sum to 1",
        received=found,
        hint="name the columns with domains, for example 'weights.*'",
    )


def repeats_weights(table: RawTable, weights: Sequence[str]) -> bool:
    """Whether a table has columns of all these names whose rows mostly sum to 1 or 100."""
    return len(weights) > 1 and set(weights) <= set(table.columns) and _sums(_matrix(table, weights))


def _not_empty(table: RawTable, numbers: list[str]) -> list[str]:
    if not numbers:
        raise ObservationError(
            f"{table.path}: a table of weights must have a column of numbers beside the ids",
            hint="one column per domain",
        )
    return numbers


def _matrix(table: RawTable, columns: Sequence[str]) -> Floats:
    """Cells as numbers, shape (rows, columns); NaN where they are none."""
    cells = [[cell if isinstance(cell, float) else np.nan for cell in table.parsed(c)] for c in columns]
    matrix = np.array(cells, dtype=np.float64).reshape(len(columns), len(table.rows)).T
    return np.where(np.isfinite(matrix), matrix, np.nan)


def _marked(columns: Sequence[str]) -> list[list[str]]:
    """Groups of columns that share everything up to a marker, or end in the same marker; no group twice."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        for start in {match.end() for match in _MARKER.finditer(column)}:
            groups.setdefault(column[:start], []).append(column)
        if end := _MARKER_AT_END.search(column):
            groups.setdefault(f"*{end[0]}", []).append(column)
    distinct = {tuple(group): group for group in groups.values()}
    return list(distinct.values())


def _sums(values: Floats) -> bool:
    """Whether most rows sum to about 1 or 100."""
    sums = values.sum(axis=1)
    return bool((_about(sums, 1) | _about(sums, 100)).mean() > 0.5)


def _about(sums: Floats, target: float) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        result: npt.NDArray[np.bool_] = np.abs(sums / target - 1) < 0.02
    return result


def _blocks(columns: Sequence[str], values: Floats) -> list[list[str]]:
    """Longest runs of neighbouring non-negative columns in which every row sums to about 1, or to about 100."""
    found: list[tuple[int, int]] = []
    usable = np.array(~np.isnan(values).any(axis=0) & ((values >= 0) & (values <= 101)).all(axis=0), dtype=bool)
    for start in range(len(columns)):
        if usable[start]:
            stop = start
            while stop < len(columns) and usable[stop]:
                stop += 1
            sums = np.cumsum(values[:, start:stop], axis=1)
            whole = np.array(_about(sums, 1).all(axis=0) | _about(sums, 100).all(axis=0), dtype=bool)
            whole[0] = False
            if whole.any():
                found.append((start, start + int(np.flatnonzero(whole)[-1]) + 1))
    kept = [b for b in found if not any(o != b and o[0] <= b[0] and b[1] <= o[1] for o in found)]
    return [list(columns[start:stop]) for start, stop in kept]
