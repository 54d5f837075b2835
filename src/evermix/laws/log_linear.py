"""Log-linear law of Olmix (arXiv 2602.12237, section 3): f_i(p) = exp(c_i) + exp(t_i . p).

Fitted by Huber loss on the residuals, each metric by itself:

    sum_k n_k rho(w_ki (f_i(p_k) - y_ki)) + ridge |t_i - mean(t_i)|^2 / 2,     exp(c_i) >= 0.

For a fixed floor b = exp(c), log(y - b) = t . p is linear least squares: those fits, and perturbations of them, start a
batched Levenberg-Marquardt over (b, t), all metrics and starts at once. exp of a linear function is convex, so the law
is. It has domains + 1 parameters per metric: with fewer runs than that it is not identified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, Runs, checked_runs
from evermix.laws.laplace import Uncertainty, noise_of, standard_deviations
from evermix.laws.levenberg_marquardt import CurveFits, Ints, Patience, Point, Solution, best_of_starts
from evermix.laws.weighted_gram import WeightedGram

_FLOORS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)
_LARGEST_EXPONENT = 80.0
_STAGES = ((6, 6), (15, 2))
_WARM_PATIENCE = Patience(max_iterations=30, tolerance=1e-7)
_TINY_RIDGE = 1e-6


class LogLinearLaw(MixingLaw):
    """f_i(p) = exp(c_i) + exp(t_i . p).

    The published fit is `LogLinearLaw(huber_delta=0.02, scaled=False)`.

    Args:
        huber_delta: where the loss turns linear: in standard deviations of each metric over runs if `scaled`, else in
            the unit of the metrics (nats or bits per byte).
        scaled: divide residuals by the metric's standard deviation over runs, so that no unit matters.
        ridge: weight of |t_i - mean(t_i)|^2 / 2 beside the summed loss; above zero it allows fewer runs than
            parameters, and domains that no run has seen.
        n_restarts: perturbed starts beside the profile starts; some metrics have two basins.
        seed: of the perturbations.

    Attributes after fit:
        c_: (metrics,), log of the floor, -inf where the floor is zero.
        t_: (metrics, domains).
    """

    name = "log-linear"
    formula = "exp(c) + exp(t . p)"
    source = "Olmix, arXiv 2602.12237, section 3"

    c_: Floats
    t_: Floats
    fits_: _ExponentialFits
    uncertainty_: Uncertainty

    def __init__(
        self,
        huber_delta: float = 0.3,
        scaled: bool = True,
        ridge: float = 0.0,
        n_restarts: int = 12,
        seed: int = 0,
    ) -> None:
        self.huber_delta = huber_delta
        self.scaled = scaled
        self.ridge = ridge
        self.n_restarts = n_restarts
        self.seed = seed

    @property
    def is_convex(self) -> bool:
        """Always: a sum of a constant and exp of a linear function."""
        return True

    @property
    def has_gradient(self) -> bool:
        """Always."""
        return True

    @property
    def has_std(self) -> bool:
        """Always."""
        return True

    def fit(
        self,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit; see MixingLaw.fit. ObservationError too if runs < live domains + 1 or a domain is dead, at ridge 0."""
        runs = checked_runs(P, Y, sigma, counts)
        if self.ridge == 0:
            _check_identified(runs)
        fits = self._fits(runs)
        start, problem = self._starts(runs)
        return self._take(runs, fits, best_of_starts(fits, start, problem, _STAGES))

    def refit(
        self,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Self:
        """A warm start from this solution. What the runs do not identify stays near it, by a ridge of 1e-6."""
        self._check_fitted()
        runs = checked_runs(P, Y, sigma, counts)
        if runs.mixtures.shape[1] != self.n_domains_ or runs.values.shape[1] != self.n_metrics_:
            raise ObservationError(
                f"refit needs {self.n_domains_} domains and {self.n_metrics_} metrics, as in the fit",
                received=f"{runs.mixtures.shape[1]} and {runs.values.shape[1]}",
            )
        theta = np.column_stack([np.exp(self.c_), self.t_])
        fits = self._fits(runs, around=theta if self.ridge == 0 else None)
        solution = best_of_starts(fits, theta, np.arange(self.n_metrics_), (), _WARM_PATIENCE)
        return self.clone()._take(runs, fits, solution)

    def predict(self, P: npt.ArrayLike) -> Floats:
        """exp(c_i) + exp(t_i . p), shape (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        result: Floats = np.exp(self.c_) + np.exp(mixtures @ self.t_.T)
        return result

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """`predict`, and the standard deviation by the delta method from the parameters' covariance (laplace.py)."""
        predicted = self.predict(P)
        points = self._mixtures(P).reshape(-1, self.n_domains_)
        theta = np.column_stack([np.exp(self.c_), self.t_])

        def slopes(metric: int) -> Floats:
            return np.column_stack([np.ones(len(points)), np.exp(points @ self.t_[metric])[:, None] * points])

        std = standard_deviations(self.fits_, theta, self.uncertainty_, slopes)
        return predicted, std.reshape(predicted.shape)

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """t_ij exp(t_i . p), shape (domains,) -> (metrics, domains)."""
        mixture = self._mixtures(p)
        return np.exp(self.t_ @ mixture)[:, None] * self.t_

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Hessian e^{t.p} t t' = g g' / e^{t.p}: d = 0, s_i = exp(-t_i . p)."""
        mixture = self._mixtures(p)
        return np.zeros_like(self.t_), np.exp(-(self.t_ @ mixture))

    def expressions(self, variable: Any) -> list[Any]:
        """exp(c_i) + exp(t_i . p), one per metric."""
        import cvxpy as cp  # takes a second: only those who solve wait for it

        self._mixtures(np.zeros(variable.shape))
        return [float(np.exp(c)) + cp.exp(t @ variable) for c, t in zip(self.c_, self.t_, strict=True)]

    def _take(self, runs: Runs, fits: _ExponentialFits, solution: Solution) -> Self:
        if not np.isfinite(solution.objective).all():
            metric = int(np.argmin(np.isfinite(solution.objective)))
            raise ConvergenceError(f"the log-linear fit of metric {metric} must end at a finite objective")
        with np.errstate(divide="ignore"):
            self.c_ = np.log(solution.theta[:, 0])
        self.t_ = solution.theta[:, 1:]
        self.objective_, self.converged_ = solution.objective, solution.converged
        unit = runs.spread if self.scaled else np.ones_like(runs.spread)
        known = (runs.weights > 0).T.astype(float)
        self.fits_ = fits
        self.uncertainty_ = noise_of(fits, solution.theta, known, runs.spread / unit)
        self.noise_ = self.uncertainty_.noise * unit
        self.n_domains_, self.n_metrics_ = self.t_.shape[1], self.t_.shape[0]
        return self

    def _fits(self, runs: Runs, around: Floats | None = None) -> _ExponentialFits:
        n_domains, n_metrics = runs.mixtures.shape[1], runs.values.shape[1]
        unit = runs.spread if self.scaled else 1.0
        mean, precision = np.zeros((n_metrics, 1 + n_domains)), np.zeros((1 + n_domains, 1 + n_domains))
        precision[1:, 1:] = self.ridge * (np.eye(n_domains) - 1 / n_domains)
        if around is not None:
            mean = around
            precision[1:, 1:] = _TINY_RIDGE * np.eye(n_domains)
        return _ExponentialFits(
            precision=precision,
            mean=mean,
            free=np.ones((n_metrics, 1 + n_domains), dtype=bool),
            lower=np.append(0.0, np.full(n_domains, -np.inf)),
            huber_delta=self.huber_delta,
            multiplicity=runs.counts,
            gram=WeightedGram(runs.mixtures),
            targets=np.ascontiguousarray(runs.values.T),
            scales=np.ascontiguousarray((runs.precision / unit).T),
        )

    def _starts(self, runs: Runs) -> tuple[Floats, Ints]:
        """The profile starts, and n_restarts perturbations of the middle one, half of them near, half far.

        Every metric is given the same perturbations, so that it is fitted alike alone and among others.
        """
        profile = _profile_starts(runs)
        rng = np.random.default_rng(self.seed)
        n_metrics, q = profile.shape[1:]
        width = np.where(np.arange(self.n_restarts) % 2, 1.0, 0.25)[:, None, None]
        near = profile[np.arange(self.n_restarts) % len(profile)]
        near[:, :, 1:] += width * rng.standard_normal((self.n_restarts, 1, q - 1))
        near[:, :, 0] *= rng.uniform(0.0, 1.0, (self.n_restarts, 1))
        starts = np.concatenate([profile, near])
        return starts.reshape(-1, q), np.tile(np.arange(n_metrics), len(starts))


@dataclass(frozen=True, kw_only=True)
class _ExponentialFits(CurveFits):
    """Residuals w (b + e - y), e = exp(t . p): r' = w (1, e p) and r'' = w e p p', so every Gram is weighted P'P."""

    gram: WeightedGram
    targets: Floats
    scales: Floats

    @property
    def has_second_derivatives(self) -> bool:
        return True

    def evaluate(self, theta: Floats, problem: Ints) -> tuple[Floats, Point]:
        exponent = np.clip(theta[:, 1:] @ self.gram.X.T, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
        powers = np.exp(exponent)
        scale = self.scales[problem]
        return scale * (theta[:, :1] + powers - self.targets[problem]), (scale, scale * powers)

    def normal(
        self, theta: Floats, problem: Ints, point: Point, slope: Floats, weight: Floats, bend: Floats | None
    ) -> tuple[Floats, Floats]:
        scale, rise = point
        X = self.gram.X
        gradient, hessian = np.empty(theta.shape), np.empty((*theta.shape, theta.shape[1]))
        gradient[:, 0], gradient[:, 1:] = (slope * scale).sum(axis=1), (slope * rise) @ X
        inner = weight * rise
        hessian[:, 0, 0] = (weight * scale**2).sum(axis=1)
        hessian[:, 0, 1:] = hessian[:, 1:, 0] = (inner * scale) @ X
        inner *= rise
        hessian[:, 1:, 1:] = self.gram(inner if bend is None else inner + bend * rise)
        return gradient, hessian


def _check_identified(runs: Runs) -> None:
    """ObservationError if some metric's known runs leave a domain unseen, or are fewer than domains + 1."""
    known, seen = runs.weights > 0, runs.mixtures > 0
    n_domains = seen.shape[1]
    unseen = ~((known.T.astype(float) @ seen) > 0)
    if unseen.any():
        metric, domain = np.argwhere(unseen)[0]
        raise ObservationError(
            f"every domain must appear in at least one run, domain {domain} never does (metric {metric})",
            hint="fit without it, or set ridge > 0, which gives it the average effect",
        )
    n_known = known.sum(axis=0)
    if n_known.min() < n_domains + 1:
        metric = int(n_known.argmin())
        raise ObservationError(
            f"a log-linear law over {n_domains} domains needs at least {n_domains + 1} runs of metric {metric}",
            received=int(n_known[metric]),
            hint="measure more runs, set ridge > 0, or use the power-link law",
        )


def _profile_starts(runs: Runs) -> Floats:
    """For each floor b, shape (floors, metrics, q): least squares of log(y - b) on p, weights (y - b)^2 (errors in y)."""
    mixtures, values = runs.mixtures, runs.values
    n_domains, n_metrics = mixtures.shape[1], values.shape[1]
    least = np.where(runs.weights > 0, values, np.inf).min(axis=0)
    floors = np.array(_FLOORS)[:, None] * least
    above = np.where(runs.weights.T > 0, values.T - floors[:, :, None], 1.0)
    weight = above**2 * runs.weights.T**2
    weight /= weight.sum(axis=2, keepdims=True) / runs.counts.sum()
    flat = weight.reshape(-1, len(mixtures))
    normal = WeightedGram(mixtures)(flat) + 1e-6 * np.eye(n_domains)
    right = (flat * np.log(above).reshape(flat.shape)) @ mixtures
    t = np.linalg.solve(normal, right[..., None])[..., 0].reshape(len(_FLOORS), n_metrics, n_domains)
    return np.concatenate([floors[:, :, None], t], axis=2)
