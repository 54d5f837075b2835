"""A parametric law plus a Gaussian process on what it leaves over: f_i = base_i + GP_i.

The base carries the extrapolation and the process what the formula misses; with few runs the base fits them all, the
residuals are near zero and so is the correction. Past a few hundred runs it is the best predictor we know.
"""

from __future__ import annotations

from typing import Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.laws.gaussian_process import ProcessFit, ProcessFits, ProcessOptions, Quantity, fit_processes, over_rows
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs


class ResidualLaw(MixingLaw):
    """base(p) + Gaussian process on p^g of the base's residuals.

    Args:
        base: an unfitted law; the power-link law if None.
        g: exponent of the shares in the process.
        pool: one set of hyperparameters for all metrics.

    Attributes after fit:
        base_: the fitted base. processes_: pairs of metric positions and ProcessFit. unit_, lowest_: (metrics,).
    """

    name = "residual"
    formula = "power-link + GP(p^g)"
    source = "ours; docs/laws.md"

    base_: MixingLaw
    processes_: ProcessFits
    unit_: Floats
    lowest_: Floats

    def __init__(self, base: MixingLaw | None = None, g: float = 0.5, pool: bool = True) -> None:
        self.base = base
        self.g = g
        self.pool = pool

    @property
    def pools_metrics(self) -> bool:
        """Whether the fit of one metric depends on the others."""
        return self.pool

    @property
    def has_gradient(self) -> bool:
        """Where the base has one."""
        return self._base.has_gradient

    @property
    def has_std(self) -> bool:
        """Where the base has one."""
        return self._base.has_std

    @property
    def _base(self) -> MixingLaw:
        return getattr(self, "base_", PowerLinkLaw() if self.base is None else self.base)

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """Those of the power-link law, and the process's hyperparameters."""
        return PowerLinkLaw.n_parameters(n_domains) + 4

    def fit(self, runs: Runs) -> Self:
        """Fit the base, then the process; see MixingLaw.fit."""
        base = (PowerLinkLaw() if self.base is None else self.base).clone().fit(runs)
        return self._correct(base, weighted(runs))

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit; the base starts from its solution, the process keeps its hyperparameters."""
        self._check_fitted()
        base = self.base_.refit(runs)
        return self.clone()._correct(base, weighted(runs), self.processes_)

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Base plus posterior mean, at least half the least observed value; (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        return np.maximum(self.base_.predict(mixtures) + self._process(mixtures, ProcessFit.mean), self.lowest_)

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Prediction and sqrt(base variance + process variance), both (..., metrics)."""
        mixtures = self._mixtures(P)
        _, base_std = self.base_.predict_with_std(mixtures)
        return self.predict(mixtures), np.hypot(base_std, self._process(mixtures, ProcessFit.std))

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """Gradient of the base plus that of the posterior mean, (domains,) -> (metrics, domains)."""
        mixture = self._mixtures(p)
        slope = self.base_.gradient(mixture)
        with np.errstate(divide="ignore"):
            warp = self.g * mixture ** (self.g - 1)
        for metrics, process in self.processes_:
            slope[metrics] += self.unit_[metrics, None] * process.slope(mixture**self.g) * warp
        slope[self.predict(mixture) <= self.lowest_] = 0.0
        return slope

    def _correct(self, base: MixingLaw, runs: WeightedRuns, known: ProcessFits | None = None) -> Self:
        if not 0 < self.g <= 1:
            raise ObservationError("g of the Gaussian process must be in (0, 1]", received=self.g)
        self.base_, self.n_domains_, self.n_metrics_ = base, base.n_domains_, base.n_metrics_
        self.unit_ = runs.spread
        self.lowest_ = 0.5 * np.where(runs.weights > 0, runs.values, np.inf).min(axis=0)
        left = (runs.values - base.predict(runs.mixtures)) / self.unit_
        options = ProcessOptions(self.pool)
        self.processes_ = fit_processes(runs.mixtures**self.g, left, runs, options, known)
        error = runs.weights * (self.predict(runs.mixtures) - runs.values)
        self.objective_, self.converged_ = (error**2).sum(axis=0), base.converged_
        self.noise_ = np.empty(self.n_metrics_)
        for metrics, process in self.processes_:
            self.noise_[metrics] = np.sqrt(process.kernel.noise) * process.scale * self.unit_[metrics]
        return self

    def _process(self, mixtures: Floats, quantity: Quantity) -> Floats:
        return over_rows(self.processes_, quantity, mixtures**self.g, self.n_metrics_) * self.unit_
