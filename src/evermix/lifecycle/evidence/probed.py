"""What probes of a model have measured, and the problem that a decision mode is given with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.constraints import Bounds, NoRegression
from evermix.laws.base import MixingLaw
from evermix.laws.response import ResponseLaw
from evermix.measure.interpolation import Adapter, Interpolation
from evermix.measure.probes import Probe
from evermix.mixture import Mixture
from evermix.models.loading import load_to_score
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.solvers.proposal import Proposal
from evermix.training.evaluation import HeldoutText

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class TaskMeasurement:
    """Costs on tasks: error rates in (0, 1), or the tasks' own first metrics.

    Attributes:
        names: of the tasks.
        base, probes: of the probed model, shape (tasks,), and of its probes, shape (probes, tasks).
        measure: of any model, shape (tasks,).
        n_tokens: that one measurement reads and writes.
        are_rates: whether they are error rates, which are never above one.
    """

    names: tuple[str, ...]
    base: Floats
    probes: Floats
    measure: Callable[[PreTrainedModel], Floats]
    n_tokens: int
    are_rates: bool = True


@dataclass(frozen=True)
class ProbeMeasurement:
    """A probed model, its probes and their metrics: losses of held-out domains, and after them costs on tasks, if any.

    Attributes:
        run_id, checkpoint: of the model that was probed.
        old: the mixture used so far, over what the decision shares out.
        probes: finished probes.
        base_loss_nats: losses of the base itself on the same decision text, nats per token, shape (held-out domains,).
        heldout: that text.
        flops_training, flops_evaluation, seconds: what the probes cost.
        tasks: what base and probes get wrong, if the decision is for that.
        steps: of each probe; affordable_steps: that the budget would pay for, where it is held to fewer.
    """

    run_id: str
    checkpoint: Path
    old: Mixture
    probes: tuple[Probe, ...]
    base_loss_nats: Floats
    heldout: HeldoutText
    flops_training: float
    flops_evaluation: float
    seconds: float
    tasks: TaskMeasurement | None = None
    steps: int = 0
    affordable_steps: int | None = None

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names: held-out domains, then tasks."""
        return (*self.heldout.domains.names, *(() if self.tasks is None else self.tasks.names))

    @property
    def base_values(self) -> Floats:
        """Metrics of the base, shape (metrics,)."""
        return self.base_loss_nats if self.tasks is None else np.concatenate([self.base_loss_nats, self.tasks.base])

    @property
    def n_tokens(self) -> int:
        """That one measurement of all metrics reads and writes."""
        return self.heldout.n_tokens + (0 if self.tasks is None else self.tasks.n_tokens)

    @cached_property
    def observations(self) -> Observations:
        """The probes as runs: what each was trained on (Q), and its metrics."""
        losses = np.array([probe.loss_nats for probe in self.probes])
        return Observations(
            self.old.domains,
            np.array([probe.component.shares.weights for probe in self.probes]),
            self.metrics,
            losses if self.tasks is None else np.hstack([losses, self.tasks.probes]),
            run_ids=tuple(f"{number}:{probe.component.name}" for number, probe in enumerate(self.probes)),
        )


@dataclass(frozen=True)
class DecisionProblem:
    """A decision to be made from probes.

    Attributes:
        measured: the probes; its metrics are those of the problem.
        objective, bounds, prior: what is wanted, what is allowed, what the KL term pulls towards.
        kl: dimensionless strength of that pull, relative to the predicted spread of the objective; None for the mode's
            default. `kl_weight` instead, if given: in the objective's unit per nat.
        n_candidates: for mode interpolation.
        gradient_evaluations: for mode gradient.
        seed: of candidates and reference mixtures.
        own: per metric of the objective, the position of its own domain among those of the prior; None: of no one.
        level_horizon: mode probe-law: how many times as far from the base as the probes' metrics those of the run will
            be, a number or shape (metrics,).
        slope_horizon: how many times as strongly as those of the probes its losses will answer to shares.
        ceilings: shape (metrics,), greatest predicted loss allowed of each, inf where none; None for no such rule.
        guards: no metric worse than at a reference mixture of the components, as the law says.
    """

    measured: ProbeMeasurement
    objective: Objective
    bounds: Bounds
    prior: Mixture
    kl: float | None
    n_candidates: int
    gradient_evaluations: int
    seed: int
    own: tuple[int | None, ...]
    ceilings: Floats | None = None
    level_horizon: float | Floats = 1.0
    slope_horizon: float = 1.0
    kl_weight: float | None = None
    guards: tuple[NoRegression, ...] = ()

    def ceilings_by(self, law: MixingLaw) -> Floats | None:
        """Greatest predicted loss allowed of each metric, shape (metrics,): of retention and guards; None without."""
        metrics = self.measured.metrics
        rows = [guard.ceilings(law.predict(guard.reference.weights), metrics) for guard in self.guards]
        if self.ceilings is not None:
            rows.append(self.ceilings)
        return np.min(rows, axis=0) if rows else None

    def allows(self, mixture: Mixture, law: MixingLaw) -> bool:
        """Whether a mixture of the components keeps the rules, and by the law the guards."""
        most, p = self.ceilings_by(law), mixture.weights
        is_guarded = most is None or bool((law.predict(p) <= most).all())
        return is_guarded and np.allclose(self.bounds.clip(p), p)

    def simulated(self, w: Floats) -> Floats:
        """Metrics of the interpolated model at weights `w` of the probes, shape (metrics,)."""
        losses, tasks = self.interpolation.evaluate(w, self.measured.heldout).loss_nats, self.measured.tasks
        if tasks is None:
            return losses
        with self.interpolation.merged(w) as model:
            return np.concatenate([losses, tasks.measure(model)])

    @cached_property
    def interpolation(self) -> Interpolation:
        """The probed checkpoint with the adapters of all probes, in their order."""
        adapters = [Adapter.load(probe.adapter) for probe in self.measured.probes]
        return Interpolation(load_to_score(self.measured.checkpoint), adapters)


@dataclass(frozen=True)
class ModeOutcome:
    """A mode's answer.

    Attributes:
        proposal: the mixture over the problem's components, and what it promises.
        predict: mixtures, shape (..., components) -> the problem's metrics, shape (..., metrics).
        kl_source: how strongly the prior pulled, a phrase for people.
        assessment_absent: why there are no intervals.
        ceilings: greatest predicted loss allowed of each metric, shape (metrics,), inf where none; None for no rule.
        law: of the probes, where slopes with errors were read off them; else None.
        n_forward_tokens, n_backward_tokens: tokens of forward passes, and of passes with gradient, beyond the probes.
    """

    proposal: Proposal
    predict: Callable[[Floats], Floats]
    kl_source: str
    assessment_absent: str | None
    ceilings: Floats | None
    law: ResponseLaw | None = None
    n_forward_tokens: int = 0
    n_backward_tokens: int = 0


DecisionMode = Callable[[DecisionProblem], ModeOutcome]
