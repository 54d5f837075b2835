"""MixingLaw: what every law offers. Hyperparameters are stored untouched; fitted attributes end in an underscore."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import NotFittedError, ObservationError

Floats = npt.NDArray[np.float64]


class MixingLaw(ABC):
    """metrics = f(p): one function of the mixture per metric, fitted to runs, each metric by itself.

    Metrics are positive and lower is better (losses in nats per token, bits per byte); predictions carry the same
    unit. Fitting sets `n_domains_` and `n_metrics_`, `objective_` (metrics,) and `converged_` (metrics,), bool.
    """

    n_domains_: int
    n_metrics_: int
    objective_: Floats
    converged_: npt.NDArray[np.bool_]

    @property
    @abstractmethod
    def is_convex(self) -> bool:
        """Whether every f_i is convex in p, so that the convex solver is exact."""

    @abstractmethod
    def fit(self, P: npt.ArrayLike, Y: npt.ArrayLike, sigma: npt.ArrayLike | None = None) -> Self:
        """Fit to mixtures P, shape (runs, domains), and metrics Y, shape (runs, metrics).

        Args:
            sigma: standard errors, shape (runs, metrics), > 0; only their ratios within a metric count.

        Raises:
            ObservationError: on malformed arrays, or too few runs for the law.
            ConvergenceError: if some metric has no finite solution.
        """

    @abstractmethod
    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at mixtures, shape (..., domains) -> (..., metrics); NotFittedError before fit."""

    @abstractmethod
    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d f_i / d p_j at one mixture, shape (domains,) -> (metrics, domains), the p_j taken as independent."""

    @abstractmethod
    def expressions(self, variable: Any) -> list[Any]:
        """The fitted f_i as DCP-convex cvxpy expressions of a cvxpy Variable of shape (domains,), one per metric."""

    def _mixtures(self, P: npt.ArrayLike) -> Floats:
        """P as an array, checked against the fit."""
        if not hasattr(self, "n_domains_"):
            raise NotFittedError(f"{type(self).__name__} must be fitted before it predicts", hint="call fit(P, Y)")
        array = np.asarray(P, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != self.n_domains_:
            raise ObservationError(f"mixtures must have {self.n_domains_} weights, as in the fit", received=array.shape)
        return array


def checked_runs(P: npt.ArrayLike, Y: npt.ArrayLike, sigma: npt.ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """P (runs, domains), Y (runs, metrics) and relative weights of the residuals (runs, metrics), all checked.

    The weight of a residual is rms(sigma_i) / sigma_ki: 1 where standard errors are equal or unknown.
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
    _refuse(~np.isfinite(values) | (values <= 0), values, "value of run {} in metric {} must be a number > 0")
    if sigma is None:
        return mixtures, values, np.ones_like(values)
    errors = np.array(sigma, dtype=np.float64)
    if errors.shape != values.shape:
        raise ObservationError(f"sigma must have the shape of Y, {values.shape}", received=errors.shape)
    _refuse(~np.isfinite(errors) | (errors <= 0), errors, "standard error of run {} in metric {} must be a number > 0")
    return mixtures, values, np.sqrt((errors**2).mean(axis=0)) / errors


def _refuse(bad: npt.NDArray[np.bool_], table: Floats, rule: str) -> None:
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(rule.format(int(k), int(j)), received=float(table[k, j]))
