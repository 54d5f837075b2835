"""Power-link law: f_i(p) = b_i + c_i (sum_j tau_ij p_j^g)^(-a_i), tau = exp(s), b >= 0, c > 0, a > 0, 0 < g <= 1.

The domains add up to one effective amount of data, of which the loss falls as a power. For g <= 1 the amount is
concave in p, and x^(-a) is convex and decreasing, so f is convex. Each metric is fitted by itself, residuals in
standard deviations of the metric over runs, with weak priors (so that few runs suffice):

    sum_k ((f_i(p_k) - y_ki) / sd_i)^2 / 2 + ridge |s_i - prior_log_tau|^2 / 2
        + prior_weight_a (log a_i - log prior_a)^2 / 2

Without `own`, c absorbs a common shift of s_i, so the ridge only draws the s_ij together. With `own`, metric i is the
loss on training domain own[i]: tau_i,own = 1, and the prior says how little another domain helps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, checked_runs
from evermix.laws.levenberg_marquardt import Bools, Ints, LeastSquares, best_of, minimise

_FLOORS = (0.2, 0.6, 0.9)
_EXPONENTS = (0.15, 0.6)
_B, _LOG_C, _LOG_A, _S = 0, 1, 2, 3
_LARGEST_EXPONENT = 80.0


class PowerLinkLaw(MixingLaw):
    """f_i(p) = b_i + c_i (sum_j tau_ij p_j^g)^(-a_i).

    Args:
        g: exponent of a domain's share, in (0, 1]; below 1 the first tokens of a domain help most.
        ridge: weight of the prior on s = log tau.
        prior_a, prior_weight_a: prior on a (log scale) and its weight.
        own: per metric, the column of the domain it is the held-out loss of, or None for other metrics.
        prior_log_tau: prior mean of s_ij.

    Attributes after fit:
        b_, c_, a_: (metrics,). tau_: (metrics, domains).
    """

    name = "power-link"
    formula = "b + c (sum_j tau_j p_j^g)^(-a)"
    source = "ours; docs/laws.md"

    b_: Floats
    c_: Floats
    a_: Floats
    tau_: Floats

    def __init__(
        self,
        g: float = 0.7,
        ridge: float = 1e-2,
        prior_a: float = 0.5,
        prior_weight_a: float = 0.1,
        own: Sequence[int | None] | None = None,
        prior_log_tau: float = 0.0,
    ) -> None:
        self.g = g
        self.ridge = ridge
        self.prior_a = prior_a
        self.prior_weight_a = prior_weight_a
        self.own = own
        self.prior_log_tau = prior_log_tau

    @classmethod
    def for_probes(
        cls, own: Sequence[int | None], prior_weight: float = 0.3, prior_log_tau: float = -3.5, prior_a: float = 0.3
    ) -> PowerLinkLaw:
        """The probe law: fitted on the (domains + 1) x domains losses of the probes, g = 1, tau_i,own = 1.

        The prior on tau says that a token of another domain is worth 3% of an own one until the probes say otherwise.
        Probes are short and overstate transfer: -3.5 ranked really trained mixtures better than -2.5 (docs/log.md).
        """
        return cls(1.0, prior_weight, prior_a, prior_weight, own, prior_log_tau)

    @property
    def is_convex(self) -> bool:
        """Whether 0 < g <= 1, which fit demands."""
        return 0 < self.g <= 1

    def fit(
        self,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Self:
        """Fit; see MixingLaw.fit. Any number of runs from 2 on is accepted: the priors fill in."""
        runs = checked_runs(P, Y, sigma, counts)
        mixtures, values, weights = runs.mixtures, runs.values, runs.weights
        n_metrics, n_domains = values.shape[1], mixtures.shape[1]
        free = self._free(n_metrics, n_domains)
        spread = runs.spread
        squares = self._squares(mixtures**self.g, values, weights / spread, free)
        start, problem = self._starts(mixtures**self.g, values, free)
        best = best_of(minimise(squares, start, problem), problem, n_metrics)
        if not np.isfinite(best.objective).all():
            metric = int(np.argmin(np.isfinite(best.objective)))
            raise ConvergenceError(f"the power-link fit of metric {metric} must end at a finite objective")
        self.b_, self.c_ = best.theta[:, _B], np.exp(best.theta[:, _LOG_C])
        self.a_, self.tau_ = np.exp(best.theta[:, _LOG_A]), np.exp(best.theta[:, _S:])
        self.objective_, self.converged_ = best.objective, best.converged
        self.n_domains_, self.n_metrics_ = n_domains, n_metrics
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """b_i + c_i (tau_i . p^g)^(-a_i), shape (..., domains) -> (..., metrics)."""
        amount = self._mixtures(P) ** self.g @ self.tau_.T
        with np.errstate(divide="ignore"):
            result: Floats = self.b_ + self.c_ * amount**-self.a_
        return result

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """-a c (tau_i . p^g)^(-a-1) tau_ij g p_j^(g-1), (domains,) -> (metrics, domains); -inf at p_j = 0 if g < 1."""
        mixture = self._mixtures(p)
        amount = self.tau_ @ mixture**self.g
        with np.errstate(divide="ignore"):
            inner = self.tau_ * (self.g * mixture ** (self.g - 1))
            return -(self.a_ * self.c_ * amount ** (-self.a_ - 1))[:, None] * inner

    def expressions(self, variable: Any) -> list[Any]:
        """b + exp(log c - a log(tau . p^g)): exact exponential and power cones, no rational approximation of a."""
        import cvxpy as cp  # takes a second: only those who solve wait for it

        self._mixtures(np.zeros(variable.shape))
        powers = variable if self.g == 1 else cp.power(variable, self.g, approx=False)
        rows = zip(self.b_, self.c_, self.a_, self.tau_, strict=True)
        return [float(b) + cp.exp(float(np.log(c)) - float(a) * cp.log(tau @ powers)) for b, c, a, tau in rows]

    def _free(self, n_metrics: int, n_domains: int) -> Bools:
        """Which parameters move, shape (metrics, 3 + domains); checks the hyperparameters."""
        if not 0 < self.g <= 1:
            raise ObservationError("g of the power-link law must be in (0, 1]", received=self.g)
        free = np.ones((n_metrics, _S + n_domains), dtype=bool)
        if self.own is None:
            return free
        if len(self.own) != n_metrics or any(j is not None and not 0 <= j < n_domains for j in self.own):
            raise ObservationError(
                f"own must give each of {n_metrics} metrics a column below {n_domains}, or None",
                received=list(self.own),
            )
        for i, j in enumerate(self.own):
            if j is not None:
                free[i, _S + j] = False
        return free

    def _squares(self, powers: Floats, values: Floats, weights: Floats, free: Bools) -> LeastSquares:
        n_metrics, q = free.shape
        targets, scales = values.T, weights.T

        def residuals(theta: Floats, problem: Ints) -> tuple[Floats, Floats]:
            theta = np.clip(theta, -_LARGEST_EXPONENT, _LARGEST_EXPONENT * 10)
            tau = np.exp(np.clip(theta[:, _S:], -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
            a = np.exp(np.minimum(theta[:, _LOG_A], 5.0))[:, None]
            amount = np.maximum(tau @ powers.T, 1e-300)
            log_amount = np.log(amount)
            fall = np.exp(np.minimum(theta[:, _LOG_C, None] - a * log_amount, _LARGEST_EXPONENT))
            scale = scales[problem]
            J = np.empty((*fall.shape, q))
            J[:, :, _B] = scale
            J[:, :, _LOG_C] = scale * fall
            J[:, :, _LOG_A] = -scale * fall * a * log_amount
            J[:, :, _S:] = (-scale * fall * a / amount)[:, :, None] * powers * tau[:, None, :]
            return scale * (theta[:, :1] + fall - targets[problem]), J

        precision = np.diag([0.0, 1e-9, self.prior_weight_a, *[self.ridge] * (q - _S)])
        mean = np.full((n_metrics, q), self.prior_log_tau)
        mean[:, :_S] = 0.0, 0.0, np.log(self.prior_a)
        mean[~free] = 0.0
        lower = np.append(0.0, np.full(q - 1, -np.inf))
        return LeastSquares(residuals, precision, mean, free, lower)

    def _starts(self, powers: Floats, values: Floats, free: Bools) -> tuple[Floats, Ints]:
        """For each floor b and exponent a: ridge least squares of (y - b)^(-1/a) on p^g, whose solution is tau."""
        n_metrics, q = free.shape
        gram = powers.T @ powers
        gram += 0.03 * np.trace(gram) / len(gram) * np.eye(len(gram))
        starts = []
        for fraction in _FLOORS:
            for a in _EXPONENTS:
                b = fraction * values.min(axis=0)
                log_amount = -np.log(values - b) / a
                shift = log_amount.max(axis=0)
                tau = np.linalg.solve(gram, powers.T @ np.exp(log_amount - shift)).T
                tau = np.maximum(tau, 0.03 * tau.mean(axis=1, keepdims=True).clip(1e-12))
                s = np.log(tau)
                level = np.where(free[:, _S:].all(axis=1), s.mean(axis=1) - self.prior_log_tau, 0.0)
                if self.own is not None:
                    level = np.array([s[i, j] if j is not None else level[i] for i, j in enumerate(self.own)])
                theta = np.empty((n_metrics, q))
                theta[:, _B], theta[:, _LOG_A] = b, np.log(a)
                theta[:, _LOG_C] = -a * (shift + level)
                theta[:, _S:] = s - level[:, None]
                starts.append(theta)
        return np.concatenate(starts), np.tile(np.arange(n_metrics), len(starts))
