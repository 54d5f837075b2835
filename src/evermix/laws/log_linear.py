"""Log-linear law of Olmix (arXiv 2602.12237, section 3): f_i(p) = exp(c_i) + exp(t_i . p).

Fitted by Huber loss on the residuals, each metric by itself:

    sum_k n_k rho(w_ki (f_i(p_k) - y_ki) / u_i) + ridge |t_i - mean(t_i)|^2 / 2,     exp(c_i) >= 0,

u_i = sd_i n_i / 0.3: the metric's standard deviation over runs, and its noise n_i, a share of that, which a first fit
(n_i = 0.3) finds. So the ridge has no unit, is strong where runs are noisy, and biases nothing where they are exact.

For a fixed floor b = exp(c), log(y - b) = t . p is linear least squares: those fits, and random points, start a
batched Levenberg-Marquardt over (b, t), all metrics and starts at once. exp of a linear function is convex, so the law
is. It has domains + 1 parameters per metric: with about as many runs as that and no ridge, t is whatever the noise
makes of it, and exp(t . p) of a mixture that no run came near is any number (10^22 was seen). The ridge draws the
domains' slopes towards their mean: of a domain that no run tells of the law knows the average effect.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.laws.curve_fits import (
    CurveFits,
    Ints,
    Patience,
    Point,
    Solution,
    Uncertainty,
    WeightedGram,
    minimise,
    noise_of,
    search,
    standard_deviations,
)
from evermix.observations.runs import Runs

_FLOORS = (0.3, 0.9)
_LARGEST_EXPONENT = 80.0
_FIRST_STAGES, _FURTHER_STAGES = ((7, 5), (20, 2)), ((10, 16), (20, 6), (20, 2))
_N_FIRST = 6
_WIDTHS = (1.0, 3.0)
_WARM_PATIENCE = Patience(max_iterations=50, tolerance=1e-7)
_TINY_RIDGE = 1e-6
_TYPICAL_NOISE, _LEAST_NOISE = 0.3, 0.01  # of the spread over runs


class LogLinearLaw(MixingLaw):
    """f_i(p) = exp(c_i) + exp(t_i . p).

    The published fit is `LogLinearLaw(huber_delta=0.02, scaled=False, ridge=0.0)`.

    Args:
        huber_delta: where the loss turns linear: in standard deviations of each metric over runs if `scaled`, else in
            the unit of the metrics (nats or bits per byte).
        scaled: divide residuals by u_i, so that no unit matters; else they stay in the unit of the metrics.
        ridge: as above. Over zero it allows fewer runs than parameters, and domains that no run has seen.
        n_restarts: random starts beside the profile starts, most of them only for metrics with several basins.
        seed: of the random starts.

    Attributes after fit:
        c_: (metrics,), log of the floor, -inf where the floor is zero.
        t_: (metrics, domains). noise_share_: (metrics,), n_i.
    """

    name = "log-linear"
    formula = "exp(c) + exp(t . p)"
    source = "Olmix, arXiv 2602.12237, section 3"

    c_: Floats
    t_: Floats
    noise_share_: Floats
    fits_: _ExponentialFits
    uncertainty_: Uncertainty

    def __init__(
        self,
        huber_delta: float = 0.5,
        scaled: bool = True,
        ridge: float = 1e-3,
        n_restarts: int = 40,
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

    def fit(self, runs: Runs) -> Self:
        """Fit; see MixingLaw.fit. ObservationError too if runs < domains + 1 or a domain is in no run, at ridge 0."""
        table = weighted(runs)
        if self.ridge == 0:
            _check_identified(table)
        self.noise_share_ = np.full(table.values.shape[1], _TYPICAL_NOISE)
        fits = self._fits(table)
        self._take(table, fits, self._search(table, fits))
        if self.scaled and self.ridge > 0:
            self.noise_share_ = np.clip(self.noise_ / table.spread, _LEAST_NOISE, 1.0)
            fits = self._fits(table)
            self._take(table, fits, minimise(fits, self._theta(), np.arange(self.n_metrics_)))
        return self

    def refit(self, runs: Runs) -> Self:
        """Started from this solution and from one profile fit; a ridge of 1e-6 towards this solution, at ridge 0,
        keeps in place what the runs do not identify.
        """
        self._check_fitted()
        table = weighted(runs)
        if table.mixtures.shape[1] != self.n_domains_ or table.values.shape[1] != self.n_metrics_:
            raise ObservationError(
                f"refit needs {self.n_domains_} domains and {self.n_metrics_} metrics, as in the fit",
                received=f"{table.mixtures.shape[1]} and {table.values.shape[1]}",
            )
        theta, law = self._theta(), self.clone()
        law.noise_share_ = self.noise_share_
        fits = law._fits(table, around=theta if self.ridge == 0 else None)
        start, problem = _rows(np.stack([theta, _profile_starts(table)[1]]), np.arange(self.n_metrics_))
        return law._take(table, fits, search(fits, start, problem, (), _WARM_PATIENCE).best)

    def predict(self, P: npt.ArrayLike) -> Floats:
        """exp(c_i) + exp(t_i . p), shape (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        result: Floats = np.exp(self.c_) + _power(mixtures @ self.t_.T)
        return result

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """`predict`, and the standard deviation by the delta method from the parameters' covariance (curve_fits.py)."""
        predicted = self.predict(P)
        points = self._mixtures(P).reshape(-1, self.n_domains_)

        def slopes(metric: int) -> Floats:
            return np.column_stack([np.ones(len(points)), _power(points @ self.t_[metric])[:, None] * points])

        std = standard_deviations(self.fits_, self._theta(), self.uncertainty_, slopes)
        return predicted, std.reshape(predicted.shape)

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """t_ij exp(t_i . p), shape (domains,) -> (metrics, domains)."""
        mixture = self._mixtures(p)
        slopes: Floats = _power(self.t_ @ mixture)[:, None] * self.t_
        return slopes

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Hessian e^{t.p} t t' = g g' / e^{t.p}: d = 0, s_i = exp(-t_i . p)."""
        mixture = self._mixtures(p)
        return np.zeros_like(self.t_), _power(-(self.t_ @ mixture))

    def expressions(self, variable: Any) -> list[Any]:
        """exp(c_i) + exp(t_i . p), one per metric."""
        import cvxpy as cp  # takes a second: only those who solve wait for it

        self._mixtures(np.zeros(variable.shape))
        return [float(np.exp(c)) + cp.exp(t @ variable) for c, t in zip(self.c_, self.t_, strict=True)]

    def _theta(self) -> Floats:
        """(b, t) per metric, shape (metrics, 1 + domains)."""
        return np.column_stack([np.exp(self.c_), self.t_])

    def _unit(self, runs: WeightedRuns) -> Floats:
        """u_i, shape (metrics,)."""
        return runs.spread * self.noise_share_ / _TYPICAL_NOISE if self.scaled else np.ones_like(runs.spread)

    def _take(self, runs: WeightedRuns, fits: _ExponentialFits, solution: Solution) -> Self:
        if not np.isfinite(solution.objective).all():
            metric = int(np.argmin(np.isfinite(solution.objective)))
            raise ConvergenceError(f"the log-linear fit of metric {metric} must end at a finite objective")
        with np.errstate(divide="ignore"):
            self.c_ = np.log(solution.theta[:, 0])
        self.t_ = solution.theta[:, 1:]
        self.objective_, self.converged_ = solution.objective, solution.converged
        unit = self._unit(runs)
        known = (runs.weights > 0).T.astype(float)
        self.fits_ = fits
        self.uncertainty_ = noise_of(fits, solution.theta, known, runs.spread / unit)
        self.noise_ = self.uncertainty_.noise * unit
        self.n_domains_, self.n_metrics_ = self.t_.shape[1], self.t_.shape[0]
        return self

    def _fits(self, runs: WeightedRuns, around: Floats | None = None) -> _ExponentialFits:
        n_domains, n_metrics = runs.mixtures.shape[1], runs.values.shape[1]
        unit = self._unit(runs)
        delta = self.huber_delta * (runs.spread / unit if self.scaled else np.ones(n_metrics))
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
            huber_delta=delta,
            multiplicity=runs.counts,
            gram=WeightedGram(runs.mixtures),
            targets=np.ascontiguousarray(runs.values.T),
            scales=np.ascontiguousarray((runs.precision / unit).T),
        )

    def _search(self, runs: WeightedRuns, fits: _ExponentialFits) -> Solution:
        """The profile starts and a few random ones; the rest of n_restarts for metrics whose ends differ."""
        rng, profile = np.random.default_rng(self.seed), _profile_starts(runs)
        n_metrics = profile.shape[1]
        scattered = _scattered(runs, min(self.n_restarts, _N_FIRST), rng)
        start, problem = _rows(np.concatenate([profile, scattered]), np.arange(n_metrics))
        first = search(fits, start, problem, _FIRST_STAGES)
        open_problems = np.flatnonzero(~first.agreed)
        n_further = self.n_restarts - len(scattered)
        if n_further <= 0 or not len(open_problems):
            return first.best
        scattered = _scattered(runs, n_further, rng)[:, open_problems]
        start, place = _rows(scattered, np.arange(len(open_problems)))
        further = search(fits.of(open_problems), start, place, _FURTHER_STAGES).best
        better = further.objective < first.best.objective[open_problems]
        for name, values in vars(first.best).items():
            values[open_problems[better]] = getattr(further, name)[better]
        return first.best


@dataclass(frozen=True, kw_only=True)
class _ExponentialFits(CurveFits):
    """Residuals w (b + e - y), e = exp(t . p): r' = w (1, e p) and r'' = w e p p', so every Gram is weighted P'P."""

    gram: WeightedGram
    targets: Floats
    scales: Floats

    def of(self, problems: Ints) -> _ExponentialFits:
        """The fits of some metrics."""
        some = {name: getattr(self, name)[problems] for name in ("mean", "free", "huber_delta", "targets", "scales")}
        return replace(self, **some)

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


def _power(exponent: Floats) -> Floats:
    """exp, at most exp(80): far outside what runs measured the law explodes, and stays a number."""
    result: Floats = np.exp(np.minimum(exponent, _LARGEST_EXPONENT))
    return result


def _check_identified(runs: WeightedRuns) -> None:
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


def _profile_starts(runs: WeightedRuns) -> Floats:
    """For each floor b, shape (floors, metrics, q): least squares of log(y - b) on p, weighted by (y - b)^2."""
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


def _scattered(runs: WeightedRuns, n: int, rng: np.random.Generator) -> Floats:
    """n random starts, shape (n, metrics, q): floor b between 0 and the least value, t about log(mean - b) - (0 to 2).

    Every metric is given the same draws, so that it is fitted alike alone and among others, in any unit.
    """
    n_domains, n_metrics = runs.mixtures.shape[1], runs.values.shape[1]
    share = runs.weights**2 / (runs.weights**2).sum(axis=0)
    least, mean = np.where(share > 0, runs.values, np.inf).min(axis=0), (share * runs.values).sum(axis=0)
    floor = rng.uniform(0.0, 1.0, (n, 1)) * least
    width = np.array(_WIDTHS)[np.arange(n) % len(_WIDTHS)][:, None, None]
    level = np.log(np.maximum(mean - floor, 1e-9 * mean)) - rng.uniform(0.0, 2.0, (n, 1))
    t = level[:, :, None] + width * rng.standard_normal((n, 1, n_domains))
    return np.concatenate([np.broadcast_to(floor[:, :, None], (n, n_metrics, 1)), t], axis=2)


def _rows(starts: Floats, problems: Ints) -> tuple[Floats, Ints]:
    """(starts, metrics, q) as a batch, with the problem of each row."""
    return starts.reshape(-1, starts.shape[2]), np.tile(problems, len(starts))
