"""The answer of a life in words and numbers: how good each arm ends, at what cost, and by how much they differ."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from scipy.special import stdtrit

from evermix.reports import units
from evermix.reports.summary import QUANTITIES, Result

Row = Mapping[str, Any]
APART = "scoring"  # the same for every arm, so it stands beside the total and not in it
_TWO_SIDED_95 = 1.96
_FIRST = ("retrain", "fixed-replay", "uniform", "natural", "naive")
_NAMED = 2


@dataclass(frozen=True)
class Mean:
    """A mean over orders, and its standard error; None where there is one order only."""

    value: float
    stderr: float | None = None

    @classmethod
    def of(cls, values: Sequence[float]) -> Mean:
        """Of one value per order."""
        error = float(np.std(values, ddof=1) / math.sqrt(len(values))) if len(values) > 1 else None
        return cls(float(np.mean(values)), error)


@dataclass(frozen=True)
class Quality:
    """What a stage is judged by: a key of its row."""

    key: str
    label: str
    lower_is_better: bool = True

    def best(self, values: Sequence[float]) -> float:
        """The best of some values."""
        return min(values) if self.lower_is_better else max(values)

    def text(self, value: float) -> str:
        """As people read it."""
        if self.key == "mean_accuracy":
            return units.share(value)
        return units.perplexity(value) if "perplexity" in self.label else units.number(value, 4)


@dataclass(frozen=True)
class Difference:
    """An arm against another at the end of their lives.

    Attributes:
        relative: (ours - theirs) / theirs on the objective, mean over orders; negative is better.
        noise: half-width of its 95% interval, over orders where there are several, else over held-out sequences.
        compute: (ours - theirs) / theirs of the FLOPs; negative is less.
    """

    arm: str
    baseline: str
    ours: float
    theirs: float
    relative: float
    noise: float
    compute: float

    @property
    def verdict(self) -> Literal["better", "even", "worse"]:
        """`even` where the difference is within the noise."""
        if abs(self.relative) <= self.noise:
            return "even"
        return "better" if self.relative < 0 else "worse"

    @property
    def words(self) -> str:
        """'1.2% (±0.3%) lower than retrain at 62.0% less compute', or that no difference can be told."""
        size, direction = units.share(abs(self.relative)), "lower" if self.relative < 0 else "higher"
        if self.verdict == "even":
            what = f"no measurable difference to {self.baseline} ({size} {direction}, ±{units.share(self.noise)})"
        else:
            what = f"{size} (±{units.share(self.noise)}) {direction} than {self.baseline}"
        return f"{what} {self.compute_words}"

    @property
    def compute_words(self) -> str:
        """'at 62.0% less compute'."""
        if abs(self.compute) < 5e-4:
            return "at the same compute"
        return f"at {units.share(abs(self.compute))} {'less' if self.compute < 0 else 'more'} compute"


@dataclass(frozen=True)
class Lives:
    """The result of a recipe with phases, as the report asks for it. Stages count from 0; -1 is the last one."""

    result: Result

    @property
    def lives(self) -> Mapping[str, Sequence[Sequence[Row]]]:
        """Arm -> order -> stage -> row."""
        found: Mapping[str, Sequence[Sequence[Row]]] = self.result.get("lives") or {}
        return found

    @property
    def before(self) -> Mapping[str, Any]:
        """What the checkpoint that all arms begin with scores on the tasks; empty where that is not known."""
        return self.result.get("before") or {}

    @property
    def arms(self) -> list[str]:
        """In the order of the recipe."""
        return list(self.lives)

    @property
    def orders(self) -> list[list[str]]:
        """The stages' names in every order."""
        return [list(order) for order in self.result.get("orders") or []]

    @property
    def n_stages(self) -> int:
        """Of every order alike."""
        return len(self.orders[0]) if self.orders else 0

    @cached_property
    def objective(self) -> Quality:
        """What mixtures were decided for."""
        asked = self.result.get("objective") or {}
        weights = set((asked.get("weights") or {}).values())
        how = "weighted" if len(weights) > 1 else "mean"
        return Quality("objective_value", f"{how} {QUANTITIES[asked.get('quantity') or 'perplexity']}")

    @cached_property
    def qualities(self) -> list[Quality]:
        """The objective first, then the means that say something else, as far as every row has them."""
        others = [
            Quality("mean_perplexity", "mean perplexity"),
            Quality("mean_bits_per_byte", "mean bits per byte"),
            Quality("mean_forgetting_nats", "mean forgetting (nats)"),
            Quality("mean_accuracy", "mean accuracy", lower_is_better=False),
        ]
        last = [rows[-1] for orders in self.lives.values() for rows in orders]
        there = [one for one in others if last and all(units.known(row.get(one.key)) for row in last)]
        return [self.objective, *(one for one in there if one.label != self.objective.label)]

    def values(self, arm: str, key: str, stage: int = -1) -> list[float]:
        """One value per order; only those that are known."""
        found = [rows[stage].get(key) for rows in self.lives[arm]]
        return [float(value) for value in found if units.known(value)]

    def mean(self, arm: str, key: str, stage: int = -1) -> Mean:
        """Over orders."""
        return Mean.of(self.values(arm, key, stage))

    def cost(self, arm: str, unit: str = "flops", stage: int = -1) -> float:
        """FLOPs, n_tokens or seconds from the first stage to the end of this one, mean over orders."""
        return float(np.mean([rows[stage]["cumulative_cost"][unit] for rows in self.lives[arm]]))

    def parts(self, arm: str, unit: str = "flops", stage: int = -1) -> dict[str, float]:
        """The same by part; the scoring of tasks stands among them, though it is in no total."""
        each = [{**rows[stage]["cumulative_cost"]["by_part"], **_scoring(rows, stage)} for rows in self.lives[arm]]
        names = dict.fromkeys(name for parts in each for name in parts)
        return {name: float(np.mean([parts.get(name, {}).get(unit, 0.0) for parts in each])) for name in names}

    @cached_property
    def ours(self) -> str:
        """The arm that is compared with the others: evermix, or the one that ends best."""
        if "evermix" in self.lives:
            return "evermix"
        return min(self.arms, key=lambda arm: self.mean(arm, "objective_value").value)

    @cached_property
    def differences(self) -> list[Difference]:
        """Our arm against every other one, the most telling first."""
        others = [arm for arm in self.arms if arm != self.ours]
        others.sort(key=lambda arm: _FIRST.index(arm) if arm in _FIRST else len(_FIRST))
        return [self.difference(self.ours, arm) for arm in others]

    def difference(self, arm: str, baseline: str) -> Difference:
        """One arm against another, order by order."""
        ours, theirs = (np.array(self.values(name, "objective_value")) for name in (arm, baseline))
        relative = (ours - theirs) / theirs
        compute = self.cost(arm) / self.cost(baseline) - 1
        noise = self._noise(arm, baseline, relative)
        return Difference(
            arm, baseline, float(ours.mean()), float(theirs.mean()), float(relative.mean()), noise, compute
        )

    def _noise(self, arm: str, baseline: str, relative: np.ndarray) -> float:
        """95%: t quantile times the standard error over orders; of one order, 1.96 times that of held-out sequences."""
        n = len(relative)
        if n > 1:
            return float(stdtrit(n - 1, 0.975) * relative.std(ddof=1) / math.sqrt(n))
        rows = [self.lives[name][0][-1] for name in (arm, baseline)]
        errors = [heldout_stderr(row, self.result) for row in rows]
        return _TWO_SIDED_95 * math.hypot(*errors) / abs(float(rows[1]["objective_value"]))

    def saved(self, arm: str, baseline: str = "retrain") -> float | None:
        """The part of the baseline's FLOPs that an arm does without; None where there is no such arm."""
        if baseline not in self.lives or arm == baseline:
            return None
        return 1 - self.cost(arm) / self.cost(baseline)


def _scoring(rows: Sequence[Row], stage: int) -> dict[str, dict[str, float]]:
    """What scoring the tasks has cost up to the end of a stage, as a part; none where there are no tasks."""
    spent = [row["scoring_cost"] for row in (rows if stage == -1 else rows[: stage + 1]) if row.get("scoring_cost")]
    if not any(cost["flops"] for cost in spent):
        return {}
    return {APART: {unit: sum(cost[unit] for cost in spent) for unit in ("flops", "n_tokens", "seconds")}}


def heldout_stderr(row: Row, result: Result) -> float:
    """Standard error of a row's objective over held-out sequences, by the delta method, domains being independent.

    With loss L and its standard error s, of perplexity exp(L) s, of bits per byte (B / L) s, of the loss s.
    """
    from evermix.recipe.phases import base_name

    asked = result.get("objective") or {}
    given = asked.get("weights")
    weights = {name: 1.0 if given is None else given.get(base_name(name), 0.0) for name in row["per_domain"]}
    total, variance = sum(weights.values()) or 1.0, 0.0
    for name, scores in row["per_domain"].items():
        loss = scores["loss_nats"]
        slopes = {"loss_nats": 1.0, "bits_per_byte": scores.get("bits_per_byte", 0.0) / loss if loss else 0.0}
        slope = slopes.get(asked.get("quantity") or "perplexity", math.exp(min(loss, 700.0)))
        variance += (weights[name] / total * slope * (scores.get("loss_stderr_nats") or 0.0)) ** 2
    return math.sqrt(variance)


def pareto_front(points: Sequence[tuple[float, float]], lower_is_better: bool = True) -> list[int]:
    """Positions of the points (cost, quality) that no other one beats in one and matches in the other, by cost."""
    sign = 1.0 if lower_is_better else -1.0
    order = sorted(range(len(points)), key=lambda i: (points[i][0], sign * points[i][1]))
    front: list[int] = []
    for i in order:
        if not front or sign * points[i][1] < sign * points[front[-1]][1]:
            front.append(i)
    return front


def is_life(result: Result) -> bool:
    """Whether a result is that of a recipe with phases."""
    return "lives" in result


def as_life(result: Result) -> Result:
    """A result of one pretraining as a life of one stage, so that its arms can be compared likewise.

    Cross-checks by other modes, which serve the report only, are left out of the compute.
    """
    if is_life(result):
        return result
    arms: Mapping[str, Any] = result.get("arms") or {}
    return {**result, "orders": [["pretraining"]], "lives": {arm: [[_one_stage(row)]] for arm, row in arms.items()}}


def _one_stage(arm: Row) -> dict[str, Any]:
    seconds = arm.get("seconds_by_part") or {}
    flops = {part: value for part, value in (arm.get("flops_by_part") or {}).items() if part != "cross_checks"}
    parts = {part: {"flops": value, "seconds": seconds.get(part, 0.0)} for part, value in flops.items()}
    total = {"flops": sum(flops.values()), "seconds": sum(seconds.values()), "n_tokens": arm.get("n_tokens") or 0.0}
    return {**arm, "cumulative_cost": {**total, "by_part": parts}}


def headline(result: Result) -> str:
    """The answer in one line."""
    lives = Lives(result)
    if not lives.arms:
        trained, decided = len(result.get("segments") or []), len(result.get("stage_decisions") or [])
        return f"Not finished: {trained} trainings and {decided} decisions of stages so far."
    value = lives.objective.text(lives.mean(lives.ours, "objective_value").value)
    stages = f"{lives.n_stages} stages" + (f", mean of {len(lives.orders)} orders" if len(lives.orders) > 1 else "")
    text = f"After {stages}, {lives.ours} has a {lives.objective.label} of {value}"
    told = [each.words for each in lives.differences[:_NAMED]]
    if len(lives.differences) > _NAMED:
        told.append(f"{len(lives.differences) - _NAMED} more arms are compared below")
    return f"{text}: {'; '.join(told)}." if told else f"{text}; there is no other arm to compare it with."


def comparison(result: Result) -> dict[str, Any]:
    """The comparison as plain values, for JSON."""
    lives = Lives(result)
    points = [(lives.cost(arm), lives.mean(arm, "objective_value").value) for arm in lives.arms]
    front = [lives.arms[i] for i in pareto_front(points)]
    return {
        "objective": lives.objective.label,
        "pareto_front": front,
        "flops_saved_against_retrain": {arm: lives.saved(arm) for arm in lives.arms},
        "differences": [{**vars(each), "verdict": each.verdict} for each in lives.differences],
    }
