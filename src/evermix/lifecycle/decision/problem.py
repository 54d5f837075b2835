"""What a decision mode is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.lifecycle.probing import Evidence
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.mixture import Mixture
from evermix.models.loading import load_to_score
from evermix.objective import Objective
from evermix.solvers.proposal import Proposal

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """One decision to be made.

    Its metrics are those of the evidence: losses of the held-out domains in nats per token, then error rates on tasks.

    Attributes:
        evidence: the probes.
        objective, bounds, prior: what is wanted, what is allowed, what the KL term pulls towards.
        kl: dimensionless strength of that pull, relative to the predicted spread of the objective.
        n_candidates: for mode interpolation.
        gradient_evaluations: for mode gradient.
        seed: of candidates and reference mixtures.
        own: per metric of the objective, the position of its own domain among those of the prior; None: of no one.
        horizon: mode probe-law: how many times as far from the base as the probes' losses those of the run will be.
        ceilings: shape (metrics,), greatest predicted loss allowed of each, inf where none; None for no such rule.
    """

    evidence: Evidence
    objective: Objective
    bounds: Bounds
    prior: Mixture
    kl: float
    n_candidates: int
    gradient_evaluations: int
    seed: int
    own: tuple[int | None, ...]
    ceilings: Floats | None = None
    horizon: float = 1.0

    def simulated(self, w: Floats) -> Floats:
        """Metrics of the interpolated model at weights `w` of the probes, shape (metrics,)."""
        losses, tasks = self.interpolation.evaluate(w, self.evidence.heldout).loss_nats, self.evidence.tasks
        if tasks is None:
            return losses
        with self.interpolation.merged(w) as model:
            return np.concatenate([losses, tasks.measure(model)])

    @cached_property
    def interpolation(self) -> Interpolation:
        """The probed checkpoint with the adapters of all probes, in their order."""
        adapters = [Adapter.load(probe.adapter) for probe in self.evidence.probes]
        return Interpolation(load_to_score(self.evidence.base.checkpoint), adapters)


@dataclass(frozen=True)
class ModeOutcome:
    """A mode's answer.

    Attributes:
        proposal: the mixture over leaves, and what it promises.
        predict: mixtures, shape (..., domains) -> the problem's metrics, shape (..., metrics).
        n_forward_tokens, n_backward_tokens: tokens of forward passes, and of passes with gradient, beyond the probes.
    """

    proposal: Proposal
    predict: Callable[[Floats], Floats]
    n_forward_tokens: int = 0
    n_backward_tokens: int = 0


DecisionMode = Callable[[Problem], ModeOutcome]
