"""Held-out predictions of a law: what it is worth on runs that it has not seen.

Runs of equal mixture stay together: a replicate in both halves would let a law look its answer up. Every fold is
fitted cold, by `fit` of a clone, for a start that has seen the held-out runs must not judge them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw
from evermix.observations.runs import Runs

Ints = npt.NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """What a law predicts for each run when that run is left out.

    Attributes:
        predicted: (runs, metrics), in the metrics' units.
        std: (runs, metrics), of the law alone, without the run's noise; None if the family has none.
        spearman: (metrics,), rank correlation of `predicted` and the known values; NaN where either is constant.
        rmse: (metrics,), root of the mean squared error over known runs.
        n_folds: folds really made, at most the number of distinct mixtures.
    """

    predicted: Floats
    std: Floats | None
    spearman: Floats
    rmse: Floats
    n_folds: int


def fold_labels(mixtures: Floats, n_folds: int, seed: int) -> Ints:
    """Which fold each run belongs to, shape (runs,), 0 ... n_folds - 1; equal mixtures (within 1e-9) share one.

    Raises:
        ObservationError: if there are fewer than 2 folds or 2 distinct mixtures.
    """
    if n_folds < 2:
        raise ObservationError("cross-validation needs at least 2 folds", received=n_folds)
    _, group = np.unique(np.round(mixtures, 9), axis=0, return_inverse=True)
    group = group.ravel()
    n_groups = int(group.max()) + 1
    if n_groups < 2:
        raise ObservationError("cross-validation needs at least 2 distinct mixtures", received=n_groups)
    # positions in the order in which mixtures first appear, so that labels depend on the seed and the runs' order only
    _, first = np.unique(group, return_index=True)
    place = np.empty(n_groups, dtype=np.intp)
    place[np.argsort(first)] = np.random.default_rng(seed).permutation(n_groups) % min(n_folds, n_groups)
    return place[group]


def held_out(law: MixingLaw, runs: Runs, labels: Ints) -> tuple[Floats, Floats | None]:
    """Predictions, and standard deviations where the family has them, of each run by a fit without its fold.

    Raises:
        ObservationError: if what is left of the runs is too little for the law; the message is the law's.
    """
    predicted = np.empty(runs.values.shape)
    std = np.full(runs.values.shape, np.nan)
    has_std = False
    for label in range(int(labels.max()) + 1):
        inside = labels == label
        fitted = law.clone().fit(runs.take(~inside))
        has_std = fitted.has_std
        if has_std:
            predicted[inside], std[inside] = fitted.predict_with_std(runs.mixtures[inside])
        else:
            predicted[inside] = fitted.predict(runs.mixtures[inside])
    return predicted, std if has_std else None


def cross_validate(law: MixingLaw, runs: Runs, n_folds: int = 5, seed: int = 0) -> CrossValidation:
    """Leave each of `n_folds` random folds of runs out in turn.

    Raises:
        ObservationError: if the runs left by a fold are too few for the law.
    """
    labels = fold_labels(runs.mixtures, n_folds, seed)
    predicted, std = held_out(law, runs, labels)
    error = np.where(np.isnan(runs.values), np.nan, predicted - runs.values)
    known = np.maximum((~np.isnan(error)).sum(axis=0), 1)
    rmse = np.sqrt(np.nansum(error**2, axis=0) / known)
    return CrossValidation(predicted, std, spearman(predicted, runs.values), rmse, int(labels.max()) + 1)


def spearman(predicted: Floats, measured: Floats) -> Floats:
    """Rank correlation per column of two (runs, metrics) tables over the known cells; NaN where one is constant."""
    result = np.full(measured.shape[1], np.nan)
    for i in range(measured.shape[1]):
        known = ~np.isnan(measured[:, i])
        if known.sum() < 2:
            continue
        a, b = (rankdata(table[known, i]) for table in (predicted, measured))
        a, b = a - a.mean(), b - b.mean()
        size = np.sqrt((a**2).sum() * (b**2).sum())
        if size > 0:
            result[i] = (a * b).sum() / size
    return result
