"""Linear programmes about bounds: which of them contradict each other, by how much, and what R or k would do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from evermix.constraints.bounds import Bounds

Floats = npt.NDArray[np.float64]


def total_violation(bounds: Bounds) -> tuple[float, Floats, Floats, Floats, Floats]:
    """The least total relaxation that makes the bounds hold a mixture, and how it is spread.

    min sum(a) + sum(b) + sum(c) + sum(d)  over the simplex with
    p >= lower - a, p <= upper + b, L - c <= totals of groups <= U + d, all >= 0. Zero: they hold a mixture.

    Returns:
        the sum, a and b, shape (domains,), c and d, shape (groups,).
    """
    m, n_groups = len(bounds.lower), len(bounds.groups)
    rows = _sparse(bounds.group_rows)
    eye, own = _eye(m), _eye(n_groups)
    blocks = [
        [-eye, -eye, None, None, None],
        [eye, None, -eye, None, None],
    ]
    limits = [-bounds.lower, bounds.upper]
    if n_groups:
        blocks += [[-rows, None, None, -own, None], [rows, None, None, None, -own]]
        limits += [-bounds.group_lower, bounds.group_upper]
    else:
        blocks = [row[:3] for row in blocks]
    widths = [m, m, m, n_groups, n_groups]
    cost = np.concatenate([np.zeros(m), np.ones(sum(widths[1:]))])
    sum_to_one = np.concatenate([np.ones(m), np.zeros(sum(widths[1:]))])[None, :]
    result = _minimise(cost, _stacked(blocks), np.concatenate(limits), sum_to_one)
    parts = np.split(result.x, np.cumsum(widths)[:-1])
    return float(result.fun), parts[1], parts[2], parts[3], parts[4]


def what_would_do(bounds: Bounds, n_tokens: float) -> str:
    """The least max_epochs, or the greatest number of tokens, with which all else can hold; "" if none would.

    p_j <= (k N_j - spent_j) / R is linear in k and, through 1 / R, in 1 / R: two linear programmes.
    """
    k, share = bounds.max_epochs, bounds.one_epoch
    if k is None or share is None:
        return ""
    capped = np.array([reason in ("epochs", "cap", "") for reason in bounds.reasons])
    other = np.array([1.0 if r in ("epochs", "") else u for r, u in zip(bounds.reasons, bounds.upper, strict=True)])
    left = np.array([u if r == "epochs" else 0.0 for r, u in zip(bounds.reasons, bounds.upper, strict=True)])
    spent = np.where(np.array(bounds.reasons) == "epochs", k * share - left, 0.0)
    ways = []
    least = _least_factor(bounds, other, share * capped, -spent, capped)
    if least is not None and least > k:
        ways.append(f"set max_epochs to {np.ceil(least * 100 - 1e-6) / 100:.2f} or more")
    stretch = _least_factor(bounds, other, np.maximum(k * share - spent, 0.0) * capped, np.zeros_like(other), capped)
    if stretch is not None and stretch > 1:
        ways.append(f"ask for at most {np.floor(n_tokens / stretch * (1 + 1e-12)):,.0f} tokens")
    return " or ".join(ways)


def _least_factor(
    bounds: Bounds, other: Floats, slope: Floats, offset: Floats, capped: npt.NDArray[np.bool_]
) -> float | None:
    """min f: p_j <= slope_j f + offset_j (capped j), lower <= p <= other, groups; None if no f will do."""
    m = len(other)
    blocks = [[_eye(m)[capped], _column(-slope[capped])]]
    limits = [offset[capped]]
    if bounds.groups:
        rows, none = _sparse(bounds.group_rows), _column(np.zeros(len(bounds.groups)))
        blocks += [[rows, none], [-rows, none]]
        limits += [bounds.group_upper, -bounds.group_lower]
    cost = np.append(np.zeros(m), 1.0)
    box = np.column_stack([np.append(np.minimum(bounds.lower, other), 0.0), np.append(other, np.inf)])
    sum_to_one = np.append(np.ones(m), 0.0)[None, :]
    result = _linprog(cost, _stacked(blocks), np.concatenate(limits), sum_to_one, box)
    return float(result.x[-1]) if result.status == 0 else None


def deepest_mixture(bounds: Bounds) -> Floats:
    """max t: every bound with room holds with slack t * its room (at most 1 / domains), shape (domains,).

    A bound without room (lower = upper) is met exactly.
    """
    m = len(bounds.lower)
    room = np.minimum(bounds.upper - bounds.lower, 1 / m)
    eye = _eye(m)
    blocks = [[-eye, _column(room)], [eye, _column(room)]]
    limits = [-bounds.lower, bounds.upper]
    if bounds.groups:
        rows = _sparse(bounds.group_rows)
        group_room = _column(np.minimum(bounds.group_upper - bounds.group_lower, 0.5))
        blocks += [[-rows, group_room], [rows, group_room]]
        limits += [-bounds.group_lower, bounds.group_upper]
    sum_to_one = np.append(np.ones(m), 0.0)[None, :]
    result = _minimise(np.append(np.zeros(m), -1.0), _stacked(blocks), np.concatenate(limits), sum_to_one)
    p = np.clip(result.x[:m], bounds.lower, bounds.upper)
    centre: Floats = p / p.sum()
    return centre


def _minimise(cost: Floats, rows: Any, limits: Floats, sum_to_one: Floats) -> Any:
    box = np.column_stack([np.zeros(len(cost)), np.full(len(cost), np.inf)])
    result = _linprog(cost, rows, limits, sum_to_one, box)
    if result.status != 0:  # always feasible and bounded, so a failure of the solver itself
        from evermix.errors import ConvergenceError

        raise ConvergenceError("the linear programme about the bounds must be solved", received=str(result.message))
    return result


def _linprog(cost: Floats, rows: Any, limits: Floats, sum_to_one: Floats, box: Floats) -> Any:
    from scipy import optimize  # takes a moment: only those who need it wait for it

    solver: Any = optimize.linprog
    return solver(cost, rows, limits, sum_to_one, [1.0], bounds=box, method="highs")


def _eye(size: int) -> Any:
    from scipy.sparse import eye_array

    return eye_array(size, format="csr")


def _sparse(rows: Floats) -> Any:
    from scipy.sparse import csr_array

    return csr_array(rows)


def _column(values: Floats) -> Any:
    return _sparse(np.asarray(values)[:, None])


def _stacked(blocks: Sequence[Sequence[Any]]) -> Any:
    from scipy.sparse import block_array

    return block_array(blocks, format="csr")
