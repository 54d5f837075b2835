"""Bounds: a box of shares and totals of groups, as arrays, that hold at least one mixture.

With the linear programmes about them: which of them contradict each other, by how much, and what R or k would do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.constraints.projection import Projection
from evermix.domains import Unit
from evermix.errors import ConstraintError, ConvergenceError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class GroupBound:
    """lower <= sum of p_j over the members <= upper.

    Attributes:
        members: shape (domains,), bool.
        lower, upper: shares in [0, 1].
    """

    name: str
    members: Bools
    lower: float
    upper: float


@dataclass(frozen=True)
class Bounds:
    """lower_j <= p_j <= upper_j and totals of groups, which hold at least one mixture.

    Attributes:
        lower, upper: shape (domains,), shares in [0, 1].
        reasons: shape (domains,), why `upper` is what it is ("epochs", "cap", "fixed", "prior", "").
        groups: totals; groups may overlap.
        one_epoch: shape (domains,), N_j / R, the share that is one pass over the domain; None without a repetition cap.
        max_epochs: k of the repetition cap.
    """

    lower: Floats
    upper: Floats
    reasons: tuple[str, ...]
    groups: tuple[GroupBound, ...] = ()
    one_epoch: Floats | None = None
    max_epochs: float | None = None

    def __post_init__(self) -> None:
        for group in self.groups:
            if group.members.shape != self.lower.shape:
                raise ConstraintError(
                    f"group '{group.name}' must say of each of {len(self.lower)} domains whether it is a member",
                    received=group.members.shape,
                )
            if not group.members.any():
                raise ConstraintError(f"group '{group.name}' must have members", received=0)

    def clip(self, weights: Floats) -> Floats:
        """KL projection of positive `weights`, shape (domains,), onto the box, the simplex and the groups.

        min KL(q || weights): q = clip(weights * exp(nu + sum of mu_g over j's groups), lower, upper), with the one nu
        that makes the sum 1 and mu_g = 0 unless the group's total is at a bound. Exact where groups are disjoint or
        nested; to 1e-12 in the totals where they overlap.
        """
        return self.project(np.log(np.maximum(weights, 1e-300)))

    def project(self, logs: Floats) -> Floats:
        """`clip` of exp(logs), for weights beyond the range of floats."""
        return self._projection(logs)

    def move_inside(self, weights: Floats) -> Floats:
        """Rows of mixtures, shape (rows, domains), moved into the bounds, all at once; for search, not for proofs.

        Each row is scaled and clipped into the box as `clip` does, then pulled towards the centre until the totals of
        groups hold.
        """
        logs = np.log(np.maximum(weights, 1e-300))
        log_upper, usable = np.log(np.maximum(self.upper, 1e-300)), self.upper > 0
        low = (np.log(np.maximum(self.lower, 1e-300)) - logs).min(axis=1)
        high = (log_upper - logs).max(axis=1)
        for _ in range(60):
            middle = (low + high) / 2
            rows = np.maximum(np.exp(np.minimum(logs + middle[:, None], log_upper)), self.lower) * usable
            less = rows.sum(axis=1) < 1
            low, high = np.where(less, middle, low), np.where(less, high, middle)
        rows /= rows.sum(axis=1, keepdims=True)
        if not self.groups:
            return rows
        totals, centre = rows @ self.group_rows.T, self.group_rows @ self.centre
        with np.errstate(divide="ignore", invalid="ignore"):
            above = np.where(totals > self.group_upper, (self.group_upper - centre) / (totals - centre), 1.0)
            below = np.where(totals < self.group_lower, (centre - self.group_lower) / (centre - totals), 1.0)
        share = np.minimum(above, below).min(axis=1)[:, None]
        result: Floats = self.centre + share * (rows - self.centre)
        return result

    @cached_property
    def group_rows(self) -> Floats:
        """Membership as numbers, shape (groups, domains)."""
        rows = np.array([group.members for group in self.groups], dtype=np.float64)
        return rows.reshape(len(self.groups), len(self.lower))

    @cached_property
    def group_lower(self) -> Floats:
        """Shape (groups,)."""
        return np.array([group.lower for group in self.groups], dtype=np.float64)

    @cached_property
    def group_upper(self) -> Floats:
        """Shape (groups,)."""
        return np.array([group.upper for group in self.groups], dtype=np.float64)

    def hold(self, weights: Floats, tolerance: float = 1e-9) -> Bools:
        """Which mixtures obey all of it, shape (..., domains) -> (...), within `tolerance` of each bound."""
        inside = np.all((weights >= self.lower - tolerance) & (weights <= self.upper + tolerance), axis=-1)
        totals = weights @ self.group_rows.T
        grouped = (totals >= self.group_lower - tolerance) & (totals <= self.group_upper + tolerance)
        result: Bools = inside & np.all(grouped, axis=-1) & (np.abs(weights.sum(axis=-1) - 1) <= 1e-6)
        return result

    @cached_property
    def centre(self) -> Floats:
        """A mixture far from every bound that leaves room, shape (domains,).

        Without groups lower + s (upper - lower) with the one s that sums to 1, upper counted as at most twice the
        uniform share above lower; with groups the maximiser of the least slack (a linear programme).
        """
        if self.groups:
            return deepest_mixture(self)
        room = np.minimum(self.upper - self.lower, 2 / len(self.lower))
        needed = 1 - self.lower.sum()
        if room.sum() < 1.2 * needed:
            room = self.upper - self.lower
        return self.lower + room * (needed / room.sum() if room.sum() > 0 else 0.0)

    def feasible_start(self, weights: Floats, share: float = 0.1) -> Floats:
        """`weights` moved into the bounds and by `share` towards the centre: interior wherever an interior exists."""
        return (1 - share) * self.clip(weights) + share * self.centre

    @cached_property
    def _projection(self) -> Projection:
        return Projection(self.lower, self.upper, self.group_rows > 0, self.group_lower, self.group_upper)


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


def what_would_do(bounds: Bounds, n_drawn: float, unit: Unit) -> str:
    """The least max_epochs, or the greatest number of tokens or rows, with which all else can hold; "" if none would.

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
        ways.append(f"ask for at most {np.floor(n_drawn / stretch * (1 + 1e-12)):,.0f} {unit}")
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
