"""Gaussian process on warped shares x = p^g: constant mean, linear and RBF kernels, white noise.

y_i = u_i z_i + mean_i,  z_i ~ N(0, s_i^2 (C + nu W^-1)),
C(x, x') = c + l x.x' + exp(-sum_j (x_j - x'_j)^2 / (2 r_j^2)).

The scale s_i has a closed form; the hyperparameters log (c, l, nu, r) maximise the marginal likelihood (Rasmussen and
Williams 2006, chapters 2 and 5) with its analytic gradient. Metrics of one swarm are alike in how fast they change with
the mixture, so their hyperparameters are pooled by default: with few runs one metric alone cannot tell them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs

Ints = npt.NDArray[np.intp]

_CONSTANT, _LINEAR, _NOISE, _RANGE = 0, 1, 2, 3
# log-scale prior of (constant, linear, noise, range): wide, it only keeps hyperparameters from running away
_PRIOR_MEAN = np.log([1.0, 1.0, 0.02, 0.7])
_PRIOR_PRECISION = np.array([0.5, 0.1, 0.1, 0.5])
_BOUNDS = [(-4.0, 4.0), (-8.0, 6.0), (-12.0, 3.0), (-3.0, 3.0)]


@dataclass(frozen=True)
class Kernel:
    """Covariances of warped shares; log_parameters = log (constant, linear, noise, range_1 ... range_q)."""

    log_parameters: Floats

    @property
    def ranges(self) -> Floats:
        return np.exp(self.log_parameters[_RANGE:])

    @property
    def noise(self) -> float:
        return float(np.exp(self.log_parameters[_NOISE]))

    def smooth(self, x: Floats, other: Floats) -> Floats:
        """exp(-|(x - x') / r|^2 / 2), shapes (a, domains), (b, domains) -> (a, b)."""
        left, right = x / self.ranges, other / self.ranges
        square = (left**2).sum(axis=1)[:, None] + (right**2).sum(axis=1) - 2 * left @ right.T
        return np.exp(-0.5 * np.maximum(square, 0.0))

    def covariance(self, x: Floats, other: Floats) -> Floats:
        """C without the noise, (a, b)."""
        constant, linear = np.exp(self.log_parameters[:_NOISE])
        return constant + linear * (x @ other.T) + self.smooth(x, other)

    def variance(self, x: Floats) -> Floats:
        """C(x, x), (a,)."""
        constant, linear = np.exp(self.log_parameters[:_NOISE])
        return constant + linear * (x**2).sum(axis=1) + 1.0


@dataclass(frozen=True)
class ProcessFit:
    """What the runs say of some metrics that share weights: alpha = (C + nu W^-1)^-1 z, and the Cholesky factor."""

    kernel: Kernel
    x: Floats
    factor: tuple[Floats, bool]
    alpha: Floats
    scale: Floats

    def mean(self, x: Floats) -> Floats:
        """(a, domains) -> (a, metrics), in units of the targets."""
        return self.kernel.covariance(x, self.x) @ self.alpha

    def std(self, x: Floats) -> Floats:
        """Standard deviation of f without the noise, (a, domains) -> (a, metrics)."""
        cross = self.kernel.covariance(x, self.x)
        explained = (cross * cho_solve(self.factor, cross.T).T).sum(axis=1)
        variance = np.maximum(self.kernel.variance(x) - explained, 1e-12)
        return np.sqrt(variance)[:, None] * self.scale

    def slope(self, x: Floats) -> Floats:
        """d mean / d x at one x, (domains,) -> (metrics, domains)."""
        linear = np.exp(self.kernel.log_parameters[_LINEAR])
        near = self.kernel.smooth(x[None], self.x)[0]
        pull = near[:, None] * (self.x - x) / self.kernel.ranges**2
        return self.alpha.T @ (linear * self.x + pull)


ProcessFits = list[tuple[Ints, ProcessFit]]


@dataclass(frozen=True)
class ProcessOptions:
    """pool: one set of hyperparameters for all metrics, else one for each. ard: a range per domain."""

    pool: bool = True
    ard: bool = False


def fit_processes(
    x: Floats, targets: Floats, runs: WeightedRuns, options: ProcessOptions, known: ProcessFits | None = None
) -> ProcessFits:
    """Gaussian processes of targets (runs, metrics), each of mean about 0, on x (runs, domains).

    Args:
        runs: whose weights and counts hold.
        known: an earlier fit whose hyperparameters are kept.

    Returns:
        Pairs of the metrics' positions and their joint posterior.
    """
    if known is not None:
        kernels = {int(metric): process.kernel for metrics, process in known for metric in metrics}
        labels = {id(kernel): n for n, kernel in enumerate(kernels.values())}
        groups = _equal_columns(np.vstack([runs.weights, [labels[id(kernels[i])] for i in range(targets.shape[1])]]))
        return [(g, _Part(x, targets[:, g], runs, g[0]).posterior(kernels[int(g[0])])) for g in groups]
    groups = _equal_columns(runs.weights) if options.pool else [np.array([i]) for i in range(targets.shape[1])]
    parts = [_Part(x, targets[:, g], runs, g[0]) for g in groups]
    shape = x.shape[1] if options.ard else 1
    if options.pool:
        kernel = _best_kernel(parts, shape)
        return [(g, part.posterior(kernel)) for g, part in zip(groups, parts, strict=True)]
    return [(g, part.posterior(_best_kernel([part], shape))) for g, part in zip(groups, parts, strict=True)]


Quantity = Callable[[ProcessFit, Floats], Floats]


def over_rows(processes: ProcessFits, quantity: Quantity, x: Floats, n_metrics: int) -> Floats:
    """quantity(process, rows) of warped shares of any leading shape, (..., domains) -> (..., metrics)."""
    rows = x.reshape(-1, x.shape[-1])
    table = np.empty((len(rows), n_metrics))
    for metrics, process in processes:
        table[:, metrics] = quantity(process, rows)
    return table.reshape(*x.shape[:-1], n_metrics)


class _Part:
    """Metrics known in the same runs at the same precision: one Cholesky factor serves them all."""

    def __init__(self, x: Floats, z: Floats, runs: WeightedRuns, metric: int) -> None:
        known = runs.weights[:, metric] > 0
        self.x, self.z, self.slack = x[known], z[known], 1 / runs.weights[known, metric] ** 2
        self.n_runs = float(runs.counts[known].sum())

    def negative_log_likelihood(self, log_parameters: Floats) -> tuple[float, Floats]:
        """sum_i (K/2) log(z' A^-1 z / K) + (1/2) log det A with A = C + nu W^-1, scales s_i profiled out; gradient.

        d/dtheta = sum_i tr((A^-1 - a_i a_i' / s_i^2) dA) / 2, a_i = A^-1 z_i. A run of count c, as c rows, adds
        (c - 1) log nu to log det A.
        """
        kernel = Kernel(log_parameters)
        n, n_metrics = self.z.shape
        smooth, dot = kernel.smooth(self.x, self.x), self.x @ self.x.T
        constant, linear, noise = np.exp(log_parameters[:_RANGE])
        A = constant + linear * dot + smooth
        A[np.diag_indices(n)] += noise * self.slack + 1e-8
        factor = cho_factor(A, lower=True)
        alpha = cho_solve(factor, self.z)
        scale2 = np.maximum((self.z * alpha).sum(axis=0) / self.n_runs, 1e-12)
        copies = self.n_runs - n
        log_det = 2 * np.log(np.diag(factor[0])).sum() + copies * log_parameters[_NOISE]
        value = 0.5 * self.n_runs * np.log(scale2).sum() + 0.5 * n_metrics * log_det
        M = n_metrics * cho_solve(factor, np.eye(n)) - (alpha / scale2) @ alpha.T
        gradient = np.empty(len(log_parameters))
        gradient[_CONSTANT] = 0.5 * constant * M.sum()
        gradient[_LINEAR] = 0.5 * linear * (M * dot).sum()
        gradient[_NOISE] = 0.5 * noise * (np.diag(M) * self.slack).sum() + 0.5 * n_metrics * copies
        MS = M * smooth
        # sum_kl MS_kl (x_kj - x_lj)^2 = 2 sum_k x_kj^2 (MS 1)_k - 2 x_j' MS x_j
        square = 2 * (MS.sum(axis=1) @ self.x**2) - 2 * (self.x * (MS @ self.x)).sum(axis=0)
        per_domain = 0.5 * square / kernel.ranges**2
        gradient[_RANGE:] = per_domain.sum() if len(log_parameters) == _RANGE + 1 else per_domain
        return float(value), gradient

    def posterior(self, kernel: Kernel) -> ProcessFit:
        A = kernel.covariance(self.x, self.x)
        A[np.diag_indices(len(A))] += kernel.noise * self.slack + 1e-8
        factor = cho_factor(A, lower=True)
        alpha = cho_solve(factor, self.z)
        scale = np.sqrt(np.maximum((self.z * alpha).sum(axis=0) / self.n_runs, 1e-12))
        return ProcessFit(kernel, self.x, factor, alpha, scale)


def _best_kernel(parts: list[_Part], n_ranges: int) -> Kernel:
    """Hyperparameters of least negative log likelihood plus prior, over all parts, from two starts."""
    mean = np.append(_PRIOR_MEAN[:_RANGE], np.full(n_ranges, _PRIOR_MEAN[_RANGE]))
    weight = np.append(_PRIOR_PRECISION[:_RANGE], np.full(n_ranges, _PRIOR_PRECISION[_RANGE]))
    bounds = [*_BOUNDS[:_RANGE], *[_BOUNDS[_RANGE]] * n_ranges]

    def loss(theta: Floats) -> tuple[float, Floats]:
        value, gradient = 0.5 * float(weight @ (theta - mean) ** 2), weight * (theta - mean)
        for part in parts:
            more, slope = part.negative_log_likelihood(theta)
            value, gradient = value + more, gradient + slope
        return value, gradient

    best, lowest = mean, np.inf
    for noise in np.log([0.01, 0.3]):
        start = mean.copy()
        start[_NOISE] = noise
        found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 60})
        if found.fun < lowest:
            best, lowest = found.x, float(found.fun)
    return Kernel(np.asarray(best, dtype=np.float64))


def _equal_columns(precision: Floats) -> list[Ints]:
    _, label = np.unique(precision, axis=1, return_inverse=True)
    return [np.flatnonzero(label.ravel() == i) for i in range(int(label.max()) + 1)]


class GaussianProcessLaw(MixingLaw):
    """Gaussian process on p^g.

    Args:
        g: exponent of the shares, in (0, 1]; below 1 the first tokens of a domain count most.
        pool: one set of hyperparameters for all metrics.
        ard: a range per domain; needs many runs.

    Attributes after fit:
        processes_: pairs of metric positions and their ProcessFit. mean_, unit_, lowest_: (metrics,).
    """

    name = "gaussian-process"
    formula = "GP(constant + linear + RBF) on p^g"
    source = "Rasmussen and Williams 2006"

    processes_: ProcessFits
    mean_: Floats
    unit_: Floats
    lowest_: Floats

    def __init__(self, g: float = 0.7, pool: bool = True, ard: bool = False) -> None:
        self.g = g
        self.pool = pool
        self.ard = ard

    @property
    def pools_metrics(self) -> bool:
        """Whether the fit of one metric depends on the others."""
        return self.pool

    @property
    def has_gradient(self) -> bool:
        """Always."""
        return True

    @property
    def has_std(self) -> bool:
        """Always: the posterior's."""
        return True

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """Hyperparameters; the function itself has no fixed number."""
        return 4

    def fit(self, runs: Runs) -> Self:
        """Fit; see MixingLaw.fit. Any number of runs from 2 on is accepted."""
        if not 0 < self.g <= 1:
            raise ObservationError("g of the Gaussian process must be in (0, 1]", received=self.g)
        return self._condition(weighted(runs), None)

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit; the hyperparameters stay: resampled runs repeat, and would look free of noise."""
        self._check_fitted()
        return self.clone()._condition(weighted(runs), self.processes_)

    def _condition(self, runs: WeightedRuns, known: ProcessFits | None) -> Self:
        self.n_domains_, self.n_metrics_ = runs.mixtures.shape[1], runs.values.shape[1]
        self.mean_ = (runs.weights**2 * runs.values).sum(axis=0) / runs.n_effective
        self.unit_ = runs.spread
        self.lowest_ = 0.5 * np.where(runs.weights > 0, runs.values, np.inf).min(axis=0)
        targets = (runs.values - self.mean_) / self.unit_
        options = ProcessOptions(self.pool, self.ard)
        self.processes_ = fit_processes(runs.mixtures**self.g, targets, runs, options, known)
        error = runs.weights * (self.predict(runs.mixtures) - runs.values)
        self.objective_ = (error**2).sum(axis=0)
        self.noise_ = np.empty(self.n_metrics_)
        for metrics, process in self.processes_:
            self.noise_[metrics] = np.sqrt(process.kernel.noise) * process.scale * self.unit_[metrics]
        self.converged_ = np.ones(self.n_metrics_, dtype=bool)
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """The posterior mean, at least half the least observed value; (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        return np.maximum(self.mean_ + self._process(mixtures, ProcessFit.mean), self.lowest_)

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """The posterior mean and standard deviation, both (..., metrics)."""
        mixtures = self._mixtures(P)
        return self.predict(P), self._process(mixtures, ProcessFit.std)

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d mean / d x_j times g p_j^(g-1), (domains,) -> (metrics, domains); infinite at p_j = 0 if g < 1."""
        mixture = self._mixtures(p)
        result = np.empty((self.n_metrics_, self.n_domains_))
        for metrics, process in self.processes_:
            result[metrics] = self.unit_[metrics, None] * process.slope(mixture**self.g)
        result[self.predict(mixture) <= self.lowest_] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = result * (self.g * mixture ** (self.g - 1))
        return np.where(result == 0, 0.0, slope)

    def _process(self, mixtures: Floats, quantity: Quantity) -> Floats:
        return over_rows(self.processes_, quantity, mixtures**self.g, self.n_metrics_) * self.unit_


class ResidualLaw(MixingLaw):
    """A parametric law plus a Gaussian process on p^g of what it leaves over: f_i = base_i + GP_i.

    The base carries the extrapolation and the process what the formula misses; with few runs the base fits them all,
    the residuals are near zero and so is the correction. Past a few hundred runs it is the best predictor we know.

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
