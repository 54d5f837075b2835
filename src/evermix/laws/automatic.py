"""law="auto": cross-validation chooses the family, first for the swarm, then for single metrics where it is plain.

Every candidate predicts every run from fits that have not seen it (cross_validation.py). The loss of a run is
|error| / u_i, u_i the metric's mean absolute deviation: 1 is what predicting the mean would lose.

1. The swarm: losses are averaged over metrics. Of the candidates, in order of preference, the first is taken whose mean
   loss is within `caution` standard errors (of the difference paired by run) of the lowest: with few runs the default
   stays unless another is plainly better.
2. A metric leaves the swarm's choice only where another wins there by `SIGNIFICANT` standard errors: with many metrics
   and candidates some win by chance.

Two stacks (ensemble.py) are candidates too, of the convex laws and of all; each fold's stacking weights are computed
from the other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.laws.cross_validation import Ints, fold_labels, held_out
from evermix.laws.ensemble import EnsembleLaw, stacking_weights
from evermix.laws.gaussian_process import GaussianProcessLaw, ResidualLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nonparametric import BoostedTreesLaw
from evermix.laws.power_link import PooledPowerLinkLaw, PowerLinkLaw
from evermix.observations.runs import Runs

SIGNIFICANT = 3.0
CONVEX_STACK, STACK = "stack of convex laws", "stack of all laws"
_TREES_FROM = 128  # runs
_RESIDUAL_FROM = 2.0  # runs per domain
_LARGEST_LOSS = 5.0  # one wild prediction must not decide alone


@dataclass(frozen=True)
class FittedPart:
    """Metrics that one fitted law serves: `metrics` are their positions, `columns` where that law has them."""

    name: str
    metrics: Ints
    law: MixingLaw
    columns: Ints


class AutoLaw(MixingLaw):
    """The family that cross-validation prefers, per metric.

    Args:
        candidates: unfitted laws by name, in order of preference; None for `default_candidates`.
        n_folds, seed: of the cross-validation.
        caution: standard errors by which the lowest loss must beat a preferred candidate.
        convex: offer only convex laws, so that the convex solver is exact.

    Attributes after fit:
        choice_: (metrics,), names. swarm_choice_: the name for all metrics together.
        scores_: by name, (metrics,), held-out loss; 1 is what predicting the mean would lose.
        left_out_: by name, why a candidate could not be fitted.
        parts_: the fitted laws.
    """

    name = "auto"
    formula = "the family that cross-validation prefers"
    source = "ours; docs/laws.md"

    choice_: npt.NDArray[np.str_]
    swarm_choice_: str
    scores_: dict[str, Floats]
    left_out_: dict[str, str]
    parts_: list[FittedPart]

    def __init__(
        self,
        candidates: Mapping[str, MixingLaw] | None = None,
        n_folds: int = 5,
        seed: int = 0,
        caution: float = 1.0,
        convex: bool = False,
    ) -> None:
        self.candidates = candidates
        self.n_folds = n_folds
        self.seed = seed
        self.caution = caution
        self.convex = convex

    @property
    def pools_metrics(self) -> bool:
        """Always."""
        return True

    @property
    def is_convex(self) -> bool:
        """After fit: whether every chosen law is."""
        return hasattr(self, "parts_") and all(part.law.is_convex for part in self.parts_)

    @property
    def has_gradient(self) -> bool:
        """After fit: whether every chosen law has one."""
        return hasattr(self, "parts_") and all(part.law.has_gradient for part in self.parts_)

    @property
    def has_std(self) -> bool:
        """After fit: whether every chosen law has one."""
        return hasattr(self, "parts_") and all(part.law.has_std for part in self.parts_)

    def fit(self, runs: Runs) -> Self:
        """Choose and fit; see MixingLaw.fit. Candidates that the runs are too few for are listed in `left_out_`."""
        table = weighted(runs)
        data = runs if runs.counts is None else runs.take(runs.counts > 0)
        offered = default_candidates(*table.mixtures.shape) if self.candidates is None else dict(self.candidates)
        if self.convex:
            offered = {name: law for name, law in offered.items() if law.is_convex}
        predicted = self._held_out(offered, data)
        usable = {name: offered[name] for name in predicted}
        stacks = _stacks(usable)
        for name, members in stacks.items():
            predicted[name] = _stacked([predicted[member] for member in members], table, self._labels(data))
        losses = {name: _losses(told, table) for name, told in predicted.items()}
        weight = table.weights**2
        self.scores_ = {name: (weight * loss).sum(axis=0) / weight.sum(axis=0) for name, loss in losses.items()}
        self.swarm_choice_ = _preferred(losses, weight, self.caution)
        self.choice_ = _per_metric(losses, weight, self.swarm_choice_)
        laws: dict[str, MixingLaw] = {}
        for name in sorted({str(name) for name in self.choice_}):
            if name in stacks:
                ensemble = EnsembleLaw([usable[member] for member in stacks[name]], self.n_folds, self.seed)
                laws[name] = ensemble.fit_weighted(data, [predicted[member] for member in stacks[name]])
            else:
                laws[name] = self._fitted(name, usable[name], data)
        return self._adopt([_part(name, law, self.choice_, data) for name, law in laws.items()])

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit: the choice stays, the chosen laws are refitted."""
        self._check_fitted()
        law = self.clone()
        law._repeat(self, runs, lambda law, some: law.refit(some))
        return law

    def with_fixed_choices(self) -> MixingLaw:
        """The same family for each metric; see MixingLaw.with_fixed_choices."""
        self._check_fitted()
        return FixedAutoLaw(self)

    def _repeat(self, other: AutoLaw, data: Runs, again: Callable[[MixingLaw, Runs], MixingLaw]) -> None:
        """Take over another's choice, its laws fitted `again` to other runs."""
        self.choice_, self.swarm_choice_, self.scores_ = other.choice_, other.swarm_choice_, other.scores_
        self.left_out_ = other.left_out_
        parts = []
        for part in other.parts_:
            whole = len(part.columns) != part.law.n_metrics_ or part.law.pools_metrics
            some = data if whole else data.of_metrics(part.metrics)
            parts.append(FittedPart(part.name, part.metrics, again(part.law, some), part.columns))
        self._adopt(parts)

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Each metric by its law, shape (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        result = np.empty((*mixtures.shape[:-1], self.n_metrics_))
        for part in self.parts_:
            result[..., part.metrics] = part.law.predict(mixtures)[..., part.columns]
        return result

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Each metric by its law, both (..., metrics); ConstraintError if a chosen law has no standard deviation."""
        mixtures = self._mixtures(P)
        mean = np.empty((*mixtures.shape[:-1], self.n_metrics_))
        std = np.empty_like(mean)
        for part in self.parts_:
            value, deviation = part.law.predict_with_std(mixtures)
            mean[..., part.metrics], std[..., part.metrics] = value[..., part.columns], deviation[..., part.columns]
        return mean, std

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """Each metric by its law; ConstraintError if a chosen law has none."""
        mixture = self._mixtures(p)
        result = np.empty((self.n_metrics_, self.n_domains_))
        for part in self.parts_:
            result[part.metrics] = part.law.gradient(mixture)[part.columns]
        return result

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Each metric by its law; ConstraintError if a chosen law has none."""
        mixture = self._mixtures(p)
        d, s = np.empty((self.n_metrics_, self.n_domains_)), np.empty(self.n_metrics_)
        for part in self.parts_:
            diagonal, factor = part.law.curvature(mixture)
            d[part.metrics], s[part.metrics] = diagonal[part.columns], factor[part.columns]
        return d, s

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """That of the chosen laws, each for its metrics; see MixingLaw.weighted_curvature."""
        mixture = self._mixtures(p)
        parts = []
        for part in self.parts_:
            share = np.zeros(part.law.n_metrics_)
            share[part.columns] = weights[part.metrics]
            if share.any():
                parts.append(part.law.weighted_curvature(mixture, share))
        return sum((d for d, _ in parts), np.zeros(self.n_domains_)), np.vstack([rows for _, rows in parts])

    def expressions(self, variable: Any) -> list[Any]:
        """Each metric by its law; ConstraintError if a chosen law is not convex."""
        self._mixtures(np.zeros(variable.shape))
        result: list[Any] = [None] * self.n_metrics_
        for part in self.parts_:
            told = part.law.expressions(variable)
            for metric, column in zip(part.metrics, part.columns, strict=True):
                result[metric] = told[column]
        return result

    def describe(self) -> str:
        """What was chosen and why, a line for the swarm, one per candidate, one per metric that leaves the choice."""
        self._check_fitted()
        lines = [f"law: {self.swarm_choice_} (held-out error per candidate; 1 = predicting the mean)"]
        for name, score in sorted(self.scores_.items(), key=lambda item: float(item[1].mean())):
            lines.append(f"  {name}: {score.mean():.3f}" + (" <- chosen" if name == self.swarm_choice_ else ""))
        lines += [f"  {name}: left out, {reason}" for name, reason in self.left_out_.items()]
        for i in np.flatnonzero(self.choice_ != self.swarm_choice_):
            name = str(self.choice_[i])
            scores = f"{self.scores_[name][i]:.3f} against {self.scores_[self.swarm_choice_][i]:.3f}"
            lines.append(f"  metric {i}: {name} instead ({scores})")
        return "\n".join(lines)

    def _labels(self, data: Runs) -> Ints:
        return fold_labels(data.mixtures, min(self.n_folds, len(data.mixtures)), self.seed)

    def _held_out(self, offered: dict[str, MixingLaw], data: Runs) -> dict[str, Floats]:
        """Held-out predictions of each candidate that can be fitted; sets `left_out_`."""
        predicted: dict[str, Floats] = {}
        self.left_out_ = {}
        labels = self._labels(data)
        for name, law in offered.items():
            try:
                predicted[name] = held_out(law, data, labels)[0]
            except (ObservationError, ConvergenceError) as error:
                self.left_out_[name] = str(error)
        if not predicted:
            raise ObservationError("auto needs a candidate that the runs suffice for", received=self.left_out_)
        return predicted

    def _fitted(self, name: str, law: MixingLaw, data: Runs) -> MixingLaw:
        """The candidate fitted to all runs: to the metrics that chose it, or to all if it pools them."""
        some = data if law.pools_metrics else data.of_metrics(np.flatnonzero(self.choice_ == name))
        return law.clone().fit(some)

    def _adopt(self, parts: list[FittedPart]) -> Self:
        self.parts_ = parts
        self.n_domains_ = parts[0].law.n_domains_
        self.n_metrics_ = sum(len(part.metrics) for part in parts)
        self.objective_, self.noise_ = np.empty(self.n_metrics_), np.empty(self.n_metrics_)
        self.converged_ = np.zeros(self.n_metrics_, dtype=np.bool_)
        for part in parts:
            self.objective_[part.metrics] = part.law.objective_[part.columns]
            self.noise_[part.metrics] = part.law.noise_[part.columns]
            self.converged_[part.metrics] = part.law.converged_[part.columns]
        return self


class FixedAutoLaw(AutoLaw):
    """Auto with the choice of another, fitted to all runs.

    Args:
        chosen: the fitted law.
    """

    def __init__(self, chosen: AutoLaw) -> None:
        self.chosen = chosen

    def fit(self, runs: Runs) -> Self:
        """Fit the chosen laws anew."""
        self._repeat(self.chosen, runs, lambda law, some: law.with_fixed_choices().clone().fit(some))
        return self


def default_candidates(n_runs: int, n_domains: int) -> dict[str, MixingLaw]:
    """Candidates in order of preference: convex ones with few free parameters first."""
    laws: dict[str, MixingLaw] = {
        "power-link pooled": PooledPowerLinkLaw(),
        "power-link pooled g=0.5": PooledPowerLinkLaw(g=0.5),
        "power-link pooled g=1": PooledPowerLinkLaw(g=1.0),
        "power-link, weak prior": PowerLinkLaw(prior_a=0.5, prior_weight_a=0.1),
        "log-linear": LogLinearLaw(),
        "gaussian-process g=1": GaussianProcessLaw(g=1.0),
        "gaussian-process g=0.5": GaussianProcessLaw(g=0.5),
    }
    if n_runs >= _RESIDUAL_FROM * n_domains:
        laws["residual"] = ResidualLaw(PooledPowerLinkLaw())
    if n_runs >= _TREES_FROM:
        laws["boosted-trees"] = BoostedTreesLaw()
    return laws


def _stacks(usable: dict[str, MixingLaw]) -> dict[str, list[str]]:
    """The stacks that are candidates, and their members: of the convex laws, and of all."""
    convex = [name for name, law in usable.items() if law.is_convex]
    stacks = {CONVEX_STACK: convex, STACK: list(usable)}
    if len(convex) == len(usable):
        del stacks[STACK]
    return {name: members for name, members in stacks.items() if len(members) > 1}


def _part(name: str, law: MixingLaw, choice: npt.NDArray[np.str_], data: Runs) -> FittedPart:
    metrics = np.flatnonzero(choice == name)
    columns = metrics if law.n_metrics_ == data.values.shape[1] else np.arange(len(metrics))
    return FittedPart(name, metrics, law, columns)


def _losses(predicted: Floats, runs: WeightedRuns) -> Floats:
    """|error| / u_i, (runs, metrics), at most _LARGEST_LOSS."""
    weight = runs.weights**2
    total = weight.sum(axis=0)
    mean = (weight * runs.values).sum(axis=0) / total
    unit = np.maximum((weight * np.abs(runs.values - mean)).sum(axis=0) / total, 1e-9 * mean)
    result: Floats = np.minimum(np.abs(predicted - runs.values) / unit, _LARGEST_LOSS)
    return result


def _stacked(tables: list[Floats], runs: WeightedRuns, labels: Ints) -> Floats:
    """Predictions of the stack for each fold, its weights from the other folds, (runs, metrics)."""
    every = np.stack(tables, axis=2)
    errors = (every - runs.values[:, :, None]) * runs.weights[:, :, None]
    result = np.empty(runs.values.shape)
    for label in range(int(labels.max()) + 1):
        inside = labels == label
        known = np.maximum((runs.weights[~inside] ** 2).sum(axis=0), 1.0)
        weights = stacking_weights(errors[~inside], known, 1.0)
        result[inside] = np.einsum("kie,ie->ki", every[inside], weights)
    return result


def _mean_and_error(values: Floats, weight: Floats) -> tuple[Floats, Floats]:
    """Weighted mean over runs (axis 0) and its standard error."""
    total = np.maximum(weight.sum(axis=0), 1e-300)
    mean = (weight * values).sum(axis=0) / total
    n = total**2 / np.maximum((weight**2).sum(axis=0), 1e-300)
    variance = (weight**2 * (values - mean) ** 2).sum(axis=0) / total**2
    return mean, np.sqrt(variance * n / np.maximum(n - 1, 1.0))


def _preferred(losses: dict[str, Floats], weight: Floats, caution: float) -> str:
    """The first candidate that the best one does not beat by `caution` standard errors, over all metrics together."""
    per_run = {
        name: (weight * loss).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300) for name, loss in losses.items()
    }
    importance = weight.mean(axis=1)
    means = {name: _mean_and_error(values, importance)[0] for name, values in per_run.items()}
    best = min(means, key=lambda name: float(means[name]))
    for name, values in per_run.items():
        behind, error = _mean_and_error(values - per_run[best], importance)
        if behind <= caution * error:
            return name
    return best


def _per_metric(losses: dict[str, Floats], weight: Floats, common: str) -> npt.NDArray[np.str_]:
    """The common choice, or the candidate that beats it in a metric by SIGNIFICANT standard errors and most."""
    names = list(losses)
    gains = [_mean_and_error(losses[common] - losses[name], weight) for name in names]
    sure = np.stack([np.where(gain > SIGNIFICANT * error + 1e-12, gain, 0.0) for gain, error in gains])
    winner = np.where(sure.max(axis=0) > 0, sure.argmax(axis=0), names.index(common))
    return np.array(names)[winner]
