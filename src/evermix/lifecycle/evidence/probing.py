"""Measuring for evidence by probes: what probes are trained on, their training and scores, and what that costs.

With tasks that count, base and probes are scored on them too. With r of n answers right (or a mean score of r / n), the
error rate that laws are fitted to is

    (n - r + 1/2) / (n + 1)

which is never 0 nor 1, as laws of positive quantities ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import CountedTask, DecisionRequest
from evermix.lifecycle.evidence.probe_budget import ProbeNeeds, candidate_count, plan_probes, probing_budget
from evermix.lifecycle.evidence.probed import ProbeMeasurement, TaskMeasurement
from evermix.lifecycle.scoring import score_on_tasks
from evermix.lifecycle.state import ModelState
from evermix.measure.probes import Component, Probe, ProbeSettings, load_probe, train_probe
from evermix.models.loading import load_to_score
from evermix.recipe import ProbeRecipe, TrainingRecipe
from evermix.results import Compute
from evermix.training.evaluation import evaluate
from evermix.training.segment import StepReport
from evermix.version import TRAINING_VERSION

Floats = npt.NDArray[np.float64]


def probe_all(context: RunContext, state: ModelState, request: DecisionRequest) -> ProbeMeasurement:
    """Every probe of a decision, trained and scored now where it was not yet, and the losses of the model itself."""
    decision, phase, components = context.recipe.decision, request.phase, request.components
    parts = _parts(context, request)
    everything = context.heldout(phase.domains, "decision")
    needs = ProbeNeeds(
        len(parts),
        candidate_count(decision, len(components.components)),
        len(phase.domains),
        phase.batch_rows,
        phase.n_steps,
        request.n_decisions,
    )
    available = min(len(ids) for ids in everything.sequences)
    plan = plan_probes(decision, needs, available, probing_budget(context.recipe, phase, request.to_be_merged))
    settings = _settings(decision.probes, plan.steps, phase.training, context.recipe.seed)
    heldout = context.heldout(phase.domains, "decision", plan.evaluation_sequences)
    probes = list[Probe]()
    with context.reporter.part("probes", f"probing {request.label}", len(parts) * plan.steps) as report:
        for number, part in enumerate(parts):
            component = replace(part, trained_on=context.over_all(part.trained_on))
            before = number * plan.steps
            trained = _probe(context, state, component, settings, heldout, partial(_shifted, report, before))
            probes.append(trained)
            report(before + plan.steps)
    size = context.size
    return ProbeMeasurement(
        state.run_id,
        state.trained,
        components.old_shares,
        tuple(probes),
        evaluate(load_to_score(state.trained), heldout).loss_nats,
        heldout,
        size.adapter_training(sum(probe.n_tokens for probe in probes)),
        size.evaluation(heldout.n_tokens * (len(probes) + 1)),
        sum(probe.seconds for probe in probes),
        steps=plan.steps,
        affordable_steps=plan.affordable_steps,
    )


def _parts(context: RunContext, request: DecisionRequest) -> tuple[Component, ...]:
    """What the probes are trained on: designed mixtures around the prior, or pure domains."""
    decision, components = context.recipe.decision, request.components
    pure = components.parts(request.purities, own_probes=request.own_probes, every_purity=request.every_purity)
    if request.to_be_merged or not decision.designs_probes(len(pure)):
        return pure
    seed = context.recipe.seed + request.phase.number + request.at_step
    return components.designed(components.prior(request.prior), decision.probes.number, decision.probes.levels, seed)


def _settings(probes: ProbeRecipe, steps: int, training: TrainingRecipe, seed: int) -> ProbeSettings:
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


def _shifted(report: StepReport, before: int, step: int) -> None:
    report(before + step)


def _probe(
    context: RunContext,
    state: ModelState,
    component: Component,
    settings: ProbeSettings,
    heldout: Any,
    report: StepReport,
) -> Probe:
    probe_id = content_hash(
        {
            "training": TRAINING_VERSION,
            "base": state.run_id,
            "trained_on": {name: share.hex() for name, share in component.trained_on.as_dict.items() if share > 0},
            "settings": asdict(settings),
            "heldout": [len(ids) for ids in heldout.sequences],
        }
    )
    folder = context.project.run_folder(f"probe-{probe_id}")
    probe = train_probe(state.trained, context.store, component, settings, heldout, folder, report)
    record = {
        "component": component.name,
        "base": state.run_id,
        "steps": settings.steps,
        "trained_on": component.trained_on.as_dict,
        "loss_nats": dict(zip(heldout.domains.names, probe.loss_nats.tolist(), strict=True)),
        "flops": context.size.adapter_training(probe.n_tokens),
        "seconds": probe.seconds,
    }
    context.project.ledger.append("probe", probe_id, record)
    return probe


def with_answers(
    context: RunContext, measured: ProbeMeasurement, counted: Sequence[CountedTask]
) -> tuple[ProbeMeasurement, Compute]:
    """The measurement with the costs of base and probes on tasks, scored once and kept; and what that took."""
    tasks, tokenizer = [each.task for each in counted], context.store.tokenizer
    found = [score_on_tasks(context, measured.run_id, measured.checkpoint, tasks)]
    for probe in measured.probes:
        load = partial(load_probe, measured.checkpoint)
        found.append(score_on_tasks(context, probe.adapter.parent.name, probe.adapter, tasks, load))
    metrics = ([scores.metrics[each.metric] for each in counted] for scores in found)
    costs = np.array([[_cost(e, m.value, m.n_items) for e, m in zip(counted, row, strict=True)] for row in metrics])

    def measure(model: PreTrainedModel) -> Floats:
        scores = [each.task.score(model, tokenizer)[each.metric] for each in counted]
        return np.array([_cost(each, s.value, s.n_items) for each, s in zip(counted, scores, strict=True)])

    n_tokens = sum(task.n_tokens(tokenizer) for task in tasks)
    rates = all(each.is_accuracy for each in counted)
    answers = TaskMeasurement(tuple(task.name for task in tasks), costs[0], costs[1:], measure, n_tokens, rates)
    parts = [part for scores in found for part in scores.compute.by_part.values()]
    computes = (Compute.of("evaluation", part.flops, part.n_tokens, part.seconds) for part in parts)
    return replace(measured, tasks=answers), Compute.sum(computes)


def _cost(counted: CountedTask, value: float, n_items: int) -> float:
    """Lower is better: the module's error rate of an accuracy, any other metric as it is."""
    return (n_items * (1 - value) + 0.5) / (n_items + 1) if counted.is_accuracy else value


def probe_compute(measured: ProbeMeasurement) -> Compute:
    """What training and scoring them cost."""
    probe_tokens = sum(probe.n_tokens for probe in measured.probes)
    read = measured.heldout.n_tokens * (len(measured.probes) + 1)
    return Compute.of("probes", measured.flops_training, probe_tokens, measured.seconds) + Compute.of(
        "evaluation", measured.flops_evaluation, read, 0.0
    )
