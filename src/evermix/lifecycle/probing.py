"""The probes of one decision: how long they may be within the budget, and their training."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.corpus.store import TokenStore
from evermix.ledger import Project, content_hash
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.segments import TrainedTo
from evermix.lifecycle.workbench import Workbench
from evermix.measure.probes import Component, Probe, ProbeSettings, components, train_probe
from evermix.mixture import Mixture
from evermix.models.ladder import ModelSize
from evermix.models.loading import load_to_score
from evermix.observations import Observations
from evermix.recipe import DecisionRecipe, ProbeRecipe, Recipe, TrainingRecipe
from evermix.training.evaluation import HeldoutText, evaluate
from evermix.training.segment import StepReport

Floats = npt.NDArray[np.float64]
_LEAST_STEPS, _MOST_STEPS = 5, 200
_LEAST_SEQUENCES = 4
_EVALUATION_PART = 1 / 4


@dataclass(frozen=True)
class ProbePlan:
    """What one decision's probes and candidates may cost.

    Attributes:
        n_probes: probes to train.
        steps: optimiser steps of each.
        evaluation_sequences: held-out sequences per domain that score a probe or a candidate.
    """

    n_probes: int
    steps: int
    evaluation_sequences: int


@dataclass(frozen=True)
class ProbeNeeds:
    """What sets the cost of one decision's probes.

    Attributes:
        n_probes: probes to train, `old` among them.
        n_candidates: interpolated candidates, should the mode be interpolation.
        n_domains: whose held-out text scores them.
        batch_sequences: of the run and of the probes.
        total_steps: of the run whose budget all decisions share.
        n_decisions: among which it is shared.
    """

    n_probes: int
    n_candidates: int
    n_domains: int
    batch_sequences: int
    total_steps: int
    n_decisions: int = 1


def plan_probes(decision: DecisionRecipe, needs: ProbeNeeds, available_sequences: int) -> ProbePlan:
    """Length of probes and size of evaluations that keep all decisions within `decision.budget` of the run's FLOPs.

    With N parameters, S steps of b sequences in the run, D decisions, P probes of s steps, E evaluations of q sequences
    in each of m domains (an evaluation with gradient counts as three):
        D (4 N b s P + 2 N E m q) <= budget * 6 N b S,   a quarter of it for evaluations.
    """
    probes, batch, m = decision.probes, needs.batch_sequences, needs.n_domains
    n_evaluations = needs.n_probes + 1 + _evaluations_of_mode(decision, needs.n_candidates)
    allowed = probes.budget * 6 * batch * needs.total_steps / needs.n_decisions
    affordable = allowed * _EVALUATION_PART / (2 * n_evaluations * m)
    sequences = probes.evaluation_sequences or max(_LEAST_SEQUENCES, math.floor(affordable))
    sequences = min(sequences, available_sequences)
    left = allowed - 2 * n_evaluations * m * sequences
    steps = probes.steps or min(max(_LEAST_STEPS, math.floor(left / (4 * batch * needs.n_probes))), _MOST_STEPS)
    return ProbePlan(needs.n_probes, steps, sequences)


def _evaluations_of_mode(decision: DecisionRecipe, n_candidates: int) -> int:
    """Evaluations beyond those of the base and of the probes."""
    if decision.mode == "probe-law":
        return 0
    return n_candidates if decision.mode == "interpolation" else 3 * decision.gradient_evaluations


def needs_of(recipe: Recipe, n_domains: int, total_steps: int) -> ProbeNeeds:
    """What a pretraining's decisions over all domains need."""
    return ProbeNeeds(
        1 + n_domains * len(recipe.decision.probes.purities),
        candidate_count(recipe.decision, n_domains),
        n_domains,
        recipe.training.batch_sequences,
        total_steps,
        len(recipe.decision.at),
    )


def candidate_count(decision: DecisionRecipe, n_components: int) -> int:
    """Interpolated candidates: the recipe's number, or what the log-linear law needs to be identified."""
    return max(decision.candidates, n_components + 3)


@dataclass(frozen=True)
class Probed:
    """A trained model that is probed: the hash of all that led to it, and the folder of its weights."""

    run_id: str
    checkpoint: Path


class ProbingBench(Protocol):
    """What probing needs of a lifecycle's workbench."""

    @property
    def project(self) -> Project:
        """Where probes are kept."""
        ...

    @property
    def store(self) -> TokenStore:
        """The text."""
        ...

    @property
    def size(self) -> ModelSize:
        """Of the probed model."""
        ...

    @property
    def reporter(self) -> Reporter:
        """Where progress is shown."""
        ...


@dataclass(frozen=True)
class TaskEvidence:
    """Error rates on tasks, in (0, 1).

    Attributes:
        names: of the tasks.
        base, probes: of the probed model, shape (tasks,), and of its probes, shape (probes, tasks).
        measure: of any model, shape (tasks,).
        n_tokens: that one measurement reads and writes.
    """

    names: tuple[str, ...]
    base: Floats
    probes: Floats
    measure: Callable[[PreTrainedModel], Floats]
    n_tokens: int


@dataclass(frozen=True)
class Evidence:
    """What a decision stands on.

    Its metrics are the losses of the held-out domains, and after them the error rates on tasks if there are such.

    Attributes:
        base: the model that was probed.
        old: the mixture used so far, over what the decision shares out.
        probes: finished probes.
        base_loss_nats: losses of the base itself on the same held-out sequences, shape (held-out domains,).
        heldout: those sequences.
        flops_training, flops_evaluation, seconds: what the probes cost.
        tasks: what base and probes get wrong, if the decision is for that.
    """

    base: Probed
    old: Mixture
    probes: tuple[Probe, ...]
    base_loss_nats: Floats
    heldout: HeldoutText
    flops_training: float
    flops_evaluation: float
    seconds: float
    tasks: TaskEvidence | None = None

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


def gather_evidence(bench: Workbench, base: TrainedTo) -> Evidence:
    """Train every probe of the checkpoint `base` that is not finished yet: `old`, and one per domain and purity."""
    recipe = bench.recipe
    available = min(len(ids) for ids in bench.heldout.sequences)
    plan = plan_probes(recipe.decision, needs_of(recipe, len(bench.domains), bench.total_steps), available)
    old = base.schedule.average(base.step * bench.batch_sequences)
    heldout = HeldoutText.from_store(bench.store, plan.evaluation_sequences)
    parts = tuple(components(old, recipe.decision.probes.purities))
    settings = probe_settings(recipe.decision.probes, plan.steps, recipe.training, recipe.seed)
    probed = Probed(base.run_id, base.checkpoint)
    return probe_all(bench, probed, ProbeSet(old, parts, settings, heldout), f"probing at step {base.step}")


def probe_settings(probes: ProbeRecipe, steps: int, training: TrainingRecipe, seed: int) -> ProbeSettings:
    """How the probes of one decision are trained."""
    return ProbeSettings(
        steps=steps,
        batch_sequences=training.batch_sequences,
        learning_rate=training.learning_rate * probes.learning_rate_factor,
        rank=probes.rank,
        alpha=probes.alpha,
        seed=seed + 1_000_003,
        precision=training.precision,
    )


@dataclass(frozen=True)
class ProbeSet:
    """The probes of one decision.

    Attributes:
        old: the mixture used so far, over what the decision shares out.
        parts: one component per probe.
        settings: how each is trained.
        heldout: the text that scores them.
    """

    old: Mixture
    parts: tuple[Component, ...]
    settings: ProbeSettings
    heldout: HeldoutText


def probe_all(bench: ProbingBench, base: Probed, asked: ProbeSet, detail: str) -> Evidence:
    """Train every probe of the model `base` that is not finished yet, one after the other."""
    probes, steps = list[Probe](), asked.settings.steps
    with bench.reporter.part("probes", detail, len(asked.parts) * steps) as report:
        for number, component in enumerate(asked.parts):
            before = number * steps
            probes.append(_probe(bench, base, component, asked, partial(_shifted, report, before)))
            report(before + steps)
    base_loss = evaluate(load_to_score(base.checkpoint), asked.heldout).loss_nats
    size = bench.size
    return Evidence(
        base,
        asked.old,
        tuple(probes),
        base_loss,
        asked.heldout,
        size.adapter_training(sum(probe.n_tokens for probe in probes)),
        size.evaluation(asked.heldout.n_tokens * (len(probes) + 1)),
        sum(probe.seconds for probe in probes),
    )


def _shifted(report: StepReport, before: int, step: int) -> None:
    report(before + step)


def _probe(
    bench: ProbingBench,
    base: Probed,
    component: Component,
    asked: ProbeSet,
    report: StepReport,
) -> Probe:
    settings, heldout = asked.settings, asked.heldout
    key = {
        "base": base.run_id,
        "trained_on": {name: share.hex() for name, share in component.trained_on.as_dict.items() if share > 0},
        "settings": asdict(settings),
        "heldout": [len(ids) for ids in heldout.sequences],
    }
    probe_id = content_hash(key)
    folder = bench.project.run_folder(f"probe-{probe_id}")
    probe = train_probe(base.checkpoint, bench.store, component, settings, heldout, folder, report)
    record = {
        "component": component.name,
        "base": base.run_id,
        "steps": settings.steps,
        "trained_on": component.trained_on.as_dict,
        "loss_nats": dict(zip(heldout.domains.names, probe.loss_nats.tolist(), strict=True)),
        "flops": bench.size.adapter_training(probe.n_tokens),
        "seconds": probe.seconds,
    }
    bench.project.ledger.append("probe", probe_id, record)
    return probe
