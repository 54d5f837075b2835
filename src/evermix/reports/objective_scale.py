"""The objective in the metrics' own terms, where they share a direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from evermix.objective import Objective
from evermix.observations import Observations
from evermix.trust.measured import percent_base


@dataclass(frozen=True)
class ObjectiveScale:
    """Laws see costs, cost = sign * metric + shift, lower is better; people know metrics.

    With one sign for all metrics that count, sum v_i cost_i = sign * sum v_i metric_i + sum v_i shift_i, so the
    objective of the metrics themselves is sign * (objective of the costs - objective of the shifts). Where signs
    differ there is no such number, and the cost is shown.

    Attributes:
        sign: +1 or -1.
        offset: the objective of the shifts.
        direction: "lower is better", "higher is better" or what a cost is.
    """

    observations: Observations
    objective: Objective
    sign: float
    offset: float
    direction: str

    @classmethod
    def of(cls, observations: Observations, objective: Objective) -> ObjectiveScale:
        """The scale of these runs."""
        counted = np.array(objective.weights) > 0
        signs = np.unique(np.asarray(observations.orientation.sign)[counted])
        if len(signs) > 1 or objective.quantity == "perplexity":
            text = "metrics turned so that lower is better" if len(signs) > 1 else "lower is better"
            return cls(observations, objective, 1.0, 0.0, text)
        sign = float(signs[0])
        offset = float(objective.value(np.asarray(observations.orientation.shift, dtype=np.float64)))
        return cls(observations, objective, sign, offset, "lower is better" if sign > 0 else "higher is better")

    def value(self, cost: float) -> float:
        """The objective of the metrics, from that of the costs."""
        return self.sign * (cost - self.offset)

    def ends(self, low: float, high: float) -> tuple[float, float]:
        """An interval of costs, as one of values."""
        first, second = sorted((self.value(low), self.value(high)))
        return first, second

    def percent(self, gain: float, cost: float) -> float:
        """A gain in percent of the size of the objective at `cost`; NaN where that means nothing."""
        base = percent_base(self.observations, self.objective, cost)
        return 100 * gain / base if base > 0 else float("nan")
