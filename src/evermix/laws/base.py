"""MixingLaw: what every law offers. Hyperparameters are stored untouched; fitted attributes end in an underscore."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError, NotFittedError, ObservationError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


class MixingLaw(ABC):
    """metrics = f(p): one function of the mixture per metric, fitted to runs, each metric by itself.

    Metrics are positive and lower is better (losses in nats per token, bits per byte, or any metric turned into such
    a cost); predictions carry the same unit. Fitting sets `n_domains_` and `n_metrics_`, `objective_` (metrics,),
    `converged_` (metrics,), bool, and `noise_` (metrics,): the standard deviation of a run around the law, in the
    metric's unit, corrected for the parameters fitted.

    A family overrides the flags and methods of what it has: a gradient; a standard deviation; convexity, with
    `curvature` and `expressions`.
    """

    name: ClassVar[str]
    formula: ClassVar[str]
    source: ClassVar[str]

    n_domains_: int
    n_metrics_: int
    objective_: Floats
    converged_: Bools
    noise_: Floats

    @property
    def is_convex(self) -> bool:
        """Whether every f_i is convex in p, so that the convex solver is exact."""
        return False

    @property
    def has_gradient(self) -> bool:
        """Whether `gradient` is analytic."""
        return False

    @property
    def has_std(self) -> bool:
        """Whether `predict_with_std` tells how uncertain f is."""
        return False

    @property
    def pools_metrics(self) -> bool:
        """Whether the fit of one metric depends on the others."""
        return False

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """Free parameters per metric; with fewer runs the fit leans on its prior, or is refused."""
        return n_domains + 1

    @property
    def parameter_count(self) -> int:
        """Free parameters per metric of this fit; a law that wraps another has those of what it wraps.

        Raises:
            NotFittedError: before fit.
        """
        self._check_fitted()
        return self.n_parameters(self.n_domains_)

    def get_params(self) -> dict[str, Any]:
        """Hyperparameters, as given to the constructor."""
        return {
            name: getattr(self, name) for name in inspect.signature(type(self).__init__).parameters if name != "self"
        }

    def clone(self) -> Self:
        """An unfitted law with the same hyperparameters."""
        return type(self)(**self.get_params())

    @abstractmethod
    def fit(
        self,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit to mixtures P, shape (runs, domains), and metrics Y, shape (runs, metrics); NaN in Y is a missing cell.

        Args:
            sigma: standard errors, shape (runs, metrics), > 0; only their ratios within a metric count.
            counts: how often each run counts, shape (runs,), >= 0; a run of count 2 is that run given twice.

        Raises:
            ObservationError: on malformed arrays, or too few runs for the law.
            ConvergenceError: if some metric has no finite solution.
        """

    def refit(
        self,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Self:
        """A new law of the same kind fitted to other or resampled runs, started from this solution where that helps.

        For resampling only: a start that has seen the held-out runs must not judge them.
        """
        return self.clone().fit(P, Y, sigma, counts)

    @abstractmethod
    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at mixtures, shape (..., domains) -> (..., metrics); NotFittedError before fit."""

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """`predict` and the standard deviation of f itself (a run scatters by `noise_` beside), both (..., metrics)."""
        raise self._lacks("standard deviations", "resample the runs instead")

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d f_i / d p_j at one mixture, shape (domains,) -> (metrics, domains), the p_j taken as independent."""
        raise self._lacks("a gradient", "use the sampling search")

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Second derivatives of a convex law at one mixture, as diagonal plus rank one.

        Returns:
            d (metrics, domains) and s (metrics,), all >= 0, with Hessian of f_i = diag(d_i) + s_i g_i g_i^T, where
            g_i is the gradient.
        """
        raise self._lacks("a structured curvature", "use the sampling search")

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """Hessian of sum_i weights_i f_i of a convex law, weights (metrics,) >= 0, as a diagonal and few rows.

        Returns:
            d (domains,) >= 0 and C (rows, domains), with Hessian diag(d) + C' C.
        """
        counted = weights > 0
        d, s = self.curvature(p)
        rows: Floats = np.sqrt(weights * s)[counted, None] * self.gradient(p)[counted]
        return weights[counted] @ d[counted], rows

    def expressions(self, variable: Any) -> list[Any]:
        """The fitted f_i as DCP-convex cvxpy expressions of a cvxpy Variable of shape (domains,), one per metric."""
        raise self._lacks("convex expressions", "use the sampling search")

    def settled(self) -> MixingLaw:
        """An unfitted law that repeats this one's fit without the choices that it made: what cross-validation judges.

        A family whose fit chooses among others by cross-validation would choose anew in every fold, at many times the
        cost of a fit.
        """
        return self.clone()

    def _lacks(self, what: str, hint: str) -> ConstraintError:
        self._check_fitted()
        return ConstraintError(f"the {self.name} law has no {what}", hint=hint)

    def _check_fitted(self) -> None:
        if not hasattr(self, "n_domains_"):
            raise NotFittedError(f"{type(self).__name__} must be fitted before it predicts", hint="call fit(P, Y)")

    def _mixtures(self, P: npt.ArrayLike) -> Floats:
        """P as an array, checked against the fit."""
        self._check_fitted()
        array = np.asarray(P, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != self.n_domains_:
            raise ObservationError(f"mixtures must have {self.n_domains_} weights, as in the fit", received=array.shape)
        return array


@dataclass(frozen=True)
class Runs:
    """Checked arrays of a fit.

    Attributes:
        mixtures: (runs, domains), each row summing to 1 within 1e-3.
        values: (runs, metrics), > 0; a missing cell holds the metric's mean and has weight 0.
        weights: (runs, metrics), factor of each residual: sqrt(count) rms(sigma_i) / sigma_ki, 0 where missing.
        counts: (runs,), > 0, how often each run counts.
    """

    mixtures: Floats
    values: Floats
    weights: Floats
    counts: Floats

    @property
    def precision(self) -> Floats:
        """weights without the counts: the factor of a residual where the loss is not quadratic."""
        share: Floats = self.weights / np.sqrt(self.counts)[:, None]
        return share

    @property
    def n_effective(self) -> Floats:
        """Runs that count per metric, with their multiplicity, shape (metrics,)."""
        total: Floats = (self.weights**2).sum(axis=0)
        return total

    @property
    def spread(self) -> Floats:
        """Weighted standard deviation of each metric over runs, shape (metrics,), at least 1e-6 of its mean."""
        share = self.weights**2 / self.n_effective
        mean = (share * self.values).sum(axis=0)
        deviation = np.sqrt((share * (self.values - mean) ** 2).sum(axis=0))
        result: Floats = np.maximum(deviation, 1e-6 * mean)
        return result


def checked_runs(
    P: npt.ArrayLike, Y: npt.ArrayLike, sigma: npt.ArrayLike | None = None, counts: npt.ArrayLike | None = None
) -> Runs:
    """The arguments of `fit`, checked; runs of count 0 are left out.

    Raises:
        ObservationError: naming the run and the column, by position.
    """
    mixtures, values = np.array(P, dtype=np.float64), np.array(Y, dtype=np.float64)
    if mixtures.ndim != 2 or values.ndim != 2 or len(mixtures) != len(values) or len(mixtures) < 2:
        shapes = f"{mixtures.shape} and {values.shape}"
        raise ObservationError(
            "a law needs P (runs, domains) and Y (runs, metrics) of at least 2 runs", received=shapes
        )
    _refuse(~np.isfinite(mixtures) | (mixtures < 0), mixtures, "weight of run {} in domain {} must be a number >= 0")
    rows = np.abs(mixtures.sum(axis=1) - 1)
    if rows.max() > 1e-3:
        worst = int(rows.argmax())
        raise ObservationError(f"weights of run {worst} must sum to 1", received=float(mixtures[worst].sum()))
    missing = np.isnan(values)
    _refuse(np.isinf(values) | (values <= 0), values, "value of run {} in metric {} must be a number > 0")
    multiplicity = _multiplicity(counts, len(values))
    weights = np.where(missing, 0.0, _relative_precision(sigma, values, multiplicity))
    weights *= np.sqrt(multiplicity)[:, None]
    seen = multiplicity > 0
    mixtures, values, weights, missing = mixtures[seen], values[seen], weights[seen], missing[seen]
    known = (~missing).sum(axis=0)
    if known.min(initial=2) < 2:
        worst = int(known.argmin())
        raise ObservationError(f"metric {worst} must be known for at least 2 runs", received=int(known[worst]))
    mean = np.where(missing, 0.0, values).sum(axis=0) / known
    return Runs(mixtures, np.where(missing, mean, values), weights, multiplicity[seen])


def _relative_precision(sigma: npt.ArrayLike | None, values: Floats, counts: Floats) -> Floats:
    """rms(sigma_i) / sigma_ki over the known cells: 1 where standard errors are equal or unknown."""
    if sigma is None:
        return np.ones_like(values)
    errors = np.array(sigma, dtype=np.float64)
    if errors.shape != values.shape:
        raise ObservationError(f"sigma must have the shape of Y, {values.shape}", received=errors.shape)
    errors = np.where(np.isnan(values), np.nan, errors)
    wrong = ~np.isnan(values) & ~(np.isfinite(errors) & (errors > 0))
    _refuse(wrong, errors, "standard error of run {} in metric {} must be a number > 0")
    known = ~np.isnan(values)
    mean_square = counts @ np.where(known, errors**2, 0.0) / np.maximum(counts @ known, 1e-300)
    return np.where(known, np.sqrt(mean_square) / np.where(known, errors, 1.0), 0.0)


def _multiplicity(counts: npt.ArrayLike | None, n_runs: int) -> Floats:
    if counts is None:
        return np.ones(n_runs)
    array = np.array(counts, dtype=np.float64)
    if array.shape != (n_runs,):
        raise ObservationError(f"counts must have one number per run, {n_runs}", received=array.shape)
    _refuse(~(np.isfinite(array) & (array >= 0))[:, None], array[:, None], "count of run {} (column {}) must be >= 0")
    if (array > 0).sum() < 2:
        raise ObservationError("at least 2 runs must have a positive count", received=int((array > 0).sum()))
    return array


def _refuse(bad: Bools, table: Floats, rule: str) -> None:
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(rule.format(int(k), int(j)), received=float(table[k, j]))
