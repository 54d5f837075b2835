"""The probes of one decision: how long they may be within the budget, and their training."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.ledger import content_hash
from evermix.lifecycle.segments import TrainedTo
from evermix.lifecycle.workbench import Workbench
from evermix.measure.probes import Component, Probe, ProbeSettings, components, train_probe
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.observations import Observations
from evermix.recipe import Recipe
from evermix.training.evaluation import HeldoutText, evaluate

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


def plan_probes(recipe: Recipe, n_domains: int, total_steps: int, available_sequences: int) -> ProbePlan:
    """Length of probes and size of evaluations that keep all decisions within `decision.budget` of the run's FLOPs.

    With N parameters, S steps of b sequences in the run, D decisions, P probes of s steps, E evaluations of q sequences
    in each of m domains (an evaluation with gradient counts as three):
        D (4 N b s P + 2 N E m q) <= budget * 6 N b S,   a quarter of it for evaluations.
    """
    decision, batch = recipe.decision, recipe.training.batch_sequences
    probes = decision.probes
    n_probes = 1 + n_domains * len(probes.purities)
    n_evaluations = (
        n_probes
        + 1
        + {
            "probe-law": 0,
            "interpolation": candidate_count(recipe, n_domains),
            "gradient": 3 * decision.gradient_evaluations,
        }[decision.mode]
    )
    allowed = probes.budget * 6 * batch * total_steps / len(decision.at)
    affordable = allowed * _EVALUATION_PART / (2 * n_evaluations * n_domains)
    sequences = probes.evaluation_sequences or max(_LEAST_SEQUENCES, math.floor(affordable))
    sequences = min(sequences, available_sequences)
    left = allowed - 2 * n_evaluations * n_domains * sequences
    steps = probes.steps or min(max(_LEAST_STEPS, math.floor(left / (4 * batch * n_probes))), _MOST_STEPS)
    return ProbePlan(n_probes, steps, sequences)


def candidate_count(recipe: Recipe, n_domains: int) -> int:
    """Interpolated candidates: the recipe's number, or what the log-linear law needs to be identified."""
    return max(recipe.decision.candidates, n_domains + 3)


@dataclass(frozen=True)
class Evidence:
    """What a decision stands on.

    Attributes:
        base: the run that was probed.
        old: the mixture used so far.
        probes: finished probes, `old` first.
        base_loss_nats: losses of the base itself on the same held-out sequences, shape (domains,).
        heldout: those sequences.
        flops_training, flops_evaluation, seconds: what the probes cost.
    """

    base: TrainedTo
    old: Mixture
    probes: tuple[Probe, ...]
    base_loss_nats: Floats
    heldout: HeldoutText
    flops_training: float
    flops_evaluation: float
    seconds: float

    @cached_property
    def observations(self) -> Observations:
        """The probes as runs: what each was trained on (Q), and its held-out losses in nats per token."""
        return Observations(
            self.old.domains,
            np.array([probe.component.trained_on.weights for probe in self.probes]),
            self.old.domains.names,
            np.array([probe.loss_nats for probe in self.probes]),
            run_ids=tuple(f"{number}:{probe.component.name}" for number, probe in enumerate(self.probes)),
        )


def gather_evidence(bench: Workbench, base: TrainedTo) -> Evidence:
    """Train every probe of the checkpoint `base` that is not finished yet."""
    recipe = bench.recipe
    available = min(len(ids) for ids in bench.heldout.sequences)
    plan = plan_probes(recipe, len(bench.domains), bench.total_steps, available)
    old = base.schedule.average(base.step * bench.batch_sequences)
    settings = ProbeSettings(
        steps=plan.steps,
        batch_sequences=bench.batch_sequences,
        learning_rate=recipe.training.learning_rate * recipe.decision.probes.learning_rate_factor,
        rank=recipe.decision.probes.rank,
        alpha=recipe.decision.probes.alpha,
        seed=recipe.seed + 1_000_003,
    )
    heldout = HeldoutText.from_store(bench.store, plan.evaluation_sequences)
    parts = components(old, recipe.decision.probes.purities)
    probes = []
    with bench.reporter.part("probes", f"probing at step {base.step}", len(parts) * plan.steps) as report:
        for number, component in enumerate(parts):
            before = number * plan.steps
            probes.append(_probe(bench, base, component, settings, heldout, lambda s, b=before: report(b + s)))
            report(before + plan.steps)
    base_loss = evaluate(load_model(base.checkpoint), heldout).loss_nats
    size = bench.size
    return Evidence(
        base,
        old,
        tuple(probes),
        base_loss,
        heldout,
        size.adapter_training(sum(probe.n_tokens for probe in probes)),
        size.evaluation(heldout.n_tokens * (len(probes) + 1)),
        sum(probe.seconds for probe in probes),
    )


def _probe(
    bench: Workbench,
    base: TrainedTo,
    component: Component,
    settings: ProbeSettings,
    heldout: HeldoutText,
    report: object,
) -> Probe:
    key = {
        "base": base.run_id,
        "trained_on": [weight.hex() for weight in component.trained_on.weights.tolist()],
        "settings": asdict(settings),
        "heldout": [len(ids) for ids in heldout.sequences],
    }
    probe_id = content_hash(key)
    folder = bench.project.run_folder(f"probe-{probe_id}")
    probe = train_probe(base.checkpoint, bench.store, component, settings, heldout, folder, report)  # type: ignore[arg-type]
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
