"""MixingLaw: what every law offers. Hyperparameters are stored untouched; fitted attributes end in an underscore."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError, NotFittedError, ObservationError
from evermix.observations.runs import Runs

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
    extra: ClassVar[str | None] = None  # what to install beside evermix: an extra of pyproject.toml
    of_probes: ClassVar[bool] = False  # fitted to the probes of one decision, never to a swarm

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
    def fit(self, runs: Runs) -> Self:
        """Fit to runs, `Runs.of(P, Y)` for arrays: mixtures (runs, domains), costs (runs, metrics), NaN for missing.

        Raises:
            ObservationError: if the runs are too few for the law.
            ConvergenceError: if some metric has no finite solution.
        """

    def refit(self, runs: Runs) -> Self:
        """A new law of the same kind fitted to other or resampled runs, started from this solution where that helps.

        For resampling only: a start that has seen the held-out runs must not judge them.
        """
        return self.clone().fit(runs)

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

    def with_fixed_choices(self) -> MixingLaw:
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
            raise NotFittedError(
                f"{type(self).__name__} must be fitted before it predicts", hint="call fit(Runs.of(P, Y))"
            )

    def _mixtures(self, P: npt.ArrayLike) -> Floats:
        """P as an array, checked against the fit."""
        self._check_fitted()
        array = np.asarray(P, dtype=np.float64)
        if array.ndim == 0 or array.shape[-1] != self.n_domains_:
            raise ObservationError(f"mixtures must have {self.n_domains_} weights, as in the fit", received=array.shape)
        return array


@dataclass(frozen=True)
class WeightedRuns:
    """What a fit minimises over: runs with their cells filled and weighted.

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


def weighted(runs: Runs) -> WeightedRuns:
    """Runs as a fit takes them; those of count 0 are left out.

    Raises:
        ObservationError: if there are fewer than 2 runs that count, or a metric is known for fewer than 2.
    """
    if len(runs) < 2:
        raise ObservationError("a law needs at least 2 runs", received=len(runs))
    multiplicity = np.ones(len(runs)) if runs.counts is None else runs.counts
    seen = multiplicity > 0
    if seen.sum() < 2:
        raise ObservationError("at least 2 runs must have a positive count", received=int(seen.sum()))
    missing = np.isnan(runs.values)
    weights = np.where(missing, 0.0, _relative_precision(runs, multiplicity))
    weights *= np.sqrt(multiplicity)[:, None]
    mixtures, values, weights, missing = runs.mixtures[seen], runs.values[seen], weights[seen], missing[seen]
    known = (~missing).sum(axis=0)
    if known.min(initial=2) < 2:
        worst = int(known.argmin())
        raise ObservationError(f"metric {worst} must be known for at least 2 runs", received=int(known[worst]))
    mean = np.where(missing, 0.0, values).sum(axis=0) / known
    return WeightedRuns(mixtures, np.where(missing, mean, values), weights, multiplicity[seen])


def _relative_precision(runs: Runs, counts: Floats) -> Floats:
    """rms(sigma_i) / sigma_ki over the known cells: 1 where standard errors are equal or unknown."""
    if runs.sigma is None:
        return np.ones_like(runs.values)
    known = ~np.isnan(runs.values)
    mean_square = counts @ np.where(known, runs.sigma**2, 0.0) / np.maximum(counts @ known, 1e-300)
    return np.where(known, np.sqrt(mean_square) / np.where(known, runs.sigma, 1.0), 0.0)
