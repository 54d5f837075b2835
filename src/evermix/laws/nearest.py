"""Search: no law at all. Each mixture is predicted from the observed runs near it, so the best one is the best run.

f_i(p) = sum_k w_k(p) y_ki / sum_k w_k(p), w_k(p) = count_k d_k(p)^(-power): Shepard's interpolation (1968), with d
the Hellinger distance |sqrt(p) - sqrt(p_k)| / sqrt 2. Every prediction is an average of observed values, so no
mixture is predicted better than the best observed run. The bar that a law must clear.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw, weighted
from evermix.observations.runs import Runs

_NEAREST = 1e-8


class NearestLaw(MixingLaw):
    """Inverse-distance average of the observed runs.

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
