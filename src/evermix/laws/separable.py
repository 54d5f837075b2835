"""What BiMix and AutoScale share: f_i is a constant plus one convex, decreasing term per domain.

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
from evermix.laws.levenberg_marquardt import Ints, LeastSquares, Patience, Solution, best_of, minimise
from evermix.observations.runs import Runs

_PATIENCE = Patience(max_iterations=100, tolerance=1e-5)


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
