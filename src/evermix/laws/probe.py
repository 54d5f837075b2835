"""Probe law: a power-link law of a few probes of one model, short runs on known mixtures; no interpolation.

The (components x domains) table of probe losses is a small swarm in which each domain is seen at several shares: nearly
pure, a little (in `old` and beside others). Per metric i, the loss on training domain own(i) or of no domain,

    f_i(p) = b_i + c_i (sum_j tau_ij p_j)^(-a_i),   tau_i,own(i) = 1,

with a prior on tau that says that a token of another domain is worth 3% of an own one until the probes say otherwise.
Probes are short and overstate transfer: prior_log_tau = -3.5 ranked really trained mixtures better than -2.5
(docs/log/probes.md). What it predicts is the loss after as many steps as a probe has: it ranks mixtures, it does not
foretell the end of the run.

A probe is short, and LoRA: what a whole phase does to a loss, for better or worse, is a multiple h of what the probe
did (`horizon`; about 2 in docs/log/phases.md). The law is then fitted to

    base + h (probe - base)

which matters where domains are not alike: a new domain's loss is high after a probe and not after the phase, and a mean
perplexity that still holds it high gives it too much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.laws.base import Floats
from evermix.laws.horizon import at_horizon
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs


class ProbeLaw(PowerLinkLaw):
    """f_i(p) = b_i + c_i (sum_j tau_ij p_j)^(-a_i), tau_i,own(i) = 1, of probes moved on to the horizon.

    Args:
        own: per metric, the column of the domain it is the held-out loss of, or None for other metrics; None: no
            metric is of a domain.
        base: shape (metrics,), metrics of the model that the probes start from; None: probes are taken as they are.
        horizon: h, how many times as far from the base as the probes' metrics those of the run will be; a number or
            one per metric.
        is_rate: per metric, whether it is an error rate, which is not moved above 1; None: none is.
        prior_log_tau: prior mean of log tau of other domains. ridge: its weight.
        prior_a, prior_weight_a: prior on a (log scale) and its weight.

    Attributes after fit:
        b_, c_, a_: (metrics,). tau_: (metrics, domains).
    """

    name = "probe"
    formula = "b + c (sum_j tau_j p_j)^(-a), tau_own = 1"
    source = "ours; docs/probes-and-decisions.md"
    of_probes = True
    g = 1.0
    noise_rounds = 0

    def __init__(
        self,
        own: Sequence[int | None] | None = None,
        base: npt.ArrayLike | None = None,
        horizon: npt.ArrayLike = 1.0,
        is_rate: Sequence[bool] | None = None,
        prior_log_tau: float = -3.5,
        ridge: float = 0.3,
        prior_a: float = 0.3,
        prior_weight_a: float = 0.3,
    ) -> None:
        self.own = own
        self.base = base
        self.horizon = horizon
        self.is_rate = is_rate
        self.prior_log_tau = prior_log_tau
        self.ridge = ridge
        self.prior_a = prior_a
        self.prior_weight_a = prior_weight_a

    def fit(self, runs: Runs) -> Self:
        """Fit to the probes, moved on to the horizon; see MixingLaw.fit. `base` must have a number per metric."""
        return super().fit(self._at_horizon(runs))

    def refit(self, runs: Runs) -> Self:
        """See PowerLinkLaw.refit."""
        return super().refit(self._at_horizon(runs))

    def _at_horizon(self, runs: Runs) -> Runs:
        """Probes with their metrics moved on to the horizon; never below half of the probe's."""
        horizon: Floats = np.asarray(self.horizon, dtype=np.float64)
        if self.base is None:
            if (horizon != 1).any():
                raise ObservationError("a horizon needs the metrics of the base", received=self.horizon)
            return runs
        base: Floats = np.asarray(self.base, dtype=np.float64)
        is_rate = np.zeros(runs.n_metrics, dtype=bool) if self.is_rate is None else np.array(self.is_rate)
        horizon = np.full(runs.n_metrics, horizon) if horizon.ndim == 0 else horizon
        for what, array in (("base", base), ("is_rate", is_rate), ("horizon", horizon)):
            if array.shape != (runs.n_metrics,):
                raise ObservationError(f"{what} must have one entry per metric, {runs.n_metrics}", received=array.shape)
        return replace(runs, values=at_horizon(runs.values, base, horizon, is_rate))
