"""Rounding of a mixture to a grid of weights by largest remainders, within bounds and without losing a domain."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.errors import ConstraintError

Floats = npt.NDArray[np.float64]


def round_to_grid(weights: Floats, step: float, bounds: Bounds | None = None) -> Floats:
    """The mixture in whole steps nearest to `weights`, shape (domains,): zeros stay, positive weights keep a step.

    (More positive weights than steps cannot all be kept; then the largest remainders win.)

    Raises:
        ConstraintError: if no such mixture is within bounds.
    """
    n_steps = round(1 / step)
    wanted = weights * n_steps
    least, most = np.zeros(len(weights)), np.where(weights > 0, float(n_steps), 0.0)
    if bounds is not None:
        least = np.ceil(bounds.lower * n_steps - 1e-6)
        most = np.minimum(most, np.floor(bounds.upper * n_steps + 1e-6))
        if most.sum() < n_steps:
            most = np.floor(bounds.upper * n_steps + 1e-6)
    kept = np.maximum(least, np.minimum((weights > 0) * 1.0, most))
    if kept.sum() <= n_steps:
        least = kept
    if least.sum() > n_steps or most.sum() < n_steps or (least > most).any():
        raise _too_coarse(step)
    steps = _apportioned(wanted, least, most, n_steps)
    rounded: Floats = steps / n_steps
    if bounds is not None and not bounds.hold(rounded, 1e-6):
        raise _too_coarse(step)
    return rounded


def _apportioned(wanted: Floats, least: Floats, most: Floats, total: int) -> Floats:
    """Whole numbers between `least` and `most` that sum to `total`, by largest remainders wanted - steps."""
    steps = np.clip(np.floor(wanted), least, most)
    while (left := total - int(steps.sum())) != 0:
        sign = 1 if left > 0 else -1
        movable = np.flatnonzero(steps < most if sign > 0 else steps > least)
        order = movable[np.argsort(-sign * (wanted - steps)[movable], kind="stable")]
        steps[order[: abs(left)]] += sign
    return steps


def _too_coarse(step: float) -> ConstraintError:
    return ConstraintError(
        "the grid of a design must hold a mixture within the bounds", received=step, hint="use a finer grid, or none"
    )
