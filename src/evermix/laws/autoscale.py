"""AutoScale (arXiv 2407.20177): f_i(p) = c_i + sum_j (R (A_ij + p_j))^(-a_ij), R the token budget.

Each domain adds to the loss a power law in the tokens seen of it, R p_j, plus what other domains are worth in its
place, R A_ij. The terms have no factor of their own, so the unit of R decides how large they can be. Each metric is
measured in its standard deviation over runs, so that its own unit does not count.
"""

from __future__ import annotations

import numpy as np

from evermix.errors import ObservationError
from evermix.laws.base import Floats
from evermix.laws.levenberg_marquardt import Ints, LeastSquares
from evermix.laws.separable import SeparableLaw, Terms

_STARTS = ((0.03, 0.3), (0.3, 0.5))


class AutoScaleLaw(SeparableLaw):
    """f_i(p) = u_i (c_i + sum_j (R (A_ij + p_j))^(-a_ij)), c >= 0, A > 0, a > 0, u_i the metric's standard deviation.

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
