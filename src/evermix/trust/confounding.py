"""Confounded domains: shares that moved together over the runs, so that their effects cannot be told apart.

Pairs: correlation of shares above a threshold. Groups: eigenvectors of the shares' correlation matrix with a large
condition index sqrt(l_max / l) (Belsley, Kuh & Welsch 1980; 30 and more is severe). Shares sum to 1, so one
eigenvalue is zero by construction (eigenvector ~ the shares' standard deviations): that direction is projected out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_LOADING = 0.3


@dataclass(frozen=True)
class Confounded:
    """Domains (positions) that moved together.

    Attributes:
        domains: positions.
        correlation: greatest correlation between two of them.
        condition_index: of the direction they share; NaN for a pair found by its correlation alone.
    """

    domains: tuple[int, ...]
    correlation: float
    condition_index: float


def confounded(runs: Floats, correlation: float = 0.95, condition_index: float = 30.0) -> tuple[Confounded, ...]:
    """Groups of domains confounded in `runs` (runs, domains); domains that never vary are left out."""
    varying = np.flatnonzero(np.ptp(runs, axis=0) > 1e-9)
    if len(varying) < 3 or len(runs) < 3:
        return ()
    centred = runs[:, varying] - runs[:, varying].mean(axis=0)
    scale = np.sqrt((centred**2).sum(axis=0))
    matrix = (centred / scale).T @ (centred / scale)
    groups = [
        Confounded(tuple(int(varying[j]) for j in group), _greatest(matrix, group), float("nan"))
        for group in _linked(matrix > correlation)
    ]
    known = {j for group in groups for j in group.domains}
    for index, group in _directions(matrix, scale, len(runs), condition_index):
        members = tuple(int(varying[j]) for j in group)
        if not known & set(members):
            groups.append(Confounded(members, _greatest(matrix, group), index))
    return tuple(groups)


def _directions(matrix: Floats, scale: Floats, n_runs: int, least: float) -> list[tuple[float, list[int]]]:
    """(condition index, domains of large loading) of the weak directions, but the one that is empty by construction."""
    if n_runs <= len(matrix):
        return []  # directions without data: too few runs, whatever the design
    empty = scale / np.linalg.norm(scale)
    values, vectors = np.linalg.eigh(matrix + np.outer(empty, empty) * np.trace(matrix))
    values, vectors = values[:-1], vectors[:, :-1]
    top = float(np.linalg.eigvalsh(matrix)[-1])
    index = np.sqrt(top / np.maximum(values, 1e-12 * top))
    return [
        (float(index[k]), [int(j) for j in np.flatnonzero(np.abs(vectors[:, k]) > _LOADING)])
        for k in np.flatnonzero(index > least)
    ]


def _greatest(matrix: Floats, group: list[int]) -> float:
    block = matrix[np.ix_(group, group)].copy()
    np.fill_diagonal(block, -1.0)
    return float(block.max()) if len(group) > 1 else float("nan")


def _linked(close: npt.NDArray[np.bool_]) -> list[list[int]]:
    """Connected components of size 2 or more."""
    left, groups = set(range(len(close))), []
    while left:
        group, frontier = set(), [left.pop()]
        while frontier:
            j = frontier.pop()
            group.add(j)
            new = [int(i) for i in np.flatnonzero(close[j]) if int(i) in left]
            left.difference_update(new)
            frontier.extend(new)
        if len(group) > 1:
            groups.append(sorted(group))
    return groups
