"""What one refit of the bootstrap sees: runs drawn with replacement (cases), or residuals with random signs (wild).

Cases (Efron 1979): draw as many clusters as there are, with replacement; a cluster is one mixture with its replicates.
Those that hold a domain which one or two runs hold are in every draw once: such a domain keeps its prior share.
It supposes nothing of the law, so its misfit counts too. Each draw leaves out 37% of the clusters: where the law
cannot spare them, the wild bootstrap (Wu 1986) keeps every mixture and gives it the values
f(p_k) + v_k e_k, v_k = +1 or -1 per cluster (the same for all metrics, so that their errors stay correlated), e the
residuals of the law, scaled per metric to the standard deviation that the law's noise_ claims.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from evermix.laws.base import MixingLaw
from evermix.observations import Observations, Runs
from evermix.observations.runs import scarcely_held
from evermix.trust.references import Ints, clusters

Floats = npt.NDArray[np.float64]
Kind = Literal["runs", "residuals"]
_ABSENT_DOMAINS = 1.0  # expected number of sampled domains that a draw of runs loses
_MOST_KEPT = 0.1  # of the mixtures, in every draw because they alone hold some domain
_LEAST_COST = 1e-6  # of the measured cost: a resampled one stays positive, whatever a law predicts


@dataclass(frozen=True)
class Resampling:
    """Which bootstrap, and why, as a sentence."""

    kind: Kind
    reason: str


def choose(observations: Observations, law: MixingLaw) -> Resampling:
    """Runs, unless a draw would often leave the law fewer distinct mixtures than it has parameters.

    A draw of C clusters holds C (1 - (1 - 1/C)^C) distinct ones, with a standard deviation of about 0.31 sqrt(C);
    two of them are set aside.
    """
    groups = clusters(observations)
    C = len(groups)
    needed = law.parameter_count
    expected = C * (1 - (1 - 1 / C) ** C)
    least = expected - 2 * 0.31 * np.sqrt(C)
    if least < needed:
        return Resampling(
            "residuals",
            f"drawing {C} mixtures with replacement leaves about {expected:.0f} distinct ones, too few for the "
            f"{needed} parameters per metric: residuals are resampled instead, which takes the law's form as right",
        )
    first, scarce = np.array([group[0] for group in groups]), scarcely_held(observations.weights)
    n_kept = len(_kept_and_drawn(observations, groups)[0])
    if n_kept > _MOST_KEPT * C:
        return Resampling(
            "residuals",
            f"{n_kept} of {C} mixtures are all that hold some domain and could not be drawn anew: residuals are "
            "resampled instead, which takes the law's form as right",
        )
    seen = (observations.weights[first][:, ~scarce] > 0).sum(axis=0)
    absent = float(((1 - seen[seen > 0] / C) ** C).sum())
    if absent > _ABSENT_DOMAINS:
        return Resampling(
            "residuals",
            f"drawing runs would lose {absent:.1f} domains per draw, because few runs hold them: residuals are "
            "resampled instead, which takes the law's form as right",
        )
    return Resampling("runs", f"{C} mixtures drawn with replacement, replicates together")


def stretch(observations: Observations, law: MixingLaw) -> float:
    """sqrt(C / (C - q)), C distinct mixtures, q parameters per metric; at most 2."""
    C = len(clusters(observations))
    freedom = max(C - law.parameter_count, C / 4)
    return float(np.sqrt(C / freedom))


def resamples(
    kind: Kind, observations: Observations, law: MixingLaw, n_resamples: int, rng: np.random.Generator
) -> Iterator[Runs]:
    """`n_resamples` draws, each what one refit sees: runs with their counts, or all once with other costs."""
    groups, runs = clusters(observations), observations.runs
    costs = runs.values
    if kind == "runs":
        kept, drawn = _kept_and_drawn(observations, groups)
        for _ in range(n_resamples):
            counts = _drawn_counts(drawn, len(costs), rng)
            for group in kept:
                counts[group] = 1
            yield replace(runs, counts=counts)
        return
    fitted = law.predict(runs.mixtures)
    residuals = scaled_residuals(costs - fitted, law.noise_)
    member = np.empty(len(costs), dtype=np.intp)
    for c, group in enumerate(groups):
        member[group] = c
    for _ in range(n_resamples):
        signs = rng.choice(np.array([-1.0, 1.0]), len(groups))[member]
        yield replace(runs, values=np.maximum(fitted + signs[:, None] * residuals, _LEAST_COST * costs))


def _kept_and_drawn(observations: Observations, groups: list[Ints]) -> tuple[list[Ints], list[Ints]]:
    """Mixtures that hold a domain which fewer than three runs hold, and the others.

    A draw without the former would know nothing of that domain, whose share is not decided by the runs anyway.
    """
    alone = set(np.argwhere(observations.weights[:, scarcely_held(observations.weights)] > 0)[:, 0].tolist())
    kept = [group for group in groups if alone & set(group.tolist())]
    return kept, [group for group in groups if not alone & set(group.tolist())]


def _drawn_counts(groups: list[Ints], n_runs: int, rng: np.random.Generator) -> Floats:
    times = rng.multinomial(len(groups), np.full(len(groups), 1 / len(groups)))
    counts = np.zeros(n_runs)
    for group, n in zip(groups, times, strict=True):
        counts[group] = n
    return counts


def scaled_residuals(residuals: Floats, noise: Floats) -> Floats:
    """Residuals (runs, metrics) scaled per metric to the root mean square `noise` (metrics,); NaN stays NaN.

    A fit with many parameters leaves residuals smaller than the noise, or none at all; then the first (scaled) cell
    would be arbitrary, so metrics without residuals keep zeros.
    """
    size = np.sqrt(np.nanmean(residuals**2, axis=0))
    factor = np.where(size > 0, noise / np.where(size > 0, size, 1.0), 0.0)
    return residuals * factor
