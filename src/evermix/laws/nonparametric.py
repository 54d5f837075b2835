"""Laws without a formula: the runs nearby, and boosted trees. Neither has a gradient, neither is convex."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError, to_install
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.observations.runs import Runs

_NEAREST = 1e-8


class NearestLaw(MixingLaw):
    """Search: no law at all. Each mixture is predicted from the observed runs near it, so the best one is the best run.

    f_i(p) = sum_k w_k(p) y_ki / sum_k w_k(p), w_k(p) = count_k d_k(p)^(-power): Shepard's interpolation (1968), with d
    the Hellinger distance |sqrt(p) - sqrt(p_k)| / sqrt 2. Every prediction is an average of observed values, so no
    mixture is predicted better than the best observed run. The bar that a law must clear.

    Args:
        power: how fast a run's say falls with its distance.

    Attributes after fit:
        mixtures_: (runs, domains); values_ and weights_: (runs, metrics), weight 0 where the cell is missing.
    """

    name = "nearest"
    formula = "sum_k w_k y_k / sum_k w_k, w_k = |sqrt p - sqrt p_k|^(-power)"
    source = "search: the best observed run; Shepard 1968"

    mixtures_: Floats
    values_: Floats
    weights_: Floats

    def __init__(self, power: float = 4.0) -> None:
        self.power = power

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """None."""
        return 0

    def fit(self, runs: Runs) -> Self:
        """Keep the runs; see MixingLaw.fit. `noise_` is the leave-one-out error, the lack of a law included."""
        if not self.power > 0:
            raise ObservationError("power of the nearest law must be > 0", received=self.power)
        table = weighted(runs)
        self.mixtures_, self.values_, self.weights_ = table.mixtures, table.values, table.weights**2
        self.n_domains_, self.n_metrics_ = table.mixtures.shape[1], table.values.shape[1]
        others = self._closeness(table.mixtures)
        np.fill_diagonal(others, 0.0)
        total = np.maximum(others @ self.weights_, 1e-300)
        error = others @ (self.weights_ * self.values_) / total - self.values_
        squares = (self.weights_ * error**2).sum(axis=0)
        self.noise_ = np.sqrt(squares / table.n_effective)
        self.objective_, self.converged_ = squares, np.ones(self.n_metrics_, dtype=bool)
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """The average, shape (..., domains) -> (..., metrics)."""
        closeness = self._closeness(self._mixtures(P))
        result: Floats = closeness @ (self.weights_ * self.values_) / (closeness @ self.weights_)
        return result

    def _closeness(self, mixtures: Floats) -> Floats:
        """d^(-power), shape (..., domains) -> (..., runs)."""
        away = np.sqrt(mixtures)[..., None, :] - np.sqrt(self.mixtures_)
        distance = np.sqrt(0.5 * (away**2).sum(axis=-1))
        result: Floats = np.maximum(distance, _NEAREST) ** -self.power
        return result


class BoostedTreesLaw(MixingLaw):
    """Gradient-boosted trees (LightGBM), one model per metric, with the settings of RegMix (arXiv 2407.01492).

    1,000 rounds at learning rate 0.01, 31 leaves of at least 20 runs, no subsampling. RegMix stops early on the runs it
    is judged by; here no run is looked at twice, all rounds are used. Under some 40 runs no leaf can be split and the
    prediction is constant; past a few hundred it is among the best. Piecewise constant: no gradient, not convex.

    Args:
        n_rounds: trees per metric.
        learning_rate: shrinkage of each tree.
        n_leaves: leaves per tree at most.
        min_runs_in_leaf: runs in a leaf at least.

    Attributes after fit:
        boosters_: one lightgbm.Booster per metric. lowest_: (metrics,), the least value predicted.
    """

    name = "boosted-trees"
    formula = "sum of regression trees"
    source = "RegMix, arXiv 2407.01492 (LightGBM)"
    extra = "regress"

    boosters_: list[Any]
    lowest_: Floats

    def __init__(
        self, n_rounds: int = 1000, learning_rate: float = 0.01, n_leaves: int = 31, min_runs_in_leaf: int = 20
    ) -> None:
        self.n_rounds = n_rounds
        self.learning_rate = learning_rate
        self.n_leaves = n_leaves
        self.min_runs_in_leaf = min_runs_in_leaf

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """Runs below which no tree has a split, whatever the number of domains."""
        return 40

    def fit(self, runs: Runs) -> Self:
        """Fit; see MixingLaw.fit. ObservationError if LightGBM is not installed, saying how to install it."""
        lightgbm = _lightgbm()
        table = _repeated(runs)
        self.n_domains_, self.n_metrics_ = table.mixtures.shape[1], table.values.shape[1]
        self.boosters_ = [self._booster(lightgbm, table, i) for i in range(self.n_metrics_)]
        known = np.where(table.weights > 0, table.values, np.inf)
        self.lowest_ = 0.5 * known.min(axis=0)
        error = self.predict(table.mixtures) - table.values
        self.objective_ = ((table.weights * error) ** 2).sum(axis=0)
        self.noise_ = np.sqrt(self.objective_ / table.n_effective)
        self.converged_ = np.ones(self.n_metrics_, dtype=bool)
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """The trees' sum, shape (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        rows = mixtures.reshape(-1, self.n_domains_)
        columns = [booster.predict(rows, num_threads=1) for booster in self.boosters_]
        table = np.maximum(np.stack(columns, axis=1), self.lowest_)
        return np.asarray(table, dtype=np.float64).reshape(*mixtures.shape[:-1], self.n_metrics_)

    def _booster(self, lightgbm: Any, runs: WeightedRuns, metric: int) -> Any:
        weight = runs.weights[:, metric] ** 2
        settings = {
            "objective": "regression",
            "learning_rate": self.learning_rate,
            "num_leaves": self.n_leaves,
            "min_data_in_leaf": self.min_runs_in_leaf,
            "num_threads": 1,
            "deterministic": True,
            "force_row_wise": True,
            "verbosity": -1,
            "seed": 0,
        }
        known = weight > 0
        data = lightgbm.Dataset(
            runs.mixtures[known], runs.values[known, metric], weight=weight[known], params={"verbosity": -1}
        )
        return lightgbm.train(settings, data, num_boost_round=self.n_rounds)


def _repeated(runs: Runs) -> WeightedRuns:
    """Weighted runs, one of whole count n given n times: a leaf's least size counts rows, not weights."""
    table = weighted(runs)
    if (table.counts != np.round(table.counts)).any():
        return table
    copies = table.counts.astype(np.intp)
    mixtures, values, weights = (np.repeat(t, copies, axis=0) for t in (table.mixtures, table.values, table.precision))
    return WeightedRuns(mixtures, values, weights, np.ones(len(mixtures)))


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise ObservationError(
            "the boosted-trees law needs LightGBM, which is not installed", hint=to_install("regress")
        ) from error
    return lightgbm
