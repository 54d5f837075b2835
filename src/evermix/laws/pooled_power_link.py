"""Power-link with what the metrics of one swarm share: each metric's log tau leans on those of metrics like it.

    s_i ~ N(s0_i, 1 / ridge),  s0_i = sum_{k != i} h_ik (s_k - mean s_k) / (1 + sum_{k != i} h_ik),
    h_ik = max(r_ik, 0)^q,

s_k from a fit of each metric alone, r the correlation of two metrics over runs, 1 in the denominator a metric that
knows nothing. With about as many runs as domains it ranks new mixtures slightly better than fits that know nothing of
each other (docs/log.md); with many runs it makes no difference.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Self

import numpy as np

from evermix.laws.base import Floats, WeightedRuns, weighted
from evermix.laws.levenberg_marquardt import minimise
from evermix.laws.power_link import PowerLinkLaw, _PowerFits
from evermix.observations.runs import Runs


class PooledPowerLinkLaw(PowerLinkLaw):
    """f_i(p) = b_i + c_i (sum_j tau_ij p_j^g)^(-a_i), log tau shrunk towards that of correlated metrics.

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
    """s0 of the module's formula, (metrics, domains)."""
    centred = log_tau - log_tau.mean(axis=1, keepdims=True)
    result: Floats = likeness @ centred / (1 + likeness.sum(axis=1, keepdims=True))
    return result
