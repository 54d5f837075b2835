"""Interval and Gain: numbers with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Interval:
    """[low, high] at a nominal level, such as 0.9."""

    low: float
    high: float
    level: float = 0.9

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int | float) and self.low <= number <= self.high

    @property
    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return {"low": self.low, "high": self.high, "level": self.level}


@dataclass(frozen=True)
class Gain:
    """How much lower the objective is predicted at the proposal than at a reference; positive is better.

    Attributes:
        over: the reference.
        apparent: predicted by the law on all runs, in the objective's quantity; too high on average.
        optimism: how much too high, by the bootstrap; below zero where refits shrink the differences, which is not
            credited.
        interval: of the true gain, optimism taken off.
        probability: share of resamples by which the gain is positive.
        base: what percentages are taken of, the size of the objective at the reference; NaN where undefined.
    """

    over: str
    apparent: float
    optimism: float
    interval: Interval
    probability: float
    base: float

    @property
    def corrected(self) -> float:
        """apparent - max(optimism, 0): what to expect."""
        return self.apparent - max(self.optimism, 0.0)

    @property
    def percent(self) -> float:
        """`corrected` in percent of the reference; NaN where undefined."""
        return 100 * self.corrected / self.base if self.base > 0 else float("nan")

    @property
    def percent_interval(self) -> Interval | None:
        """`interval` in percent of the reference; None where undefined."""
        if not self.base > 0:
            return None
        scale = 100 / self.base
        return Interval(self.interval.low * scale, self.interval.high * scale, self.interval.level)

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        percent = self.percent_interval
        return {
            "over": self.over,
            "apparent": self.apparent,
            "optimism": self.optimism,
            "corrected": self.corrected,
            "interval": self.interval.as_dict,
            "probability": self.probability,
            "percent": self.percent if np.isfinite(self.percent) else None,
            "percent_interval": None if percent is None else percent.as_dict,
        }
