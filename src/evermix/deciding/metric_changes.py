"""What the objective, its groups and its metrics are predicted to do between two mixtures, in their own terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evermix.deciding.fitting import FittedLaw
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.results.proposal import MetricChange, ObjectiveScaleInfo
from evermix.solvers.proposal import Proposal
from evermix.trust.bootstrap import Bootstrap
from evermix.trust.references import PROPOSAL, percent_base

Floats = npt.NDArray[np.float64]


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

    def info(self, aggregate: str = "mean") -> ObjectiveScaleInfo:
        """The same as plain values."""
        has_percent = bool(np.isfinite(percent_base(self.observations, self.objective, 1.0)))
        return ObjectiveScaleInfo(
            quantity=self.objective.quantity,
            direction=self.direction,
            sign=self.sign,
            offset=self.offset,
            has_percent=has_percent,
            aggregate=aggregate,
        )


@dataclass(frozen=True, eq=False)
class CostChange:
    """Two mixtures under one law: costs at both, and intervals of value_after - value_before in each metric's unit.

    Attributes:
        before, after, low, high: shape (metrics,); NaN where no interval is known.
        objective_after: of the costs, corrected for the proposal's optimism; None: that of `after`.
    """

    before: Floats
    after: Floats
    low: Floats
    high: Floats
    objective_after: float | None = None

    @classmethod
    def of_proposal(cls, fitted: FittedLaw, proposal: Proposal, over: str, bootstrap: Bootstrap | None) -> CostChange:
        """From the reference called `over` to the proposal; without a bootstrap, from the prior."""
        after = np.array(proposal.predicted)
        if bootstrap is None:
            nothing = np.full(len(after), np.nan)
            return cls(fitted.law.predict(fitted.prior.mixture.weights), after, nothing, nothing)
        before = bootstrap.costs_full[list(bootstrap.mixtures).index(over)]
        sign = np.asarray(fitted.observations.orientation.sign)
        low, high = np.sort(sign[:, None] * bootstrap.cost_change_intervals(over), axis=1).T
        return cls(before, after, low, high, bootstrap.objective_estimate(PROPOSAL))

    def improvement(self, fitted: FittedLaw) -> Floats:
        """How much each metric improves, in its standard deviations over the runs, shape (metrics,)."""
        spread = np.nanstd(fitted.observations.costs, axis=0)
        result: Floats = (self.before - self.after) / np.where(spread > 0, spread, 1.0)
        return result


def metric_changes(fitted: FittedLaw, change: CostChange) -> tuple[MetricChange, ...]:
    """The objective, its groups at every depth, then every metric."""
    observations, objective = fitted.observations, fitted.objective
    found = [_whole(fitted, change, "objective", "objective", objective)]
    for name, part in group_objectives(objective, fitted.recipe.objective.groups).items():
        found.append(_whole(fitted, change, "group", name, part))
    before, after = observations.orientation.value(np.array([change.before, change.after]))
    improvement = change.improvement(fitted)
    for i, name in enumerate(observations.metrics):
        found.append(
            MetricChange(
                name=name,
                kind="metric",
                before=float(before[i]),
                after=float(after[i]),
                low=float(change.low[i]),
                high=float(change.high[i]),
                relative=float((after[i] - before[i]) / abs(before[i])) if before[i] else None,
                improvement=float(improvement[i]),
            )
        )
    return tuple(found)


def _whole(
    fitted: FittedLaw, change: CostChange, kind: Literal["objective", "group"], name: str, objective: Objective
) -> MetricChange:
    scale = ObjectiveScale.of(fitted.observations, objective)
    old, new = (float(objective.value(costs)) for costs in (change.before, change.after))
    if kind == "objective" and change.objective_after is not None:
        new = change.objective_after
    return MetricChange(
        name=name,
        kind=kind,
        before=scale.value(old),
        after=scale.value(new),
        relative=scale.percent(scale.sign * (new - old), old) / 100,
        improvement=old - new,
    )


def group_objectives(objective: Objective, groups: Mapping[str, Any] | None) -> dict[str, Objective]:
    """Group at any depth -> the part of the objective that is its metrics'."""
    weights = dict(zip(objective.metrics, objective.weights, strict=True))
    found = {}
    for name, members in families(groups).items():
        own = {metric: weights[metric] for metric in members if metric in weights}
        if own:
            counted = own if any(own.values()) else dict.fromkeys(own, 1.0)
            found[name] = Objective.from_dict(objective.metrics, counted, objective.quantity)
    return found


def families(groups: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Group -> all its metrics, for every group at every depth: 'maths', and under it 'maths/algebra'."""
    found: dict[str, tuple[str, ...]] = {}
    for name, members in (groups or {}).items():
        if isinstance(members, Mapping):
            inner = families(members)
            direct = [metrics for path, metrics in inner.items() if "/" not in path]
            found[name] = tuple(metric for metrics in direct for metric in metrics)
            found |= {f"{name}/{path}": metrics for path, metrics in inner.items()}
        else:
            found[name] = (members,) if isinstance(members, str) else tuple(members)
    return found
