"""What the arrays of runs must be: shapes, sizes, unique names, weights that sum to 1; errors name run and column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.errors import ObservationError

Floats = npt.NDArray[np.float64]
LARGEST = 1e100


def as_table(array: npt.ArrayLike, name: str, shape: tuple[int, int] | None = None) -> Floats:
    """A copy as a table of floats; ObservationError if it is not one, has no rows, or another shape."""
    try:
        table = np.array(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ObservationError(f"{name} must be a rectangular table of numbers", received=str(error)) from error
    if table.ndim != 2 or len(table) == 0:
        raise ObservationError(f"{name} must be a table with at least one run", received=table.shape)
    if shape is not None and table.shape != shape:
        raise ObservationError(f"{name} must have the shape {shape}", received=table.shape)
    return table


def as_amounts(array: npt.ArrayLike | None, name: str, n_runs: int) -> Floats | None:
    """A frozen copy of one positive number per run, or None."""
    if array is None:
        return None
    amounts = np.array(array, dtype=np.float64)
    if amounts.shape != (n_runs,):
        raise ObservationError(f"{name} must have one number per run, {n_runs}", received=amounts.shape)
    for k in np.flatnonzero(~(np.isfinite(amounts) & (amounts > 0))):
        raise ObservationError(f"{name} of run {k} must be a number > 0", received=float(amounts[k]))
    amounts.flags.writeable = False
    return amounts


def check_names(kind: str, names: Iterable[str]) -> None:
    """ObservationError if a name is empty, has outer blanks, or occurs twice."""
    seen: set[str] = set()
    for name in names:
        if not name or name != name.strip():
            raise ObservationError(f"every {kind} must be non-empty, without outer blanks", received=name)
        if name in seen:
            raise ObservationError(f"every {kind} must be unique", received=name, hint="drop or rename one of them")
        seen.add(name)


def check_values(table: Floats, run_ids: Sequence[str], metrics: Sequence[str]) -> None:
    """ObservationError for a value that is infinite or beyond 1e100 in size, whose square would overflow."""
    _refuse(
        "value",
        np.abs(table) > LARGEST,
        table,
        run_ids,
        metrics,
        "must be a number below 1e100 in size, or NaN if missing",
    )


def check_standard_errors(errors: Floats, values: Floats, run_ids: Sequence[str], metrics: Sequence[str]) -> None:
    """ObservationError if one is negative, infinite, or unknown for a known value though its metric has others."""
    bad = (errors < 0) | (errors > LARGEST)
    _refuse("standard error", bad, errors, run_ids, metrics, "must be >= 0")
    unknown = np.isnan(errors) & ~np.isnan(values) & ~np.isnan(errors).all(axis=0)
    _refuse("standard error", unknown, errors, run_ids, metrics, "must be known where those of other runs are")


def sum_tolerance(n_domains: int) -> float:
    """How far a row's sum may be from 1: shares are often rounded to three decimals, each off by up to 5e-4."""
    return min(0.01, max(1e-3, 5e-4 * n_domains))


def check_weights(domains: DomainSet, run_ids: Sequence[str], weights: Floats) -> None:
    """ObservationError for a weight that is NaN, infinite or negative, or a row that does not sum to 1."""
    bad = ~np.isfinite(weights) | (weights < 0)
    _refuse("weight", bad, weights, run_ids, domains.names, "must be a number >= 0")
    sums = weights.sum(axis=1)
    for k in np.flatnonzero(np.abs(sums - 1) > sum_tolerance(len(domains))).tolist():
        hint = "divide percentages by 100" if abs(sums[k] - 100) < 1 else "give shares of the run's tokens"
        raise ObservationError(f"weights of run '{run_ids[k]}' must sum to 1", received=float(sums[k]), hint=hint)


def _refuse(
    kind: str, bad: npt.NDArray[np.bool_], table: Floats, runs: Sequence[str], columns: Sequence[str], rule: str
) -> None:
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(f"{kind} of run '{runs[k]}', '{columns[j]}' {rule}", received=float(table[k, j]))
