"""Separable laws, BiMix and AutoScale: f_i is a constant plus one convex, decreasing term per domain.

Both are fitted by batched Levenberg-Marquardt with targets in standard deviations of each metric over runs, so that
a metric's unit does not count. A sum of functions of one p_j each has a diagonal Hessian.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import Floats, MixingLaw, WeightedRuns, weighted
from evermix.laws.curve_fits import Ints, LeastSquares, Patience, Solution, best_of, minimise
from evermix.observations.runs import Runs

_PATIENCE = Patience(max_iterations=100, tolerance=1e-5)
_EXPONENTS = (0.03, 0.15, 0.6)
_STARTS = ((0.03, 0.3), (0.3, 0.5))


@dataclass(frozen=True)
class Terms:
    """f_i(p) = constant_i + sum_j factor_ij (shift_ij + p_j)^(-exponent_ij), exponents and factors >= 0.

    constant (metrics,); factor, shift and exponent (metrics, domains).
    """

    constant: Floats
    factor: Floats
    shift: Floats
    exponent: Floats

    def each(self, p: Floats) -> Floats:
        """The terms at mixtures (..., domains) -> (..., metrics, domains)."""
        result: Floats = self.factor * (self.shift + p[..., None, :]) ** -self.exponent
        return result


class SeparableLaw(MixingLaw):
    """A constant plus one term c (s + p_j)^(-a) per domain; subclasses say how parameters make the terms."""

    terms_: Terms

    @property
    def is_convex(self) -> bool:
        """Always: factors and exponents are held >= 0, and shifts > 0."""
        return True

    @property
    def has_gradient(self) -> bool:
        """Always."""
        return True

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """Two per domain, and the constant; priors fill in where runs are fewer."""
        return 2 * n_domains + 1

    @abstractmethod
    def _squares(self, mixtures: Floats, targets: Floats, scales: Floats) -> LeastSquares:
        """The least-squares problems of targets and scales, both (metrics, runs)."""

    @abstractmethod
    def _starts(self, mixtures: Floats, targets: Floats) -> list[Floats]:
        """Starting parameters, each (metrics, parameters)."""

    @abstractmethod
    def _terms(self, theta: Floats, unit: Floats) -> Terms:
        """Terms in the metric's unit of fitted theta (metrics, parameters) in units of `unit` (metrics,)."""

    def fit(self, runs: Runs) -> Self:
        """Fit; see MixingLaw.fit. Any number of runs from 2 on is accepted: the priors fill in."""
        table = weighted(runs)
        n_metrics, unit = table.values.shape[1], table.spread
        squares = self._squares(table.mixtures, (table.values / unit).T, table.weights.T)
        starts = self._starts(table.mixtures, (table.values / unit).T)
        problem = np.tile(np.arange(n_metrics), len(starts))
        best = best_of(minimise(squares, np.concatenate(starts), problem, _PATIENCE), problem, n_metrics)
        if not np.isfinite(best.objective).all():
            metric = int(np.argmin(np.isfinite(best.objective)))
            raise ConvergenceError(f"the {self.name} fit of metric {metric} must end at a finite objective")
        self.terms_ = self._terms(best.theta, unit)
        self.objective_, self.converged_ = best.objective, best.converged
        self.noise_ = _noise(squares, best, table) * unit
        self.n_domains_, self.n_metrics_ = table.mixtures.shape[1], n_metrics
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """The formula, shape (..., domains) -> (..., metrics)."""
        mixtures = self._mixtures(P)
        result: Floats = self.terms_.constant + self.terms_.each(mixtures).sum(axis=-1)
        return result

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """-a_ij f_ij / (s_ij + p_j) for the term f_ij, shape (domains,) -> (metrics, domains)."""
        mixture = self._one_mixture(p)
        terms = self.terms_
        return -terms.exponent * terms.each(mixture) / (terms.shift + mixture)

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """a (a + 1) f_ij / (s_ij + p_j)^2 on the diagonal, and no rank-one part."""
        mixture = self._one_mixture(p)
        terms = self.terms_
        diagonal = terms.exponent * (terms.exponent + 1) * terms.each(mixture) / (terms.shift + mixture) ** 2
        return diagonal, np.zeros(self.n_metrics_)

    def expressions(self, variable: Any) -> list[Any]:
        """constant + sum_j exp(log c_j - a_j log(s_j + p_j)): exact exponential cones."""
        import cvxpy as cp  # takes a second: only those who solve wait for it

        self._mixtures(np.zeros(variable.shape))
        terms = self.terms_
        rows = zip(terms.constant, terms.factor, terms.shift, terms.exponent, strict=True)
        return [float(b) + c @ cp.exp(-cp.multiply(a, cp.log(s + variable))) for b, c, s, a in rows]

    def _one_mixture(self, p: npt.ArrayLike) -> Floats:
        mixture = self._mixtures(p)
        if mixture.ndim != 1:
            raise ObservationError("derivatives are taken at one mixture, shape (domains,)", received=mixture.shape)
        return mixture


def _noise(squares: LeastSquares, best: Solution, runs: WeightedRuns) -> Floats:
    """sqrt(sum w^2 r^2 / (sum w^2 - d)), d = trace(J (J'J + R)^-1 J') the parameters that the runs decide."""
    problem: Ints = np.arange(len(best.theta))
    r, J = squares.residuals(best.theta, problem)
    gram = J.transpose(0, 2, 1) @ J
    small = 1e-9 * np.einsum("bqq->bq", gram).max(axis=1)[:, None, None] * np.eye(gram.shape[1]) + 1e-12
    decided = np.einsum("bqq->b", np.linalg.solve(gram + squares.precision + small, gram))
    result: Floats = np.sqrt((r**2).sum(axis=1) / np.maximum(runs.n_effective - decided, 1.0))
    return result


class BiMixLaw(SeparableLaw):
    """f_i(p) = sum_j A_ij (p_j + e)^(-a_ij), A >= 0, a > 0: BiMix, its one term per domain summed over domains.

    The paper's law of a domain's own loss is A p^(-a) at a fixed training length; for a metric that draws on every
    domain the terms are added. p_j^(-a) is infinite at p_j = 0, and swarms are full of zeros: every share is taken as
    p_j + e, which is smooth and keeps the law convex (holding p_j at a least share would not).

    Args:
        minimum_share: e, added to every share so that zero shares have a finite prediction.
        ridge: weight of |A_i - mean(A_i)|^2 / 2, A in standard deviations of the metric over runs.
        prior_a, prior_weight_a: prior on a (log scale) and its weight.

    Attributes after fit:
        A_, a_: (metrics, domains).
    """

    name = "bimix"
    formula = "sum_j A_j (p_j + e)^(-a_j)"
    source = "BiMix, arXiv 2405.14908; Olmix, arXiv 2602.12237"

    A_: Floats
    a_: Floats

    def __init__(
        self, minimum_share: float = 1e-3, ridge: float = 1e-3, prior_a: float = 0.1, prior_weight_a: float = 0.1
    ) -> None:
        self.minimum_share = minimum_share
        self.ridge = ridge
        self.prior_a = prior_a
        self.prior_weight_a = prior_weight_a

    def _squares(self, mixtures: Floats, targets: Floats, scales: Floats) -> LeastSquares:
        if not 0 < self.minimum_share < 1:
            raise ObservationError("minimum_share of BiMix must be in (0, 1)", received=self.minimum_share)
        m = mixtures.shape[1]
        log_share = np.log(mixtures + self.minimum_share)

        def residuals(theta: Floats, problem: Ints) -> tuple[Floats, Floats]:
            a = np.exp(np.clip(theta[:, None, m:], -30.0, 3.0))
            power = scales[problem][:, :, None] * np.exp(-a * log_share)
            term = theta[:, None, :m] * power
            J = np.concatenate([power, -term * a * log_share], axis=2)
            return term.sum(axis=2) - scales[problem] * targets[problem], J

        precision = np.zeros((2 * m, 2 * m))
        precision[:m, :m] = self.ridge * (np.eye(m) - 1 / m)
        precision[m:, m:] = self.prior_weight_a * np.eye(m)
        mean = np.zeros((len(targets), 2 * m))
        mean[:, m:] = np.log(self.prior_a)
        lower = np.append(np.zeros(m), np.full(m, -np.inf))
        free = np.ones(mean.shape, dtype=bool)
        return LeastSquares(residuals=residuals, precision=precision, mean=mean, free=free, lower=lower)

    def _starts(self, mixtures: Floats, targets: Floats) -> list[Floats]:
        """For each exponent: ridge least squares for A, negative ones set to zero."""
        starts = []
        for a in _EXPONENTS:
            power = (mixtures + self.minimum_share) ** -a
            level = targets.mean(axis=1) / power.sum(axis=1).mean()
            gram = power.T @ power
            gram += 1e-3 * np.trace(gram) / len(gram) * np.eye(len(gram))
            A = level + np.linalg.solve(gram, power.T @ (targets - level[:, None] * power.sum(axis=1)).T)
            starts.append(np.hstack([np.maximum(A.T, 0.01 * level[:, None]), np.full(A.T.shape, np.log(a))]))
        return starts

    def _terms(self, theta: Floats, unit: Floats) -> Terms:
        m = theta.shape[1] // 2
        self.A_, self.a_ = theta[:, :m] * unit[:, None], np.exp(np.clip(theta[:, m:], -30.0, 3.0))
        return Terms(np.zeros(len(theta)), self.A_, np.full_like(self.A_, self.minimum_share), self.a_)


class AutoScaleLaw(SeparableLaw):
    """f_i(p) = u_i (c_i + sum_j (R (A_ij + p_j))^(-a_ij)), c >= 0, A > 0, a > 0, u_i the metric's standard deviation.

    Each domain adds to the loss a power law in the tokens seen of it, R p_j, plus what other domains are worth in its
    place, R A_ij. The terms have no factor of their own, so the unit of R decides how large they can be. Each metric is
    measured in its standard deviation over runs, so that its own unit does not count.

    Args:
        tokens_billions: R, the token budget of a run in 10^9 tokens; the fit depends on it.
        prior_A, prior_a: prior medians of A and a.
        prior_weight: weight of both priors, on the log scale.

    Attributes after fit:
        c_: (metrics,), in the metric's unit. A_, a_: (metrics, domains).
    """

    name = "autoscale"
    formula = "c + sum_j (R (A_j + p_j))^(-a_j)"
    source = "AutoScale, arXiv 2407.20177"

    c_: Floats
    A_: Floats
    a_: Floats

    def __init__(
        self, tokens_billions: float = 1.0, prior_A: float = 0.1, prior_a: float = 0.3, prior_weight: float = 0.1
    ) -> None:
        self.tokens_billions = tokens_billions
        self.prior_A = prior_A
        self.prior_a = prior_a
        self.prior_weight = prior_weight

    def _squares(self, mixtures: Floats, targets: Floats, scales: Floats) -> LeastSquares:
        if not self.tokens_billions > 0:
            raise ObservationError("tokens_billions of AutoScale must be > 0", received=self.tokens_billions)
        m = mixtures.shape[1]

        def residuals(theta: Floats, problem: Ints) -> tuple[Floats, Floats]:
            A, a = np.exp(_bounded(theta[:, None, 1 : m + 1])), np.exp(_bounded(theta[:, None, m + 1 :]))
            scale = scales[problem][:, :, None]
            log_tokens = np.log(self.tokens_billions) + np.log(A + mixtures)
            term = np.exp(np.minimum(-a * log_tokens, 60.0))
            J = np.concatenate(
                [np.ones((*scale.shape[:2], 1)), -a * term * A / (A + mixtures), -a * log_tokens * term], 2
            )
            return scale[:, :, 0] * (theta[:, :1] + term.sum(axis=2) - targets[problem]), scale * J

        precision = self.prior_weight * np.eye(2 * m + 1)
        precision[0, 0] = 0.0
        mean = np.full((len(targets), 2 * m + 1), np.log(self.prior_A))
        mean[:, 0], mean[:, m + 1 :] = 0.0, np.log(self.prior_a)
        lower = np.append(0.0, np.full(2 * m, -np.inf))
        free = np.ones(mean.shape, dtype=bool)
        return LeastSquares(residuals=residuals, precision=precision, mean=mean, free=free, lower=lower)

    def _starts(self, mixtures: Floats, targets: Floats) -> list[Floats]:
        """A and a equal for all domains, c what is then left of the mean."""
        m = mixtures.shape[1]
        starts = []
        for A, a in _STARTS:
            theta = np.full((len(targets), 2 * m + 1), np.log(A))
            theta[:, m + 1 :] = np.log(a)
            rest = ((self.tokens_billions * (A + mixtures)) ** -a).sum(axis=1).mean()
            theta[:, 0] = np.maximum(targets.mean(axis=1) - rest, 0.0)
            starts.append(theta)
        return starts

    def _terms(self, theta: Floats, unit: Floats) -> Terms:
        m = (theta.shape[1] - 1) // 2
        self.c_ = theta[:, 0] * unit
        self.A_, self.a_ = np.exp(_bounded(theta[:, 1 : m + 1])), np.exp(_bounded(theta[:, m + 1 :]))
        return Terms(self.c_, unit[:, None] * self.tokens_billions**-self.a_, self.A_, self.a_)


def _bounded(logarithm: Floats) -> Floats:
    return np.clip(logarithm, -25.0, 5.0)
