"""Power-link law: f_i(p) = b_i + c_i (sum_j tau_ij p_j^g)^(-a_i), tau = exp(s), b >= 0, c > 0, a > 0, 0 < g <= 1.

The domains add up to one effective amount of data, of which the loss falls as a power. For g <= 1 the amount is
concave in p, and x^(-a) is convex and decreasing, so f is convex. Each metric is fitted by itself, with weak priors
(so that few runs suffice):

    sum_k w_ki^2 ((f_i(p_k) - y_ki) / sd_i)^2 / 2 + n_i [ ridge |s_i - prior_log_tau|^2 / 2
        + prior_weight_a (log a_i - log prior_a)^2 / 2 ],   n_i = (noise_i / (0.1 sd_i))^2

with sd_i the metric's standard deviation over runs and noise_i that of a run around the law, found by a first fit with
n_i = 1 (empirical Bayes: the same objective in units of the noise, priors of fixed width). With one strength for all, a
noisy metric is overfitted, explodes where no run has been, and spoils the mean over metrics; more rounds would take a
misfit of the law for noise and flatten it. a leans on the exponents of data scaling laws (0.1: Kaplan et al. 2020).

Without `own`, c absorbs a common shift of s_i, so the ridge only draws the s_ij together. With `own`, metric i is the
loss on training domain own[i]: tau_i,own = 1, and the prior says how little another domain helps it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.laws.curve_fits import (
    Bools,
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

_FLOORS = (0.2, 0.6, 0.9)
_EXPONENTS = (0.15, 0.6)
_B, _LOG_C, _LOG_A, _S = 0, 1, 2, 3
_LARGEST_EXPONENT = 80.0
_STAGES = ((5, 3), (10, 1))
_ROUGH = Patience(max_iterations=15, tolerance=1e-5)  # enough to find the noise
_FINE = Patience(max_iterations=100, tolerance=1e-8)
_LARGEST_LOG_A = 5.0
_WARM_PATIENCE = Patience(max_iterations=50, tolerance=1e-7)
_TYPICAL_NOISE = 0.1  # of the spread over runs, where the strengths of the priors are as given
_LEAST_NOISE = 0.05


class PowerLinkLaw(MixingLaw):
    """f_i(p) = b_i + c_i (sum_j tau_ij p_j^g)^(-a_i).

    Args:
        g: exponent of a domain's share, in (0, 1]; below 1 the first tokens of a domain help most.
        ridge: weight of the prior on s = log tau.
        prior_a, prior_weight_a: prior on a (log scale) and its weight.
        own: per metric, the column of the domain it is the held-out loss of, or None for other metrics.
        prior_log_tau: prior mean of s_ij.
        noise_rounds: refits that set n_i by the noise found so far; 0 keeps n_i = 1.

    Attributes after fit:
        b_, c_, a_: (metrics,). tau_: (metrics, domains). noise_share_: (metrics,), noise_i / sd_i that set n_i.
    """

    name = "power-link"
    formula = "b + c (sum_j tau_j p_j^g)^(-a)"
    source = "ours; docs/laws.md"

    b_: Floats
    c_: Floats
    a_: Floats
    tau_: Floats
    noise_share_: Floats
    fits_: _PowerFits
    uncertainty_: Uncertainty

    def __init__(
        self,
        g: float = 0.7,
        ridge: float = 1e-2,
        prior_a: float = 0.1,
        prior_weight_a: float = 0.4,
        own: Sequence[int | None] | None = None,
        prior_log_tau: float = 0.0,
        noise_rounds: int = 1,
    ) -> None:
        self.g = g
        self.ridge = ridge
        self.prior_a = prior_a
        self.prior_weight_a = prior_weight_a
        self.own = own
        self.prior_log_tau = prior_log_tau
        self.noise_rounds = noise_rounds

    @property
    def is_convex(self) -> bool:
        """Whether 0 < g <= 1, which fit demands."""
        return 0 < self.g <= 1

    @property
    def has_gradient(self) -> bool:
        """Always."""
        return True

    @property
    def has_std(self) -> bool:
        """Always."""
        return True

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """b, a and domains tau (c is fixed by a common factor of tau)."""
        return n_domains + 2

    def fit(self, runs: Runs) -> Self:
        """Fit; see MixingLaw.fit. Any number of runs from 2 on is accepted: the priors fill in."""
        table = weighted(runs)
        self.noise_share_ = np.full(table.values.shape[1], _TYPICAL_NOISE)
        fits = self._fits(table)
        start, problem = self._starts(table, fits)
        patience = _ROUGH if self.noise_rounds else _FINE
        self._take(table, fits, search(fits, start, problem, _STAGES, patience).best)
        return self._with_found_noise(table)

    def _with_found_noise(self, runs: WeightedRuns) -> Self:
        """Fitted again from here, `noise_rounds` times, with the priors' strength by the noise found so far."""
        for _ in range(self.noise_rounds):
            self.noise_share_ = np.clip(self.noise_ / runs.spread, _LEAST_NOISE, 1.0)
            fits = self._fits(runs)
            self._take(runs, fits, minimise(fits, self._theta(), np.arange(self.n_metrics_), _FINE))
        return self

    def refit(self, runs: Runs) -> Self:
        """A warm start from this solution, few iterations, the same strength of the priors; see MixingLaw.refit."""
        self._check_fitted()
        table = weighted(runs)
        if table.mixtures.shape[1] != self.n_domains_ or table.values.shape[1] != self.n_metrics_:
            raise ObservationError(
                f"refit needs {self.n_domains_} domains and {self.n_metrics_} metrics, as in the fit",
                received=f"{table.mixtures.shape[1]} and {table.values.shape[1]}",
            )
        law = self.clone()
        law._inherit(self)
        fits = law._fits(table)
        solution = minimise(fits, self._theta(), np.arange(self.n_metrics_), _WARM_PATIENCE)
        return law._take(table, fits, solution)

    def predict(self, P: npt.ArrayLike) -> Floats:
        """b_i + c_i (tau_i . p^g)^(-a_i), shape (..., domains) -> (..., metrics)."""
        amount = self._mixtures(P) ** self.g @ self.tau_.T
        with np.errstate(divide="ignore"):
            result: Floats = self.b_ + self.c_ * amount**-self.a_
        return result

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """`predict`, and the standard deviation by the delta method from the parameters' covariance (curve_fits.py)."""
        predicted = self.predict(P)
        powers = self._mixtures(P).reshape(-1, self.n_domains_) ** self.g

        def slopes(metric: int) -> Floats:
            """d f / d (b, log c, log a, s), shape (points, q)."""
            tau, a = self.tau_[metric], self.a_[metric]
            amount = powers @ tau
            fall = self.c_[metric] * amount**-a
            head = np.column_stack([np.ones(len(powers)), fall, -fall * a * np.log(amount)])
            return np.hstack([head, (-fall * a / amount)[:, None] * powers * tau])

        std = standard_deviations(self.fits_, self._theta(), self.uncertainty_, slopes)
        return predicted, std.reshape(predicted.shape)

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """-a c (tau_i . p^g)^(-a-1) tau_ij g p_j^(g-1), (domains,) -> (metrics, domains); -inf at p_j = 0 if g < 1."""
        mixture = self._mixtures(p)
        amount = self.tau_ @ mixture**self.g
        with np.errstate(divide="ignore"):
            inner = self.tau_ * (self.g * mixture ** (self.g - 1))
            return -(self.a_ * self.c_ * amount ** (-self.a_ - 1))[:, None] * inner

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """With A = tau . p^g: d_ij = a c A^(-a-1) tau_ij g (1-g) p_j^(g-2), s_i = (a+1) / (a c A^(-a)); infinite at 0.

        Hessian of c A^-a: -a c A^(-a-1) A'' + a (a+1) c A^(-a-2) A' A'^T, and A' = -g_i / (a c A^(-a-1)).
        """
        mixture = self._mixtures(p)
        amount = self.tau_ @ mixture**self.g
        s = (self.a_ + 1) / (self.a_ * self.c_ * amount**-self.a_)
        if self.g == 1:
            return np.zeros_like(self.tau_), s
        with np.errstate(divide="ignore"):
            bend = self.tau_ * (self.g * (1 - self.g) * mixture ** (self.g - 2))
        return (self.a_ * self.c_ * amount ** (-self.a_ - 1))[:, None] * bend, s

    def expressions(self, variable: Any) -> list[Any]:
        """b + exp(log c - a log(tau . p^g)): exact exponential and power cones, no rational approximation of a."""
        import cvxpy as cp  # takes a second: only those who solve wait for it

        self._mixtures(np.zeros(variable.shape))
        powers = variable if self.g == 1 else cp.power(variable, self.g, approx=False)
        rows = zip(self.b_, self.c_, self.a_, self.tau_, strict=True)
        return [float(b) + cp.exp(float(np.log(c)) - float(a) * cp.log(tau @ powers)) for b, c, a, tau in rows]

    def _inherit(self, other: Self) -> None:
        """Take over what sets the priors, before a warm start."""
        self.noise_share_ = other.noise_share_

    def _theta(self) -> Floats:
        """(b, log c, log a, log tau) per metric, shape (metrics, q)."""
        return np.column_stack([self.b_, np.log(self.c_), np.log(self.a_), np.log(self.tau_)])

    def _take(self, runs: WeightedRuns, fits: _PowerFits, solution: Solution) -> Self:
        if not np.isfinite(solution.objective).all():
            metric = int(np.argmin(np.isfinite(solution.objective)))
            raise ConvergenceError(f"the power-link fit of metric {metric} must end at a finite objective")
        theta = solution.theta
        self.b_, self.c_ = theta[:, _B], np.exp(theta[:, _LOG_C])
        self.a_, self.tau_ = np.exp(theta[:, _LOG_A]), np.exp(theta[:, _S:])
        self.objective_, self.converged_ = solution.objective, solution.converged
        self.fits_ = fits
        known = (runs.weights > 0).T.astype(float)
        self.uncertainty_ = noise_of(fits, theta, known, _TYPICAL_NOISE / self.noise_share_)
        self.noise_ = self.uncertainty_.noise * runs.spread * self.noise_share_ / _TYPICAL_NOISE
        self.n_domains_, self.n_metrics_ = self.tau_.shape[1], len(theta)
        return self

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

    def _fits(self, runs: WeightedRuns) -> _PowerFits:
        free = self._free(runs.values.shape[1], runs.mixtures.shape[1])
        n_metrics, q = free.shape
        mean = np.full((n_metrics, q), self.prior_log_tau)
        mean[:, :_S] = 0.0, 0.0, np.log(self.prior_a)
        mean[~free] = 0.0
        unit = runs.spread * self.noise_share_ / _TYPICAL_NOISE
        return _PowerFits(
            precision=np.diag([0.0, 1e-9, self.prior_weight_a, *[self.ridge] * (q - _S)]),
            mean=mean,
            free=free,
            lower=np.append(0.0, np.full(q - 1, -np.inf)),
            multiplicity=runs.counts,
            gram=WeightedGram(runs.mixtures**self.g),
            targets=np.ascontiguousarray(runs.values.T),
            scales=np.ascontiguousarray((runs.precision / unit).T),
        )

    def _starts(self, runs: WeightedRuns, fits: _PowerFits) -> tuple[Floats, Ints]:
        """For each floor b and exponent a: ridge least squares of (y - b)^(-1/a) on p^g, whose solution is tau."""
        n_metrics, q = fits.free.shape
        powers, known = fits.gram.X, (runs.weights > 0).T
        weights = runs.weights.T**2
        gram = fits.gram(weights)
        trace = np.einsum("ijj->i", gram) / (q - _S)
        gram += 0.03 * trace[:, None, None] * np.eye(q - _S)
        least = np.where(known, runs.values.T, np.inf).min(axis=1)
        whole = fits.free[:, _S:].all(axis=1)
        starts = []
        for fraction in _FLOORS:
            for a in _EXPONENTS:
                b = fraction * least
                log_amount = -np.log(np.where(known, runs.values.T - b[:, None], 1.0)) / a
                shift = np.where(known, log_amount, -np.inf).max(axis=1)
                right = (weights * np.exp(np.where(known, log_amount - shift[:, None], 0.0))) @ powers
                tau = np.linalg.solve(gram, right[:, :, None])[:, :, 0]
                tau = np.maximum(tau, 0.03 * tau.mean(axis=1, keepdims=True).clip(1e-12))
                s = np.log(tau)
                level = np.where(whole, s.mean(axis=1) - self.prior_log_tau, 0.0)
                if self.own is not None:
                    level = np.array([s[i, j] if j is not None else level[i] for i, j in enumerate(self.own)])
                head = np.column_stack([b, -a * (shift + level), np.full(n_metrics, np.log(a))])
                starts.append(np.hstack([head, s - level[:, None]]))
        return np.concatenate(starts), np.tile(np.arange(n_metrics), len(starts))


@dataclass(frozen=True, kw_only=True)
class _PowerFits(CurveFits):
    """Residuals w (b + F - y) with F = exp(e), e = log c - a L, L = log A, A = sum_j tau_j x_j, x = p^g.

    With q_j = tau_j x_j / A: e' = (1, -a L, -a q) in (log c, log a, s), F' = F e' and F'' = F (e' e'^T + e''), where
    e'' is -a L for (log a, log a), -a q for (log a, s) and -a (diag(q) - q q^T) for (s, s). Every Gram is a weighted
    x x'.
    """

    gram: WeightedGram
    targets: Floats
    scales: Floats

    @property
    def has_second_derivatives(self) -> bool:
        return True

    def evaluate(self, theta: Floats, problem: Ints) -> tuple[Floats, Point]:
        tau = np.exp(np.clip(theta[:, _S:], -_LARGEST_EXPONENT, _LARGEST_EXPONENT))
        a = np.exp(np.minimum(theta[:, _LOG_A], _LARGEST_LOG_A))[:, None]
        amount = np.maximum(tau @ self.gram.X.T, 1e-300)
        log_amount = np.log(amount)
        fall = np.exp(np.minimum(theta[:, _LOG_C, None] - a * log_amount, _LARGEST_EXPONENT))
        scale = self.scales[problem]
        return scale * (theta[:, :1] + fall - self.targets[problem]), (scale, scale * fall, log_amount, amount, tau, a)

    def normal(
        self, theta: Floats, problem: Ints, point: Point, slope: Floats, weight: Floats, bend: Floats | None
    ) -> tuple[Floats, Floats]:
        scale, fall, log_amount, amount, tau, a = point
        X, n_head = self.gram.X, _S
        head = np.stack([scale, fall, -a * log_amount * fall], axis=1)  # (batch, 3, runs)
        tail = -a * fall / amount  # times tau_j x_j
        gradient, hessian = np.empty(theta.shape), np.empty((*theta.shape, theta.shape[1]))
        gradient[:, :n_head] = (head @ slope[:, :, None])[:, :, 0]
        gradient[:, n_head:] = ((slope * tail) @ X) * tau
        weighted = head * weight[:, None, :]
        hessian[:, :n_head, :n_head] = weighted @ head.transpose(0, 2, 1)
        cross, inner = weighted * tail[:, None, :], weight * tail**2
        if bend is not None:
            bent = bend * head[:, 2]  # bend F e'_a
            hessian[:, 1, 1] += (bend * fall).sum(axis=1)
            hessian[:, 1, 2] += bent.sum(axis=1)
            hessian[:, 2, 1] += bent.sum(axis=1)
            hessian[:, 2, 2] += (bent * (1 - a * log_amount)).sum(axis=1)
            cross[:, 1] += bend * tail
            cross[:, 2] += bend * tail * (1 - a * log_amount)
            inner += bend * fall * (a**2 + a) / amount**2
        across = (cross.reshape(-1, X.shape[0]) @ X).reshape(len(theta), n_head, -1) * tau[:, None, :]
        hessian[:, :n_head, n_head:] = across
        hessian[:, n_head:, :n_head] = across.transpose(0, 2, 1)
        hessian[:, n_head:, n_head:] = self.gram(inner) * tau[:, :, None] * tau[:, None, :]
        if bend is not None:
            np.einsum("bqq->bq", hessian)[:, n_head:] += ((bend * tail) @ X) * tau
        return gradient, hessian


class PooledPowerLinkLaw(PowerLinkLaw):
    """Power-link with what the metrics of one swarm share: each metric's log tau leans on those of metrics like it.

        s_i ~ N(s0_i, 1 / ridge),  s0_i = sum_{k != i} h_ik (s_k - mean s_k) / (1 + sum_{k != i} h_ik),
        h_ik = max(r_ik, 0)^q,

    s_k from a fit of each metric alone, r the correlation of two metrics over runs, 1 in the denominator a metric that
    knows nothing. With about as many runs as domains it ranks new mixtures slightly better than fits that know nothing
    of each other (docs/log/laws.md); with many runs it makes no difference.

    Args:
        g, ridge, prior_a, prior_weight_a: as in PowerLinkLaw.
        similarity: q, how alike two metrics must be to lean on each other.

    Attributes after fit:
        b_, c_, a_: (metrics,). tau_, shared_log_tau_: (metrics, domains).
    """

    name = "pooled-power-link"
    source = "ours; docs/laws.md"
    own = None
    prior_log_tau = 0.0

    shared_log_tau_: Floats

    def __init__(
        self,
        g: float = 0.7,
        ridge: float = 0.01,
        prior_a: float = 0.1,
        prior_weight_a: float = 0.4,
        similarity: float = 6.0,
    ) -> None:
        self.g = g
        self.ridge = ridge
        self.prior_a = prior_a
        self.prior_weight_a = prior_weight_a
        self.similarity = similarity

    @property
    def pools_metrics(self) -> bool:
        """Always."""
        return True

    def fit(self, runs: Runs) -> Self:
        """Fit each metric alone, then all with the shared prior from there; see MixingLaw.fit."""
        alone = PowerLinkLaw(self.g, self.ridge, self.prior_a, self.prior_weight_a).fit(runs)
        table = weighted(runs)
        self.shared_log_tau_ = _shared(np.log(alone.tau_), _likeness(table, self.similarity))
        self.noise_share_ = alone.noise_share_
        fits = self._fits(table)
        return self._take(table, fits, minimise(fits, alone._theta(), np.arange(alone.n_metrics_)))

    def _inherit(self, other: Self) -> None:
        super()._inherit(other)
        self.shared_log_tau_ = other.shared_log_tau_

    def _fits(self, runs: WeightedRuns) -> _PowerFits:
        fits = super()._fits(runs)
        mean = fits.mean.copy()
        mean[:, -self.shared_log_tau_.shape[1] :] = self.shared_log_tau_
        return replace(fits, mean=mean)


def _likeness(runs: WeightedRuns, similarity: float) -> Floats:
    """max(r, 0)^q between metrics over runs, 0 with itself, (metrics, metrics); missing cells count as average."""
    weight = runs.weights**2
    mean = (weight * runs.values).sum(axis=0) / weight.sum(axis=0)
    z = np.where(runs.weights > 0, runs.values - mean, 0.0) * np.sqrt(runs.counts)[:, None]
    size = np.sqrt((z**2).sum(axis=0))
    r = np.clip((z.T @ z) / np.maximum(np.outer(size, size), 1e-300), 0.0, 1.0)
    np.fill_diagonal(r, 0.0)
    result: Floats = r**similarity
    return result


def _shared(log_tau: Floats, likeness: Floats) -> Floats:
    """s0 of PooledPowerLinkLaw's formula, (metrics, domains)."""
    centred = log_tau - log_tau.mean(axis=1, keepdims=True)
    result: Floats = likeness @ centred / (1 + likeness.sum(axis=1, keepdims=True))
    return result
