"""Bounds: a box of shares and totals of groups, as arrays, that hold at least one mixture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.constraints.projection import Projection
from evermix.errors import ConstraintError

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
        log_upper, live = np.log(np.maximum(self.upper, 1e-300)), self.upper > 0
        low = (np.log(np.maximum(self.lower, 1e-300)) - logs).min(axis=1)
        high = (log_upper - logs).max(axis=1)
        for _ in range(60):
            middle = (low + high) / 2
            rows = np.maximum(np.exp(np.minimum(logs + middle[:, None], log_upper)), self.lower) * live
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
            from evermix.constraints.contradictions import deepest_mixture

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
