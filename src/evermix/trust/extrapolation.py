"""How far a mixture lies from the observed runs: nearest run, convex hull, greatest shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linprog
from scipy.spatial.distance import cdist

from evermix.errors import ConvergenceError

Floats = npt.NDArray[np.float64]


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
