"""Screening: which metrics can tell mixtures apart at all. It advises; whoever asks decides.

Per metric: signal to noise, sqrt(max(variance over runs - noise^2, 0)) / noise, with the noise of replicates, else of
standard errors, else the law's residual noise; agreement, the Spearman correlation of the predictions for all runs of
two laws, each fitted to one half of the runs (mean over repeated halvings); and held-out Spearman correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.stats import spearmanr

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.trust.calibration import Calibration, calibrate, run_noise
from evermix.trust.measured import Ints, clusters

Floats = npt.NDArray[np.float64]
Verdict = Literal["keep", "doubtful", "drop"]
NoiseSource = Literal["measured", "law"]
_FEWEST_CLUSTERS = 8


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
