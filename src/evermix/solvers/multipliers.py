"""Multipliers at an optimum, from its stationarity conditions alone, whichever solver found it.

grad F_j + nu + sum_g mu_g A_gj + sum_i y_i d f_i / d p_j = r_j,  where r_j = 0 for shares strictly between their
bounds, >= 0 at a lower bound, <= 0 at an upper one. nu, mu of groups at a bound (<= 0 at the least total, >= 0 at the
greatest) and y >= 0 of guards that bind are the least squares solution of the free rows; r_j is then the price of the
bound of j.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds

Floats = npt.NDArray[np.float64]
_TOUCHING = 1e-6
_BINDING_GUARD = 1e-5


@dataclass(frozen=True)
class Multipliers:
    """Solution of the stationarity conditions.

    Attributes:
        total: nu, of the sum to one.
        groups: (groups,), mu; 0 where the total is inside its bounds.
        guards: (guards,), y >= 0; 0 where the guard does not bind.
        reduced: (domains,), r, d optimum / d bound of each share that is at one.
    """

    total: float
    groups: Floats
    guards: Floats
    reduced: Floats


def fitted_multipliers(x: Floats, gradient: Floats, bounds: Bounds, slopes: Floats, excess: Floats) -> Multipliers:
    """The multipliers at x.

    Args:
        x, gradient: shape (domains,); gradient of objective + lambda KL.
        slopes: shape (guards, domains), gradients of the guarded costs.
        excess: shape (guards,), cost minus ceiling; a guard binds where it is nearly 0 or above.
    """
    totals = bounds.group_rows @ x
    at_least = totals <= bounds.group_lower + _TOUCHING
    at_greatest = (totals >= bounds.group_upper - _TOUCHING) & (bounds.group_upper < 1)
    scale = np.maximum(np.abs(excess), np.abs(slopes @ x)) if len(excess) else np.zeros(0)
    binding = excess >= -_BINDING_GUARD * np.maximum(scale, 1e-12)
    free = _free(x, bounds)
    rows = [np.ones(len(x))]
    signs: list[float] = [0.0]
    places: list[tuple[str, int]] = [("total", 0)]
    for g in np.flatnonzero((at_least & (bounds.group_lower > 0)) | at_greatest):
        rows.append(bounds.group_rows[g])
        signs.append(0.0 if at_least[g] and at_greatest[g] else (-1.0 if at_least[g] else 1.0))
        places.append(("group", int(g)))
    for i in np.flatnonzero(binding):
        rows.append(slopes[i])
        signs.append(1.0)
        places.append(("guard", int(i)))
    matrix, sign = np.array(rows), np.array(signs)
    solution = _signed_least_squares(matrix[:, free], -gradient[free], np.sqrt(x[free]), sign)
    if not free.any():
        solution[0] = _at_a_vertex(x, gradient, bounds)
    groups, guards = np.zeros(len(bounds.groups)), np.zeros(len(excess))
    for (kind, k), value in zip(places, solution, strict=True):
        if kind == "group":
            groups[k] = value
        elif kind == "guard":
            guards[k] = value
    return Multipliers(float(solution[0]), groups, guards, gradient + solution @ matrix)


def _free(x: Floats, bounds: Bounds) -> npt.NDArray[np.bool_]:
    """Strictly between the bounds, by 1e-6, or by less where the room or the share is small."""
    margin = np.minimum(_TOUCHING, 1e-3 * (bounds.upper - bounds.lower))
    result: npt.NDArray[np.bool_] = (x > bounds.lower + margin) & (x < bounds.upper - margin)
    return result & (bounds.upper > bounds.lower)


def _signed_least_squares(matrix: Floats, right: Floats, weights: Floats, sign: Floats) -> Floats:
    """min |(z @ matrix - right) weights| with z_k >= 0 (sign 1), <= 0 (sign -1) or free (sign 0), shape (rows,)."""
    if matrix.shape[1] == 0:
        return np.zeros(len(matrix))
    weighted, target = (matrix * weights).T, right * weights
    norms = np.maximum(np.linalg.norm(weighted, axis=0), 1e-300)
    if (sign == 0).all():
        solution: Floats = np.linalg.lstsq(weighted / norms, target, rcond=None)[0] / norms
        return solution
    from scipy import optimize  # only where groups or guards bind

    free = sign == 0
    turned = weighted / norms * np.where(free, 1.0, sign)
    solved, _ = optimize.nnls(np.hstack([turned, -turned[:, free]]), target)
    result = solved[: len(sign)] * np.where(free, 1.0, sign)
    result[free] -= solved[len(sign) :]
    return np.asarray(result / norms, dtype=np.float64)


def _at_a_vertex(x: Floats, gradient: Floats, bounds: Bounds) -> float:
    """nu where no share is free: the one that prices the relaxation of a cap, else of a floor.

    A raised cap takes mass from the share at a cap that needs it least.
    """
    room = bounds.upper - bounds.lower > 1e-9
    capped = room & (x >= bounds.upper - _TOUCHING)
    floored = room & ~capped
    if capped.any():
        return float((-gradient[capped]).min())
    if floored.any():
        return float((-gradient[floored]).max())
    return float(-(gradient @ x))
