"""What the runs cover: how far a mixture lies from them, and domains that they confound.

Distance: nearest run, convex hull, greatest shares.

Confounded are domains whose shares moved together over the runs, so that their effects cannot be told apart.

Pairs: correlation of shares above a threshold. Groups: eigenvectors of the shares' correlation matrix with a large
condition index sqrt(l_max / l) (Belsley, Kuh & Welsch 1980; 30 and more is severe). Shares sum to 1, so one
eigenvalue is zero by construction (eigenvector ~ the shares' standard deviations): that direction is projected out.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from evermix.errors import ConvergenceError

Floats = npt.NDArray[np.float64]
_LOADING = 0.3


@dataclass(frozen=True, eq=False)
class Extrapolation:
    """Where a mixture lies relative to the runs.

    Attributes:
        nearest: total variation to the nearest run, in [0, 1].
        typical: median over runs of their distance to the nearest other run of another mixture.
        widest: its 95% point.
        outside_hull: total variation that the mixture must move to lie inside the runs' convex hull.
        above: shape (domains,), share beyond the greatest observed one, 0 where none.
    """

    nearest: float
    typical: float
    widest: float
    outside_hull: float
    above: Floats


def extrapolation(weights: Floats, runs: Floats) -> Extrapolation:
    """Of the mixture `weights` (domains,) relative to `runs` (runs, domains)."""
    distinct = np.unique(np.round(runs, 9), axis=0)
    apart = cdist(distinct, distinct, "cityblock") / 2
    np.fill_diagonal(apart, np.inf)
    neighbours = apart.min(axis=1) if len(distinct) > 1 else np.array([0.0])
    return Extrapolation(
        nearest=float(np.abs(distinct - weights).sum(axis=1).min() / 2),
        typical=float(np.median(neighbours)),
        widest=float(np.percentile(neighbours, 95)),
        outside_hull=hull_distance(weights, distinct),
        above=np.maximum(weights - runs.max(axis=0), 0.0),
    )


def hull_distance(weights: Floats, runs: Floats) -> float:
    """min over l >= 0, sum l = 1 of total variation(weights, sum_k l_k run_k), by a linear programme (HiGHS).

    Variables l (runs,), u (domains,): minimise sum u / 2 with -u <= weights - runs' l <= u.
    """
    K, m = runs.shape
    P, I = runs.T, np.eye(m)  # noqa: E741
    result = linprog(
        c=np.concatenate([np.zeros(K), np.full(m, 0.5)]),
        A_ub=np.block([[-P, -I], [P, -I]]),
        b_ub=np.concatenate([-weights, weights]),
        A_eq=np.concatenate([np.ones(K), np.zeros(m)])[None],
        b_eq=[1.0],
        bounds=(0, None),
        method="highs",
    )
    if result.status != 0:
        raise ConvergenceError("the distance to the runs' convex hull must be found", received=str(result.message))
    return max(float(result.fun or 0.0), 0.0)


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
