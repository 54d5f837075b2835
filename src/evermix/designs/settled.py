"""How many runs: what a law wants to begin with, and when more would change nothing.

The stopping rule asks how much more runs would still change the mixture, and what that is worth. The proposal is made
again under laws refitted to the same runs with random weights (Bayesian bootstrap: exponential, of mean 1, so that no
run and no domain is lost):

    D_b = TV(p_b, p)     share of tokens that the mixture would move,
    R_b = f_b(p) - f_b(p_b)     what p loses if resample b is the truth, >= 0 where p_b is its optimum.

Both fall as runs are added: an estimate's variance as 1 / K, so that with K' runs

    D(K') = D sqrt(K / K'),   change on the way from K to K' = D sqrt(1 - K / K'),   R(K') = R K / K'.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evermix.designs.adaptive import Value, check_enough
from evermix.errors import ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.observations.runs import Runs

_FACTORS = {"power-link": 2.0, "log-linear": 3.0}
Floats = npt.NDArray[np.float64]
Propose = Callable[[MixingLaw], Mixture]


def recommended_runs(n_sampled: int, law: str = "log-linear") -> int:
    """Runs over `n_sampled` domains: 3 (m + 1) for log-linear (METHODS 1.1) and others, 2 (m + 1) for power-link.

    The power-link law ranks at m + 1 runs as the log-linear law does at 2 (m + 1) to 3 (m + 1) on both published
    swarms; 2 (m + 1) leave it runs to spare for noise.

    Args:
        law: name of the family.
    """
    if n_sampled < 1:
        raise ObservationError("a design needs at least one sampled domain", received=n_sampled)
    return round(_FACTORS.get(law, 3.0) * (n_sampled + 1))


@dataclass(frozen=True)
class Settledness:
    """Spread of the proposal over resamples of the runs.

    Attributes:
        n_runs: K.
        total_variation: D_b, shape (resamples,), in [0, 1].
        regret: R_b, shape (resamples,), in the objective's unit.
    """

    n_runs: int
    total_variation: Floats
    regret: Floats

    def change(self, more_runs: float = np.inf, confidence: float = 0.9) -> float:
        """Total variation that `more_runs` would move the mixture by, not exceeded with this probability."""
        left = 1.0 if math.isinf(more_runs) else more_runs / (self.n_runs + more_runs)
        return float(np.quantile(self.total_variation, confidence)) * math.sqrt(left)

    def gain(self, more_runs: float = np.inf, confidence: float = 0.9) -> float:
        """Improvement of the objective that `more_runs` would bring, not exceeded with this probability."""
        left = 1.0 if math.isinf(more_runs) else more_runs / (self.n_runs + more_runs)
        return float(np.quantile(self.regret, confidence)) * left

    def runs_until(self, rule: StoppingRule) -> int:
        """Runs still to make before the rule is met, by the scaling above; 0 if it is."""
        wanted = [float(self.n_runs)]
        if rule.total_variation is not None:
            wanted.append(self.n_runs * (self.change(confidence=rule.confidence) / rule.total_variation) ** 2)
        if rule.gain is not None:
            wanted.append(self.n_runs * self.gain(confidence=rule.confidence) / rule.gain)
        return math.ceil(max(wanted) - self.n_runs - 1e-9)


@dataclass(frozen=True)
class StoppingRule:
    """Stop when, with probability `confidence`, more runs would change the mixture and the objective by less than this.

    Attributes:
        total_variation: share of tokens moved; None if it does not matter.
        gain: improvement, in the objective's unit; None if it does not matter.
    """

    total_variation: float | None = 0.05
    gain: float | None = None
    confidence: float = 0.9

    def __post_init__(self) -> None:
        limits = [limit for limit in (self.total_variation, self.gain) if limit is not None]
        if not limits or min(limits) <= 0:
            raise ObservationError(
                "a stopping rule needs a total variation or a gain > 0", received=(self.total_variation, self.gain)
            )
        if not 0 < self.confidence < 1:
            raise ObservationError("the confidence of a stopping rule must be in (0, 1)", received=self.confidence)

    def met(self, settled: Settledness) -> bool:
        """Whether to stop."""
        return settled.runs_until(self) == 0


def how_settled(
    law: MixingLaw,
    runs: Runs,
    value: Value,
    propose: Propose,
    rng: np.random.Generator,
    n_resamples: int = 30,
) -> Settledness:
    """Refit and propose again under `n_resamples` random weightings of the runs.

    Args:
        law: fitted to the runs.
        value: costs (..., metrics) -> objective (...), lower is better.
        propose: the mixture that a law leads to, with the objective, bounds and prior that count.
    """
    check_enough(runs)
    if n_resamples < 2:
        raise ObservationError("resamples must be at least 2", received=n_resamples)
    proposal = propose(law)
    moved, lost = [], []
    for _ in range(n_resamples):
        counts = rng.exponential(size=len(runs))
        rival_law = law.refit(replace(runs, counts=counts * len(counts) / counts.sum()))
        rival = propose(rival_law)
        here, there = value(rival_law.predict(np.array([proposal.weights, rival.weights])))
        moved.append(proposal.total_variation(rival))
        lost.append(max(float(here - there), 0.0))
    return Settledness(len(runs), np.array(moved), np.array(lost))
