"""What a proposal is held against: the best run as it was measured, reference mixtures; gains with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.errors import MixtureError, ObservationError
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations

PROPOSAL, NATURAL, UNIFORM, UNIMAX, BEST_RUN, PRIOR = "proposal", "natural", "uniform", "unimax", "best run", "prior"
_RESERVED = frozenset({PROPOSAL, NATURAL, UNIFORM, UNIMAX, BEST_RUN, PRIOR})
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
_FEWEST_COMPLETE = 5


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

    def __str__(self) -> str:
        """`over natural: 4.28% (90% interval 3.82 to 4.61%)`; as a plain difference where percentages are undefined."""
        ends = self.percent_interval
        if ends is None:
            low, high = self.interval.low, self.interval.high
            return f"over {self.over}: {self.corrected:.4g} (90% interval {low:.4g} to {high:.4g})"
        return f"over {self.over}: {self.percent:.2f}% (90% interval {ends.low:.2f} to {ends.high:.2f}%)"

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


@dataclass(frozen=True)
class Request:
    """What the mixture is for.

    Attributes:
        n_tokens: R, tokens of the target run; None if unknown: then no epochs are told, and no UniMax.
        max_epochs: k, for UniMax.
        named: further mixtures to compare with, such as the current or a published one.
    """

    n_tokens: float | None = None
    max_epochs: float = 4.0
    named: Mapping[str, Mixture] = field(default_factory=dict)

    def references(self, domains: DomainSet, prior: Mixture) -> dict[str, Mixture]:
        """Natural (if token counts are known), prior (if it is another), uniform, UniMax (if R is known), the named.

        Raises:
            MixtureError: if a named mixture has a reserved name, or other domains.
        """
        for name, mixture in self.named.items():
            if name in _RESERVED:
                raise MixtureError("a reference mixture must not have a reserved name", received=name)
            if mixture.domains.names != domains.names:
                raise MixtureError(f"reference mixture '{name}' must be over {domains!r}", received=mixture.domains)
        found: dict[str, Mixture] = {}
        if counts_known(domains):
            found[NATURAL] = Mixture.natural(domains)
        if all(prior.total_variation(mixture) > 1e-9 for mixture in (*found.values(), Mixture.uniform(domains))):
            found[PRIOR] = prior
        found[UNIFORM] = Mixture.uniform(domains)
        if counts_known(domains) and self.n_tokens is not None:
            found[UNIMAX] = Mixture.unimax(domains, self.n_tokens, self.max_epochs)
        return {**found, **self.named}


def counts_known(domains: DomainSet) -> bool:
    """Whether every domain's size is known, and some is not empty."""
    return domains.sizes_known and any(d.size for d in domains)


def clusters(observations: Observations) -> list[Ints]:
    """Runs that are one piece of evidence each: replicates of a mixture together, every other run alone."""
    groups = [np.asarray(group, dtype=np.intp) for group in observations.replicates]
    together = {int(k) for group in groups for k in group}
    return [*groups, *(np.array([k], dtype=np.intp) for k in range(observations.n_runs) if k not in together)]


@dataclass(frozen=True, eq=False)
class RunObjective:
    """The objective, measured.

    Attributes:
        values: shape (runs,), the objective of each run's costs, in the objective's quantity, lower is better.
        complete: shape (runs,), whether every metric that counts was measured; elsewhere the law's prediction stands
            in for the missing cells.
        noise: standard deviation of a run's objective around the mean of its mixture, from replicates, else from
            standard errors (metrics taken as independent); NaN if there are neither.
    """

    values: Floats
    complete: Bools
    noise: float

    @property
    def usable(self) -> Bools:
        """Runs to judge by, shape (runs,): the complete ones; all of them if fewer than 5 are complete."""
        return self.complete if self.complete.sum() >= _FEWEST_COMPLETE else np.ones_like(self.complete)


def run_objective(observations: Observations, objective: Objective, predicted: Floats) -> RunObjective:
    """The objective of each run; `predicted` (runs, metrics) are costs that stand in for missing cells."""
    if objective.metrics != observations.metrics:
        raise ObservationError(
            f"objective and observations must name the same metrics in the same order, {observations.metrics}",
            received=objective.metrics,
        )
    costs = observations.costs
    counted = np.array(objective.weights) > 0
    missing = np.isnan(costs)
    values = np.asarray(objective.value(np.where(missing, predicted, costs)), dtype=np.float64)
    complete: Bools = ~np.any(missing[:, counted], axis=1)
    return RunObjective(values, complete, _noise(observations, objective, values, complete))


def _noise(observations: Observations, objective: Objective, values: Floats, complete: Bools) -> float:
    squares, freedom = 0.0, 0
    for group in observations.replicates:
        known = values[group][complete[group]]
        if len(known) > 1:
            squares += float(((known - known.mean()) ** 2).sum())
            freedom += len(known) - 1
    if freedom:
        return float(np.sqrt(squares / freedom))
    errors = observations.sigma
    if errors is None:
        return float("nan")
    weights = np.array(objective.weights)
    counted = weights > 0
    slopes = objective.transform_slope(np.asarray(observations.costs, dtype=np.float64))
    variances = ((weights * slopes * errors)[:, counted] ** 2).sum(axis=1)[complete]
    return float(np.sqrt(variances.mean())) if len(variances) else float("nan")


@dataclass(frozen=True)
class BestRun:
    """The mixture with the lowest measured objective.

    Attributes:
        run_ids: the run, and its replicates.
        objective_value: mean over them, in the objective's quantity. The best of many noisy runs looks better than it
            is: to beat it is a demanding test.
    """

    run_ids: tuple[str, ...]
    mixture: Mixture
    objective_value: float


def best_run(observations: Observations, measured: RunObjective) -> BestRun:
    """The best observed run; replicates count by their mean."""
    best, lowest = None, float("inf")
    for group in clusters(observations):
        known = group[measured.usable[group]]
        mean = float(measured.values[known].mean()) if len(known) else float("inf")
        if mean < lowest:
            best, lowest = known, mean
    if best is None:
        raise ObservationError("at least one run must have a finite objective")
    mixture = Mixture(observations.domains, observations.weights[best[0]])
    ids: Sequence[str] = observations.run_ids or ()
    return BestRun(tuple(ids[k] for k in best), mixture, lowest)


def percent_base(observations: Observations, objective: Objective, value: float) -> float:
    """Size of an objective value (of costs) in the metrics' own units, to take percentages of; NaN where undefined.

    A cost is sign * metric + shift. Where all metrics that count share one sign and the objective is linear, the
    objective of the metrics is sign * (value - objective(shift)); where signs differ there is no common unit.
    """
    counted = np.array(objective.weights) > 0
    orientation = observations.orientation
    sign, shift = np.asarray(orientation.sign)[counted], np.asarray(orientation.shift, dtype=np.float64)
    if not shift[counted].any():
        return abs(value) if (sign == 1).all() else float("nan")
    if objective.quantity == "perplexity" or np.unique(sign).size > 1:
        return float("nan")
    return abs(value - float(objective.value(shift)))
