"""BiMix (arXiv 2405.14908), with its one term per domain summed over domains: f_i(p) = sum_j A_ij p_j^(-a_ij).

The paper's law of a domain's own loss is A p^(-a) at a fixed training length; for a metric that draws on every
domain the terms are added. p_j^(-a) is infinite at p_j = 0, and swarms are full of zeros: every share is taken as
p_j + e, which is smooth and keeps the law convex (holding p_j at a least share would not).
"""

from __future__ import annotations

import numpy as np

from evermix.errors import ObservationError
from evermix.laws.base import Floats
from evermix.laws.levenberg_marquardt import Ints, LeastSquares
from evermix.laws.separable import SeparableLaw, Terms

_EXPONENTS = (0.03, 0.15, 0.6)


class BiMixLaw(SeparableLaw):
    """f_i(p) = sum_j A_ij (p_j + e)^(-a_ij), A >= 0, a > 0.

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
