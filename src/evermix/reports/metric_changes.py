"""What metrics are predicted to do between two mixtures: the objective, its groups, and the most moved metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from rich.table import Table
from rich.text import Text

from evermix.deciding import FittedLaw, WhatIf
from evermix.deciding.metric_changes import ObjectiveScale
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.reports.figures import decimals_for, extremes, families, fixed, span
from evermix.reports.layout import plain_table, rest_row
from evermix.reports.units import NOTHING, change
from evermix.solvers.proposal import Proposal
from evermix.trust.bootstrap import Bootstrap

Floats = npt.NDArray[np.float64]
_SHOWN = 12


@dataclass(frozen=True, eq=False)
class MetricChanges:
    """Two mixtures under one law.

    Attributes:
        names: of the two mixtures.
        cost_before, cost_after: (metrics,), predicted costs.
        low, high: (metrics,), interval of value_after - value_before, in each metric's unit; NaN where unknown.
    """

    fitted: FittedLaw
    names: tuple[str, str]
    cost_before: Floats
    cost_after: Floats
    low: Floats
    high: Floats

    @classmethod
    def of_proposal(
        cls, fitted: FittedLaw, proposal: Proposal, over: str, bootstrap: Bootstrap | None
    ) -> MetricChanges:
        """From the reference called `over` to the proposal; without a bootstrap, `over` is the prior."""
        after = np.array(proposal.predicted)
        if bootstrap is None:
            before, nothing = fitted.law.predict(fitted.prior.mixture.weights), np.full(len(after), np.nan)
            return cls(fitted, (over, "proposal"), before, after, nothing, nothing)
        position = list(bootstrap.mixtures).index(over)
        before = bootstrap.costs_full[position]
        sign = np.asarray(fitted.observations.orientation.sign)
        low, high = np.sort(sign[:, None] * bootstrap.cost_change_intervals(over), axis=1).T
        return cls(fitted, (over, "proposal"), before, after, low, high)

    @classmethod
    def of_what_if(cls, fitted: FittedLaw, answer: WhatIf) -> MetricChanges:
        """From before to after."""
        before, after = fitted.law.predict(np.array([answer.before.weights, answer.after.weights]))
        return cls(fitted, ("before", "after"), before, after, answer.low, answer.high)

    @property
    def improvement(self) -> Floats:
        """How much each metric improves, in its standard deviations over the runs, shape (metrics,)."""
        spread = np.nanstd(self.fitted.observations.costs, axis=0)
        result: Floats = (self.cost_before - self.cost_after) / np.where(spread > 0, spread, 1.0)
        return result

    def table(self, title: str, everything: bool = False) -> Table:
        """One row per group and per metric; of many metrics the most improved and the least, in between how many."""
        table = plain_table(title)
        table.add_column("", overflow="fold", min_width=12)
        for column in (*self.names, "change", "relative", "90% interval"):
            table.add_column(column, justify="right", no_wrap=column != "90% interval")
        table.add_column("", no_wrap=True, min_width=7)
        observations, objective = self.fitted.observations, self.fitted.objective
        self._objective_row(table, "objective", ObjectiveScale.of(observations, objective))
        for name, part in group_objectives(objective, self.fitted.recipe.objective.groups, everything).items():
            self._objective_row(table, name, ObjectiveScale.of(observations, part))
        table.add_section()
        best, worst = extremes(self.improvement, len(self.cost_after) if everything else _SHOWN)
        for i in best:
            self._metric_row(table, i)
        if worst:
            rest_row(table, len(self.cost_after) - len(best) - len(worst), "metrics")
        for i in worst:
            self._metric_row(table, i)
        return table

    def _objective_row(self, table: Table, name: str, scale: ObjectiveScale) -> None:
        costs = [float(scale.objective.value(c)) for c in (self.cost_before, self.cost_after)]
        old, new = map(scale.value, costs)
        places = decimals_for([old, new])
        moved = f"{new - old:+.{places}f}" if abs(new - old) < 1e6 else f"{new - old:+.2e}"
        percent = scale.percent(scale.sign * (costs[1] - costs[0]), costs[0]) / 100
        cells = [fixed(old, places), fixed(new, places), moved, change(percent), ""]
        table.add_row(Text(name, style="bold"), *cells, _word(costs[0] - costs[1]))

    def _metric_row(self, table: Table, i: int) -> None:
        observations: Observations = self.fitted.observations
        old, new = observations.orientation.value(np.array([self.cost_before, self.cost_after]))[:, i].tolist()
        low, high = float(self.low[i]), float(self.high[i])
        places = decimals_for([old, new])
        interval = span(*(f"{end:+.{places}f}" if np.isfinite(end) else NOTHING for end in (low, high)))
        gained = float(self.cost_before[i] - self.cost_after[i])
        clear = low > 0 or high < 0
        table.add_row(
            Text(observations.metrics[i]),
            fixed(old, places),
            fixed(new, places),
            f"{new - old:+.{places}f}",
            change((new - old) / abs(old)) if old else NOTHING,
            interval,
            _word(gained) if clear else Text("unclear" if np.isfinite(low) else "", style="dim"),
        )


def group_objectives(
    objective: Objective, groups: Mapping[str, Any] | None, everything: bool = False
) -> dict[str, Objective]:
    """Group -> the part of the objective that is its metrics'; families only, or tasks too."""
    weights = dict(zip(objective.metrics, objective.weights, strict=True))
    found = {}
    for name, members in families(groups).items():
        known = [metric for metric in members if metric in weights]
        if not known or ("/" in name and not everything):
            continue
        own = {metric: weights[metric] for metric in known}
        alike = dict.fromkeys(known, 1.0)
        found[name] = Objective.from_dict(objective.metrics, own if any(own.values()) else alike, objective.quantity)
    return found


def _word(gained: float) -> Text:
    if gained == 0:
        return Text("")
    return Text("better", style="green") if gained > 0 else Text("worse", style="red")
