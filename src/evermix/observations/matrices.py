"""Matrices: the checked numbers of joined runs; every refusal names file, line, column and value."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations.cells import Fault, parse
from evermix.observations.raw import RawTable, Row
from evermix.observations.table_checks import LARGEST, sum_tolerance

Floats = npt.NDArray[np.float64]


def numbers(table: RawTable, rows: Sequence[Row], columns: Sequence[str], what: str) -> Floats:
    """Cells as numbers, shape (rows, columns), NaN where missing.

    Raises:
        ObservationError: for a cell that is text, a boolean, or beyond 1e100.
    """
    positions = [table.columns.index(name) for name in columns]
    result = np.empty((len(rows), len(columns)))
    for k, row in enumerate(rows):
        for i, j in enumerate(positions):
            parsed = parse(row.cells[j])
            if isinstance(parsed, Fault):
                raise ObservationError(
                    f"{table.where(row, columns[i])}: a {what} must be a number, not {parsed.reason}",
                    received=row.cells[j],
                    hint=parsed.hint,
                )
            if abs(parsed) > LARGEST:
                raise ObservationError(
                    f"{table.where(row, columns[i])}: a {what} must be a finite number below 1e100",
                    received=row.cells[j],
                )
            result[k, i] = parsed
    return result


def weights(table: RawTable, rows: Sequence[Row], columns: Sequence[str], percent: bool) -> Floats:
    """Shares, shape (rows, columns), as in the file or divided by 100.

    Raises:
        ObservationError: for a cell that is missing or negative, or a row that does not sum to 1 (100 if `percent`).
    """
    result = numbers(table, rows, columns, "weight")
    bad = np.isnan(result) | (result < 0)
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(
            f"{table.where(rows[k], columns[j])}: a weight must be a number >= 0",
            received=rows[k].cells[table.columns.index(columns[j])],
            hint="write 0 for a domain that a run does not use" if math.isnan(result[k, j]) else None,
        )
    if percent:
        result = result / 100
    sums = result.sum(axis=1)
    for k in np.flatnonzero(np.abs(sums - 1) > sum_tolerance(len(columns))).tolist():
        whole = "100" if percent else "1"
        raise ObservationError(
            f"{table.path}, {rows[k].place}: weights must sum to {whole}",
            received=float(f"{sums[k] * (100 if percent else 1):.6g}"),
            hint=_sum_hint(result, k, columns, percent),
        )
    return result


def _sum_hint(shares: Floats, k: int, columns: Sequence[str], percent: bool) -> str:
    sums, tolerance = shares.sum(axis=1), sum_tolerance(len(columns))
    if not percent and abs(sums[k] / 100 - 1) <= tolerance:
        return "these look like percentages: read with --percent (percent=True), or divide by 100"
    if percent and abs(sums[k] * 100 - 1) <= tolerance:
        return "these look like shares: read without percent"
    for j, column in enumerate(columns):
        if (np.abs(sums - shares[:, j] - 1) <= tolerance).all() and shares[:, j].any():
            return f"without column {column!r} every row does: name the right columns with domains"
    return f"{len(columns)} columns were taken as domains, {columns[0]!r} to {columns[-1]!r}; name others with domains"


def standard_errors(table: RawTable, rows: Sequence[Row], columns: Sequence[str], values: Floats) -> Floats:
    """Standard errors, shape (rows, columns).

    Raises:
        ObservationError: for one that is negative, or missing for a known value though other rows have one.
    """
    result = numbers(table, rows, columns, "standard error")
    lacking = np.isnan(result) & ~np.isnan(values) & ~np.isnan(result).all(axis=0)
    bad = (result < 0) | lacking
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(
            f"{table.where(rows[k], columns[j])}: a standard error must be a number >= 0 where the value is known",
            received=rows[k].cells[table.columns.index(columns[j])],
            hint="leave the whole column out if it is unknown",
        )
    return result


def amounts(table: RawTable, rows: Sequence[Row], column: str) -> Floats:
    """Token budgets or model sizes, shape (rows,); ObservationError for one that is missing or not > 0."""
    result = numbers(table, rows, [column], "budget")[:, 0]
    for k in np.flatnonzero(~(result > 0)).tolist():
        cell = rows[k].cells[table.columns.index(column)]
        raise ObservationError(f"{table.where(rows[k], column)}: a budget must be a number > 0", received=cell)
    return result
