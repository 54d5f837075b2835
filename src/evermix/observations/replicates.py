"""Replicates: runs of one mixture, and the noise that shows between them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_SAME = 1e-9


def groups_of_equal_rows(table: Floats) -> tuple[Ints, ...]:
    """Positions of rows that are equal within 1e-9 in every column; only groups of two or more, in order.

    Rows are sorted along one fixed random direction, so that only neighbours need to be compared.
    """
    direction: Floats = np.random.default_rng(0).uniform(0.5, 1.5, size=(table.shape[1],))
    along = table @ direction
    order = np.argsort(along, kind="stable")
    within = 2 * _SAME * direction.sum() + 1e-12 * np.abs(along).max(initial=0.0)
    blocks = np.split(order, np.flatnonzero(np.diff(along[order]) > within) + 1)
    groups = [group for block in blocks if len(block) > 1 for group in _equal_within(table, np.sort(block))]
    return tuple(sorted(groups, key=lambda group: int(group[0])))


def _equal_within(table: Floats, rows: Ints) -> list[Ints]:
    groups: list[Ints] = []
    while len(rows) > 1:
        same = np.abs(table[rows] - table[rows[0]]).max(axis=1) <= _SAME
        if same.sum() > 1:
            groups.append(rows[same])
        rows = rows[~same]
    return groups


def pooled_deviation(values: Floats, groups: tuple[Ints, ...]) -> Floats:
    """sqrt(sum_g sum_k (y_k - mean_g)^2 / sum_g (n_g - 1)) per metric, over known cells; NaN without two of a group.

    Args:
        values: shape (runs, metrics), NaN where missing.
        groups: positions of the runs of each mixture.

    Returns:
        Shape (metrics,), in each metric's unit.
    """
    squares, freedom = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for group in groups:
        part = values[group]
        known = ~np.isnan(part)
        n_known = known.sum(axis=0)
        mean = np.where(known, part, 0.0).sum(axis=0) / np.maximum(n_known, 1)
        squares += np.where(known, (part - mean) ** 2, 0.0).sum(axis=0)
        freedom += np.maximum(n_known - 1, 0)
    result: Floats = np.where(freedom > 0, np.sqrt(squares / np.maximum(freedom, 1)), np.nan)
    return result
