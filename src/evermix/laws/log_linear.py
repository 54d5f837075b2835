"""Log-linear law of Olmix (arXiv 2602.12237, section 3): f_i(p) = exp(c_i) + exp(t_i . p).

Fitted by Huber loss (delta 0.02) on the residuals, each metric by itself. For a fixed floor b = exp(c), log(y - b) =
t . p is linear least squares: those fits start a batched Levenberg-Marquardt over (b, t), all metrics and starts at
once. exp of a linear function is convex, so the law is. It has domains + 1 parameters per metric: with fewer runs than
that it is not identified.
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, checked_runs
from evermix.laws.levenberg_marquardt import Ints, LeastSquares, best_of, minimise

_FLOORS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.97)
_LARGEST_EXPONENT = 80.0


class LogLinearLaw(MixingLaw):
    """f_i(p) = exp(c_i) + exp(t_i . p).

    Args:
        huber_delta: where the loss turns linear, in the unit of the metrics (nats or bits per byte); in standard
            deviations of each metric over runs if `scaled`.
        scaled: divide residuals by the metric's standard deviation over runs.
        ridge: weight of |t_i - mean(t_i)|^2 / 2 beside the summed loss; above zero it allows fewer runs than
            parameters, and domains that no run has seen.
        n_restarts: perturbed restarts from the best fit of each metric; some metrics have two basins.
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

    def __init__(
        self,
        huber_delta: float = 0.02,
        scaled: bool = False,
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

    def fit(
        self,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit; see MixingLaw.fit. ObservationError too if runs < live domains + 1 or a domain is dead, at ridge 0."""
        runs = checked_runs(P, Y, sigma, counts)
        mixtures, values, weights = runs.mixtures, runs.values, runs.weights
        self._check_identified(mixtures)
        spread = runs.spread if self.scaled else np.ones(values.shape[1])
        squares = self._squares(mixtures, values, weights / spread)
        start, problem = _profile_starts(mixtures, values)
        n_metrics = values.shape[1]
        best = best_of(minimise(squares, start, problem), problem, n_metrics)
        if self.n_restarts:
            start, problem = self._perturbed(best.theta)
            again = minimise(squares, np.concatenate([best.theta, start]), np.append(np.arange(n_metrics), problem))
            best = best_of(again, np.append(np.arange(n_metrics), problem), n_metrics)
        if not np.isfinite(best.objective).all():
            metric = int(np.argmin(np.isfinite(best.objective)))
            raise ConvergenceError(f"the log-linear fit of metric {metric} must end at a finite objective")
        with np.errstate(divide="ignore"):
            self.c_ = np.log(best.theta[:, 0])
        self.t_ = best.theta[:, 1:]
        self.objective_, self.converged_ = best.objective, best.converged
        self.n_domains_, self.n_metrics_ = mixtures.shape[1], n_metrics
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """exp(c_i) + exp(t_i . p), shape (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        result: Floats = np.exp(self.c_) + np.exp(mixtures @ self.t_.T)
        return result

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """t_ij exp(t_i . p), shape (domains,) -> (metrics, domains)."""
        mixture = self._mixtures(p)
        return np.exp(self.t_ @ mixture)[:, None] * self.t_

    def expressions(self, variable: Any) -> list[Any]:
        """exp(c_i) + exp(t_i . p), one per metric."""
        import cvxpy as cp  # takes a second: only those who solve wait for it

        self._mixtures(np.zeros(variable.shape))
        return [float(np.exp(c)) + cp.exp(t @ variable) for c, t in zip(self.c_, self.t_, strict=True)]

    def _check_identified(self, mixtures: Floats) -> None:
        if self.ridge > 0:
            return
        live = (mixtures > 0).any(axis=0)
        if not live.all():
            raise ObservationError(
                f"every domain must appear in at least one run, domain {int(np.argmin(live))} never does",
                hint="fit without it, or set ridge > 0, which gives it the average effect",
            )
        if len(mixtures) < mixtures.shape[1] + 1:
            raise ObservationError(
                f"a log-linear law over {mixtures.shape[1]} domains needs at least {mixtures.shape[1] + 1} runs",
                received=len(mixtures),
                hint="measure more runs, set ridge > 0, or use the power-link law",
            )

    def _squares(self, mixtures: Floats, values: Floats, weights: Floats) -> LeastSquares:
        n_domains, n_metrics = mixtures.shape[1], values.shape[1]
        targets, scales = values.T, weights.T

        def residuals(theta: Floats, problem: Ints) -> tuple[Floats, Floats]:
            exponent = np.clip(theta[:, 1:] @ mixtures.T, -_LARGEST_EXPONENT, _LARGEST_EXPONENT)
            powers = np.exp(exponent)
            scale = scales[problem]
            J = np.empty((*powers.shape, 1 + n_domains))
            J[:, :, 0] = scale
            J[:, :, 1:] = (scale * powers)[:, :, None] * mixtures
            return scale * (theta[:, :1] + powers - targets[problem]), J

        precision = np.zeros((1 + n_domains, 1 + n_domains))
        precision[1:, 1:] = self.ridge * (np.eye(n_domains) - 1 / n_domains)
        lower = np.append(0.0, np.full(n_domains, -np.inf))
        shape = (n_metrics, 1 + n_domains)
        return LeastSquares(residuals, precision, np.zeros(shape), np.ones(shape, bool), lower, self.huber_delta)

    def _perturbed(self, theta: Floats) -> tuple[Floats, Ints]:
        """n_restarts starts around each metric's fit, half of them near, half far."""
        rng = np.random.default_rng(self.seed)
        n_metrics, q = theta.shape
        width = np.where(np.arange(self.n_restarts) % 2, 1.0, 0.25)[:, None, None]
        starts = np.broadcast_to(theta, (self.n_restarts, n_metrics, q)).copy()
        starts[:, :, 1:] += width * rng.standard_normal((self.n_restarts, n_metrics, q - 1))
        starts[:, :, 0] *= rng.uniform(0.0, 1.0, (self.n_restarts, n_metrics))
        return starts.reshape(-1, q), np.tile(np.arange(n_metrics), self.n_restarts)


def _profile_starts(mixtures: Floats, values: Floats) -> tuple[Floats, Ints]:
    """For each metric and floor b: weighted least squares of log(y - b) on p, weights (y - b)^2 (errors are in y)."""
    n_domains, n_metrics = mixtures.shape[1], values.shape[1]
    floors = np.array(_FLOORS)[:, None] * values.min(axis=0)
    above = values.T - floors[:, :, None]
    weight = above**2 / (above**2).mean(axis=2, keepdims=True)
    normal = np.einsum("ka,smk,kb->smab", mixtures, weight, mixtures) + 1e-6 * np.eye(n_domains)
    right = np.einsum("ka,smk->sma", mixtures, weight * np.log(above))
    t = np.linalg.solve(normal, right[..., None])[..., 0]
    theta = np.concatenate([floors[:, :, None], t], axis=2)
    return theta.reshape(-1, 1 + n_domains), np.tile(np.arange(n_metrics), len(_FLOORS))
