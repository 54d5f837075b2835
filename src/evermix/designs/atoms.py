"""Atoms: parts of a domain set whose inner weights are frozen, so that each is one domain for bounds and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds, GroupBound
from evermix.errors import ConstraintError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_SLACK = 1e-9


@dataclass(frozen=True)
class Atoms:
    """p_j = weight of j's atom * inner_j.

    Attributes:
        label: shape (domains,), the atom of each domain.
        inner: shape (domains,), sums to 1 within an atom.
        bounds: over atoms; None for none.
    """

    label: Ints
    inner: Floats
    bounds: Bounds | None

    @classmethod
    def of(cls, label: Ints, inner: Floats, bounds: Bounds | None) -> Atoms:
        """Bounds over leaves carried to atoms: l_a = max_j lower_j / inner_j, u_a = min_j upper_j / inner_j.

        Raises:
            ConstraintError: if no atom weights meet them, or a group holds part of an atom.
        """
        n_atoms = int(label.max()) + 1
        if bounds is None or n_atoms == len(label):
            return cls(label, inner, bounds)
        used = inner > 0
        lower, upper = np.zeros(n_atoms), np.ones(n_atoms)
        np.maximum.at(lower, label[used], bounds.lower[used] / inner[used])
        np.minimum.at(upper, label[used], bounds.upper[used] / inner[used])
        if (
            (bounds.lower[~used] > 0).any()
            or (lower > upper + _SLACK).any()
            or lower.sum() > 1 + _SLACK
            or upper.sum() < 1 - _SLACK
        ):
            raise ConstraintError(
                "bounds must hold a mixture with the frozen inner weights", hint="free a level, or loosen the bounds"
            )
        groups = tuple(_carried(group, label, used, n_atoms) for group in bounds.groups)
        return cls(label, inner, Bounds(np.minimum(lower, upper), upper, ("",) * n_atoms, groups))

    @property
    def n_atoms(self) -> int:
        return int(self.label.max()) + 1

    def collapse(self, weights: Floats) -> Floats:
        """Atom weights, shape (runs, domains) -> (runs, atoms)."""
        totals = np.zeros((self.n_atoms, len(weights)))
        np.add.at(totals, self.label, weights.T)
        return totals.T.copy()

    def expand(self, weights: Floats) -> Floats:
        """Leaf weights, shape (runs, atoms) -> (runs, domains)."""
        leaves: Floats = weights[:, self.label] * self.inner
        return leaves


def _carried(group: GroupBound, label: Ints, used: npt.NDArray[np.bool_], n_atoms: int) -> GroupBound:
    inside, outside = np.zeros(n_atoms, dtype=bool), np.zeros(n_atoms, dtype=bool)
    inside[label[used & group.members]] = True
    outside[label[used & ~group.members]] = True
    if (inside & outside).any():
        raise ConstraintError(
            f"group '{group.name}' must not hold a part of domains whose inner weights are frozen",
            hint="free that level, or leave out the group",
        )
    return GroupBound(group.name, inside, group.lower, group.upper)
