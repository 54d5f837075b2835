"""Held-out predictions of a law: what it is worth on runs that it has not seen.

Runs of equal mixture stay together: a replicate in both halves would let a law look its answer up. Every fold is
fitted cold, by `fit` of a clone, for a start that has seen the held-out runs must not judge them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from evermix.errors import ObservationError
from evermix.laws.base import Bools, Floats, MixingLaw

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


@dataclass(frozen=True, eq=False)
class Cells:
    """The arguments of `fit`, together; see MixingLaw.fit."""

    mixtures: Floats
    values: Floats
    sigma: Floats | None = None
    counts: Floats | None = None

    def rows(self, chosen: Bools) -> Cells:
        """The runs where `chosen` (runs,) is True."""
        parts = (None if a is None else a[chosen] for a in (self.mixtures, self.values, self.sigma, self.counts))
        return Cells(*parts)  # type: ignore[arg-type]

    def metrics(self, chosen: Ints | Bools) -> Cells:
        """The metrics at `chosen`."""
        sigma = None if self.sigma is None else self.sigma[:, chosen]
        return replace(self, values=self.values[:, chosen], sigma=sigma)

    def fit(self, law: MixingLaw) -> MixingLaw:
        """A clone of `law` fitted to these runs."""
        return law.clone().fit(self.mixtures, self.values, self.sigma, self.counts)

    def refit(self, law: MixingLaw) -> MixingLaw:
        """`law`, which is fitted, refitted to these runs."""
        return law.refit(self.mixtures, self.values, self.sigma, self.counts)


def cells(
    P: npt.ArrayLike, Y: npt.ArrayLike, sigma: npt.ArrayLike | None = None, counts: npt.ArrayLike | None = None
) -> Cells:
    """Cells of array-likes, unchecked."""
    optional = (None if a is None else np.asarray(a, dtype=np.float64) for a in (sigma, counts))
    return Cells(np.asarray(P, dtype=np.float64), np.asarray(Y, dtype=np.float64), *optional)


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


def held_out(law: MixingLaw, data: Cells, labels: Ints) -> tuple[Floats, Floats | None]:
    """Predictions, and standard deviations where the family has them, of each run by a fit without its fold.

    Raises:
        ObservationError: if what is left of the runs is too little for the law; the message is the law's.
    """
    predicted = np.empty(data.values.shape)
    std = np.full(data.values.shape, np.nan)
    has_std = False
    for label in range(int(labels.max()) + 1):
        inside = labels == label
        fitted = data.rows(~inside).fit(law)
        has_std = fitted.has_std
        if has_std:
            predicted[inside], std[inside] = fitted.predict_with_std(data.mixtures[inside])
        else:
            predicted[inside] = fitted.predict(data.mixtures[inside])
    return predicted, std if has_std else None


def cross_validate(
    law: MixingLaw,
    P: npt.ArrayLike,
    Y: npt.ArrayLike,
    sigma: npt.ArrayLike | None = None,
    n_folds: int = 5,
    seed: int = 0,
) -> CrossValidation:
    """Leave each of `n_folds` random folds of runs out in turn; P (runs, domains), Y (runs, metrics), NaN for missing.

    Raises:
        ObservationError: on malformed arrays, or if the runs left by a fold are too few for the law.
    """
    data = cells(P, Y, sigma)
    if data.mixtures.ndim != 2 or data.values.ndim != 2 or len(data.mixtures) != len(data.values):
        shapes = f"{data.mixtures.shape} and {data.values.shape}"
        raise ObservationError("cross-validation needs P (runs, domains) and Y (runs, metrics)", received=shapes)
    labels = fold_labels(data.mixtures, n_folds, seed)
    predicted, std = held_out(law, data, labels)
    error = np.where(np.isnan(data.values), np.nan, predicted - data.values)
    known = np.maximum((~np.isnan(error)).sum(axis=0), 1)
    rmse = np.sqrt(np.nansum(error**2, axis=0) / known)
    return CrossValidation(predicted, std, spearman(predicted, data.values), rmse, int(labels.max()) + 1)


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
