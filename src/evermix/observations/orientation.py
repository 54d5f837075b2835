"""Orientation: metrics of any unit and direction turned into costs, which are positive and lower is better."""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Orientation:
    """cost = sign * value + shift, one pair per metric.

    Attributes:
        sign: shape (metrics,), +1 where lower is better, -1 where higher is better.
        shift: shape (metrics,), in the metric's unit.
    """

    sign: Floats
    shift: Floats

    @classmethod
    def of(cls, values: Floats, metrics: tuple[str, ...], maximised: Set[str]) -> Orientation:
        """The orientation in which every known cell of `values`, shape (runs, metrics), has a cost > 0.

        Minimised and positive: cost = value. Minimised with values <= 0: cost = value - min + range. Maximised:
        cost = max + range - value, a distance to a ceiling one range above the best run. So another unit scales the
        costs, and another offset of a shifted metric changes nothing.
        """
        sign = np.array([-1.0 if name in maximised else 1.0 for name in metrics])
        least = np.where(np.isnan(values), np.inf, values).min(axis=0)
        most = np.where(np.isnan(values), -np.inf, values).max(axis=0)
        known = most >= least
        least, most = np.where(known, least, 1.0), np.where(known, most, 1.0)
        spread = most - least
        size = np.maximum(np.abs(least), np.abs(most))
        spread = np.where(spread > 1e-9 * size, spread, np.where(size > 0, size, 1.0))
        shift = np.where(sign < 0, most + spread, np.where(least > 0, 0.0, spread - least))
        for array in (sign, shift):
            array.flags.writeable = False
        return cls(sign, shift)

    def cost(self, values: npt.ArrayLike) -> Floats:
        """Costs of metric values, both of shape (..., metrics)."""
        result: Floats = self.sign * np.asarray(values, dtype=np.float64) + self.shift
        return result

    def value(self, costs: npt.ArrayLike) -> Floats:
        """Metric values of costs, both of shape (..., metrics): the inverse of `cost`."""
        result: Floats = self.sign * (np.asarray(costs, dtype=np.float64) - self.shift)
        return result
