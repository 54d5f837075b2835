"""Calibration: how a law predicts runs that it has not seen, per metric and for the objective.

Held-out predictions come from cross-validation (replicates of a mixture in one fold). Of each metric: Spearman rank
correlation; root mean square error; slope of observed on predicted (ordinary least squares: 1 is honest, under 1
overstates differences between mixtures); R^2 = 1 - SSE / SST; and the share of runs inside the nominal 50, 80 and 90%
intervals  predicted +- z sqrt(std^2 + noise^2),  std of the law (0 if the family has none), noise its noise_.
The objective's standard deviation is that of the weighted sum of metrics, with the correlations of their residuals.

A prediction further than one observed range outside the observed values is moved there and counted as an explosion:
a law that leaves what it has seen can be wrong by any factor, and one such run would hide all others.

Noise ceiling: no predictor of a noisy measurement correlates with it better than
sqrt(1 - noise^2 / variance over runs), noise from replicates or standard errors (Spearman 1904).

Screening says which metrics can tell mixtures apart at all; whoever asks decides. Per metric: signal to noise,
sqrt(max(variance over runs - noise^2, 0)) / noise, with the noise of replicates, else of standard errors, else the
law's residual noise; agreement, the Spearman correlation of the predictions for all runs of two laws, each fitted to
one half of the runs (mean over repeated halvings); and held-out Spearman correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import norm, spearmanr

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.laws.cross_validation import fold_labels
from evermix.laws.cross_validation import held_out as held_out_predictions
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.trust.references import Ints, clusters, run_objective

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
LEVELS = (0.5, 0.8, 0.9)
Verdict = Literal["keep", "doubtful", "drop"]
NoiseSource = Literal["measured", "law"]
_FEWEST_CLUSTERS = 8
_FEWEST_KNOWN = 3


@dataclass(frozen=True)
class HeldOut:
    """How well one quantity is predicted held out; NaN where too few runs, or none that vary, are known.

    Attributes:
        name: the metric, or "objective".
        n_runs: runs with a measured value.
        spearman: rank correlation of predicted and observed, in [-1, 1].
        rmse: root mean square error, in the unit of the cost.
        slope: of observed on predicted.
        r2: 1 - SSE / SST.
        coverage: share of runs inside the nominal intervals of `LEVELS`.
        ceiling: greatest correlation that the noise of the runs allows; NaN if the noise is unknown.
        n_exploded: predictions further than one observed range outside the observed values.
    """

    name: str
    n_runs: int
    spearman: float
    rmse: float
    slope: float
    r2: float
    coverage: tuple[float, float, float]
    ceiling: float
    n_exploded: int = 0

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; NaN becomes None."""
        numbers = {name: _plain(getattr(self, name)) for name in ("spearman", "rmse", "slope", "r2", "ceiling")}
        coverage = {f"{level:.0%}": _plain(share) for level, share in zip(LEVELS, self.coverage, strict=True)}
        return {
            "name": self.name,
            "n_runs": self.n_runs,
            **numbers,
            "coverage": coverage,
            "n_exploded": self.n_exploded,
        }


@dataclass(frozen=True, eq=False)
class Misfit:
    """Standard deviation of held-out errors that noise and estimation do not explain (`misfit_of`).

    Attributes:
        objective: in its quantity. metrics: shape (metrics,), of their costs.
    """

    objective: float
    metrics: Floats


@dataclass(frozen=True, eq=False)
class Calibration:
    """Held-out quality of a law.

    Attributes:
        law: its name.
        n_folds: of the cross-validation.
        metrics: one per metric, in order.
        objective: of the weighted objective; its rmse is the law's out-of-sample error.
        noise: run-to-run standard deviation of the objective, NaN if unknown.
        misfit: how far the law's form is from the truth.
        predicted: held-out costs, explosions moved, shape (runs, metrics); NaN for a run that alone holds a domain:
            it is never held out.
        predicted_objective, observed_objective: shape (runs,), in the objective's quantity, of all runs; NaN likewise.
    """

    law: str
    n_folds: int
    metrics: tuple[HeldOut, ...]
    objective: HeldOut
    noise: float
    misfit: Misfit
    predicted: Floats
    predicted_objective: Floats
    observed_objective: Floats

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "law": self.law,
            "n_folds": self.n_folds,
            "objective": self.objective.as_dict,
            "noise": _plain(self.noise),
            "misfit": self.misfit.objective,
            "metrics": [metric.as_dict for metric in self.metrics],
        }


def calibrate(
    law: MixingLaw, observations: Observations, objective: Objective, n_folds: int = 5, seed: int = 0
) -> Calibration:
    """Cross-validate `law` (fitted on all runs: its noise_ is what the intervals claim).

    A law that chose among families is judged with its choice fixed (`with_fixed_choices`): the choice itself has seen
    all runs, which flatters it a little.

    Raises:
        ObservationError: if objective and observations name other metrics, or runs are too few for the folds.
    """
    observed = np.asarray(observations.costs, dtype=np.float64)
    weights = observations.weights
    labels = pinned_folds(weights, fold_labels(weights, n_folds, seed))
    predicted, own = held_out_predictions(law.with_fixed_choices(), observations.runs, labels)
    predicted[labels < 0] = np.nan
    std = np.sqrt((0.0 if own is None else own) ** 2 + law.noise_**2) * np.ones_like(predicted)
    noise = run_noise(observations)
    limited = _within_reach(predicted, observed)
    exploded = (limited != predicted) & ~np.isnan(predicted)
    metrics = tuple(
        held_out(name, limited[:, i], observed[:, i], std[:, i], float(noise[i]), exploded[:, i])
        for i, name in enumerate(observations.metrics)
    )
    measured = run_objective(observations, objective, law.predict(weights))
    whole_predicted = np.asarray(objective.value(limited), dtype=np.float64)
    spread = _objective_std(objective, limited, std, observed - law.predict(weights))
    usable = np.where(measured.usable, measured.values, np.nan)
    counted = np.array(objective.weights) > 0
    whole = held_out("objective", whole_predicted, usable, spread, measured.noise, exploded[:, counted].any(axis=1))
    n_made = len(np.unique(labels[labels >= 0]))
    residuals = observed - law.predict(weights)
    owned = np.zeros_like(predicted) if own is None else own
    scatter = np.where(np.isfinite(noise), noise, law.noise_)
    of_run = _objective_std(objective, limited, np.broadcast_to(scatter, predicted.shape), residuals)
    whole_noise = measured.noise if np.isfinite(measured.noise) else float(np.sqrt(np.nanmean(of_run**2)))
    whole_own = _objective_std(objective, limited, owned, residuals)
    misfit = Misfit(
        misfit_of(usable - whole_predicted, whole_own, whole_noise),
        np.array([misfit_of(e, s, n) for e, s, n in zip((observed - limited).T, owned.T, scatter, strict=True)]),
    )
    return Calibration(
        law.name, n_made, metrics, whole, measured.noise, misfit, limited, whole_predicted, measured.values
    )


def misfit_of(errors: Floats, own: Floats, noise: float) -> float:
    """Standard deviation of held-out errors (runs,), NaN unknown, that noise and estimation do not explain:

        m^2 = max(mean_k (e_k^2 - s_k^2) - noise^2, 0)

    s_k (runs,) is the law's standard deviation of its own prediction, 0 where the family has none: then estimation
    counts as misfit, too. Runs of which the law itself says that it knows nothing (s_k beyond the greatest error) are
    left out. Where the noise was not measured (replicates, standard errors) it is the law's, which hides some misfit.
    0 where fewer than 3 runs are known.
    """
    known = np.isfinite(errors) & np.isfinite(own)
    if known.sum() < _FEWEST_KNOWN:
        return 0.0
    e, s = errors[known], own[known]
    sure = s <= np.abs(e).max()
    return float(np.sqrt(max(float((e[sure] ** 2 - s[sure] ** 2).mean()) - noise**2, 0.0))) if sure.any() else 0.0


def run_noise(observations: Observations) -> Floats:
    """Run-to-run standard deviation per metric, shape (metrics,): replicates, else standard errors, else NaN."""
    noise = np.array(observations.noise_from_replicates, dtype=np.float64)
    errors = observations.sigma
    if errors is None:
        return noise
    known = ~np.isnan(errors)
    mean_square = np.where(known, errors**2, 0.0).sum(axis=0) / np.maximum(known.sum(axis=0), 1)
    return np.where(np.isnan(noise) & known.any(axis=0), np.sqrt(mean_square), noise)


def _within_reach(predicted: Floats, observed: Floats) -> Floats:
    """Predictions moved to at most one observed range outside the observed values, both (runs, metrics)."""
    least, most = np.nanmin(observed, axis=0), np.nanmax(observed, axis=0)
    return np.clip(predicted, least - (most - least), most + (most - least))


def held_out(
    name: str, predicted: Floats, observed: Floats, std: Floats, noise: float, exploded: Bools | None = None
) -> HeldOut:
    """Compare predictions (runs,) with observations (runs,), NaN where missing; `noise` for the ceiling."""
    known = np.isfinite(observed) & np.isfinite(predicted)
    x, y = predicted[known], observed[known]
    n = int(known.sum())
    if n < 3 or np.ptp(y) == 0:
        nan = float("nan")
        return HeldOut(name, n, nan, nan, nan, nan, (nan, nan, nan), nan)
    error = y - x
    total = float(((y - y.mean()) ** 2).sum())
    varies = bool(np.ptp(x) > 0)
    rank = float(spearmanr(x, y).statistic) if varies else 0.0
    slope = float((x - x.mean()) @ (y - y.mean()) / ((x - x.mean()) ** 2).sum()) if varies else float("nan")
    inside = [float((np.abs(error) <= norm.ppf((1 + level) / 2) * std[known]).mean()) for level in LEVELS]
    reliability = 1 - noise**2 * (n - 1) / total
    return HeldOut(
        name=name,
        n_runs=n,
        spearman=rank,
        rmse=float(np.sqrt((error**2).mean())),
        slope=slope,
        r2=1 - float((error**2).sum()) / total,
        coverage=(inside[0], inside[1], inside[2]),
        ceiling=float(np.sqrt(max(reliability, 0.0))) if np.isfinite(noise) else float("nan"),
        n_exploded=0 if exploded is None else int(exploded[known].sum()),
    )


def pinned_folds(weights: Floats, labels: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Folds (runs,) with -1, never held out, for one run of each domain that a single fold holds alone.

    Without that run the fold's fit would know nothing of the domain, and some laws refuse that.
    """
    pinned = labels.copy()
    for j in np.flatnonzero(weights.max(axis=0) > 0):
        holders = np.flatnonzero(weights[:, j] > 0)
        if len(np.unique(pinned[holders])) == 1 and pinned[holders[0]] >= 0:
            first = weights[holders[np.argmax(weights[holders, j])]]
            pinned[np.abs(weights - first).max(axis=1) <= 1e-9] = -1  # with its replicates
    return pinned


def _objective_std(objective: Objective, predicted: Floats, std: Floats, residuals: Floats) -> Floats:
    """Standard deviation of the weighted sum, shape (runs,): || R (w T' std) || with R the normalised residuals.

    R'R is the correlation matrix of the metrics' residuals (runs, metrics), so that metrics which err together count
    together.
    """
    weights = np.array(objective.weights)
    counted = weights > 0
    filled = np.where(np.isnan(residuals), 0.0, residuals)[:, counted]
    size = np.sqrt((filled**2).sum(axis=0))
    normalised = filled / np.where(size > 0, size, 1.0)
    factors = (weights * objective.transform_slope(predicted) * std)[:, counted]
    result: Floats = np.sqrt(((factors @ normalised.T) ** 2).sum(axis=1))
    return result


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


@dataclass(frozen=True)
class ScreeningOptions:
    """Thresholds: at or above `keep` all three, keep; below `drop` in agreement and held-out rank correlation, or in
    signal to measured noise, drop; else doubtful.

    Attributes:
        n_halvings: random halvings of the runs.
        seed: of the halvings.
    """

    snr_keep: float = 1.0
    snr_drop: float = 0.5
    agreement_keep: float = 0.6
    agreement_drop: float = 0.3
    spearman_keep: float = 0.5
    spearman_drop: float = 0.25
    n_halvings: int = 4
    seed: int = 0


@dataclass(frozen=True)
class Screened:
    """One metric; NaN where a number cannot be had (halves too small, constant metric).

    Attributes:
        signal_to_noise: spread over mixtures per standard deviation of a run; infinite if the noise is zero.
        noise_source: "measured" (replicates or standard errors) or "law".
        agreement: between halves of the runs.
        heldout_spearman: by cross-validation.
        reason: one sentence.
    """

    metric: str
    signal_to_noise: float
    noise_source: NoiseSource
    agreement: float
    heldout_spearman: float
    verdict: Verdict
    reason: str

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not finite becomes None."""
        record = dict(vars(self))
        return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in record.items()}


def screen(
    law: MixingLaw,
    observations: Observations,
    options: ScreeningOptions | None = None,
    calibration: Calibration | None = None,
) -> tuple[Screened, ...]:
    """Judge every metric; nothing is dropped.

    Args:
        law: fitted to all runs.
        calibration: of that law on these runs; None cross-validates here.

    Raises:
        ObservationError: on fewer than 8 distinct mixtures, which cannot be halved.
    """
    options = options or ScreeningOptions()
    if calibration is None:
        calibration = calibrate(law, observations, Objective.from_dict(observations.metrics), seed=options.seed)
    agreement = half_agreement(law, observations, options.n_halvings, options.seed)
    costs = np.asarray(observations.costs, dtype=np.float64)
    noise = run_noise(observations)
    spread = np.nanstd(costs, axis=0, ddof=1)
    rows = []
    for i, metric in enumerate(observations.metrics):
        source: NoiseSource = "measured" if np.isfinite(noise[i]) else "law"
        sd = float(noise[i] if source == "measured" else law.noise_[i])
        signal = float(np.sqrt(max(float(spread[i]) ** 2 - sd**2, 0.0)))
        snr = signal / sd if sd > 0 else float("inf" if signal > 0 else "nan")
        rank = calibration.metrics[i].spearman
        verdict, reason = _verdict(snr, source, float(agreement[i]), rank, options)
        rows.append(Screened(metric, snr, source, float(agreement[i]), rank, verdict, reason))
    return tuple(rows)


def half_agreement(law: MixingLaw, observations: Observations, n_halvings: int, seed: int) -> Floats:
    """Mean over random halvings of the Spearman correlation of the halves' predictions, shape (metrics,).

    NaN if a half is too small for the law.
    """
    groups = clusters(observations)
    if len(groups) < _FEWEST_CLUSTERS:
        raise ObservationError(f"screening needs at least {_FEWEST_CLUSTERS} distinct mixtures", received=len(groups))
    rng = np.random.default_rng(seed)
    totals = []
    for _ in range(n_halvings):
        order = rng.permutation(len(groups))
        middle = len(groups) // 2
        try:
            first = _predictions_of(law, observations, [groups[k] for k in order[:middle]])
            second = _predictions_of(law, observations, [groups[k] for k in order[middle:]])
        except (ObservationError, ConvergenceError):  # half the runs are too few for this law
            return np.full(len(observations.metrics), np.nan)
        totals.append([_rank(first[:, i], second[:, i]) for i in range(first.shape[1])])
    result: Floats = np.mean(np.array(totals, dtype=np.float64), axis=0)
    return result


def _predictions_of(law: MixingLaw, observations: Observations, groups: Sequence[Ints]) -> Floats:
    """Costs at all runs, by a law fitted cold to the runs in `groups`."""
    rows = np.sort(np.concatenate(list(groups)))
    return law.with_fixed_choices().fit(observations.runs.take(rows)).predict(observations.weights)


def _rank(x: Floats, y: Floats) -> float:
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    return float(spearmanr(x, y).statistic)


def _verdict(
    snr: float, source: NoiseSource, agreement: float, rank: float, options: ScreeningOptions
) -> tuple[Verdict, str]:
    if not np.isfinite(rank):
        return "drop", "it does not vary over the runs, or too few of them measured it"
    if source == "measured" and snr < options.snr_drop:
        return "drop", f"its spread over mixtures is {snr:.2f} of its run-to-run noise (least {options.snr_drop:g})"
    if agreement < options.agreement_drop and rank < options.spearman_drop:
        return "drop", (
            f"two halves of the runs rank mixtures alike at {agreement:.2f} only (least {options.agreement_drop:g}), "
            f"and held-out runs are ranked at {rank:.2f} (least {options.spearman_drop:g})"
        )
    weak = [
        f"{what} {number:.2f} is under {least:g}"
        for what, number, least in (
            ("signal to noise", snr, options.snr_keep),
            ("agreement between halves", agreement, options.agreement_keep),
            ("held-out rank correlation", rank, options.spearman_keep),
        )
        if number < least
    ]
    if weak:
        return "doubtful", "; ".join(weak)
    return "keep", "it varies more than its noise, and the law foretells how"
