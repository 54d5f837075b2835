"""Evidence by probes of the model itself (OP-Mix, arXiv 2605.15220; METHODS 2): short LoRA trainings, a decision mode.

With tasks that count, base and probes are scored on them too. With r of n answers right (or a mean score of r / n), the
error rate that laws are fitted to is

    (n - r + 1/2) / (n + 1)

which is never 0 nor 1, as laws of positive quantities ask for.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.errors import ConvergenceError
from evermix.ledger import content_hash
from evermix.lifecycle.components import MixtureComponents
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import (
    CountedTask,
    DecisionRequest,
    Evidence,
    finite,
    guard_of,
    named,
    named_references,
    on_the_way,
    prior_of,
)
from evermix.lifecycle.evidence.modes import MODES
from evermix.lifecycle.evidence.probe_budget import (
    ProbeNeeds,
    candidate_count,
    plan_probes,
    planned_probes,
    recomputed_domains,
)
from evermix.lifecycle.evidence.probed import DecisionProblem, ModeOutcome, ProbeMeasurement, TaskMeasurement
from evermix.lifecycle.scoring import accuracy_of, score_on_tasks
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work
from evermix.measure.probes import Component, Probe, ProbeSettings, load_probe, train_probe
from evermix.mixture import Mixture
from evermix.models.loading import load_to_score
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.recipe import ProbeRecipe, Recipe, TrainingRecipe
from evermix.recipe.phases import Phase, base_name
from evermix.results import Compute, Decision, ProbeRecord
from evermix.results.run_result import ErrorRates, EvidenceName, ModeRecord
from evermix.training.evaluation import evaluate
from evermix.training.segment import StepReport
from evermix.version import TRAINING_VERSION

Floats = npt.NDArray[np.float64]
_RECOMPUTING_IS_WORTH = 1e-3  # of the predicted objective: what one domain's share of its own must gain


class ProbeEvidence(Evidence):
    """LoRA probes of the current model."""

    name: EvidenceName = "probes"

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """Mode interpolation: that the points between two probes reach from the one to the other."""
        return ["from probe to probe"] if context.recipe.decision.probe_mode == "interpolation" else []

    def request(
        self, context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str
    ) -> DecisionRequest | None:
        """Before a phase: the shares of new domains beside those learnt before."""
        recipe, phase = context.recipe, phases[-1]
        recomputed = recomputed_domains(recipe, phase)
        components = MixtureComponents.beside_known(context, state.history, phase, recomputed)
        if components is None:
            return None
        return DecisionRequest(
            arm,
            phase,
            components,
            phase.n_rows,
            prior_of(context, phase, components),
            f"before {phase.name}",
            purities=recipe.replay.purities,
            own_probes=recipe.decision.probe_mode != "probe-law",
            horizon=recipe.replay.horizon,
            tasks=counted_tasks(context, phase),
        )

    def request_on_the_way(
        self, context: RunContext, state: ModelState, phase: Phase, in_force: Mixture, arm: str
    ) -> DecisionRequest:
        """Within a pretraining: every domain's share for the rest of it."""
        decision = context.recipe.decision
        return replace(
            on_the_way(context, state, phase, in_force, arm),
            purities=decision.probes.purities,
            every_purity=True,
            own_probes=True,
            n_decisions=len(decision.probed_at),
            tasks=counted_tasks(context, phase),
        )

    def measure(self, context: RunContext, state: ModelState, request: DecisionRequest) -> ProbesMeasured:
        """Train every probe that is not finished yet, one after the other, and score it."""
        measured = _probe_all(context, state, request)
        if not request.tasks:
            return ProbesMeasured(measured, _probe_compute(measured))
        with_tasks, answering = _with_answers(context, measured, request.tasks)
        return ProbesMeasured(with_tasks, _probe_compute(measured) + answering)

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """Probes of all decisions of a phase, and what they and their mode read."""
        planned = planned_probes(recipe, phase)
        return [] if planned is None else planned.work


@dataclass(frozen=True)
class ProbesMeasured:
    """Finished probes, from which a decision mode concludes."""

    measured: ProbeMeasurement
    compute: Compute

    @property
    def observations(self) -> Observations:
        """The probes as runs over the components."""
        return self.measured.observations

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """By the recipe's mode; the other modes beside it, if cross-checks are asked for."""
        decision, started = context.recipe.decision, time.monotonic()
        with context.reporter.part("decision", f"deciding {request.label} by {decision.probe_mode}", None):
            request, measured = _with_recomputed(context, state, request, self.measured)
            problem = decision_problem(context, state, request, measured)
            outcome = MODES[decision.probe_mode](problem)
            compute = self.compute + _mode_compute(context, "evaluation", outcome, time.monotonic() - started)
            modes, checking = _cross_checks(context, request, problem, outcome)
        return _record(context, state, request, problem, outcome, modes, compute + checking)


def counted_tasks(context: RunContext, phase: Phase) -> tuple[CountedTask, ...]:
    """The tasks that the decision of a phase counts: of its domains or of none, of role fit.

    By accuracy those that have one, by tasks the first metric of each; none of them where decisions are by loss.
    """
    by = context.recipe.decision.by
    if by == "loss":
        return ()
    there = {None, *map(base_name, phase.domains)}
    found = []
    for recipe, task in zip(context.recipe.tasks, context.tasks, strict=True):
        metric = accuracy_of(task) if by == "accuracy" else task.metrics[0]
        if metric is not None and recipe.role == "fit" and recipe.weight > 0 and recipe.domain in there:
            found.append(CountedTask(recipe, task, metric.name, metric.maximised))
    return tuple(found)


# Measuring


def _probe_all(context: RunContext, state: ModelState, request: DecisionRequest) -> ProbeMeasurement:
    decision, phase, components = context.recipe.decision, request.phase, request.components
    parts = components.parts(request.purities, own_probes=request.own_probes, every_purity=request.every_purity)
    everything = context.heldout(phase.domains, "decision")
    needs = ProbeNeeds(
        len(parts),
        candidate_count(decision, len(components.components)),
        len(phase.domains),
        phase.batch_rows,
        phase.n_steps,
        request.n_decisions,
    )
    plan = plan_probes(decision, needs, min(len(ids) for ids in everything.sequences))
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


def _with_answers(
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


def _probe_compute(measured: ProbeMeasurement) -> Compute:
    probe_tokens = sum(probe.n_tokens for probe in measured.probes)
    read = measured.heldout.n_tokens * (len(measured.probes) + 1)
    return Compute.of("probes", measured.flops_training, probe_tokens, measured.seconds) + Compute.of(
        "evaluation", measured.flops_evaluation, read, 0.0
    )


# Concluding


def _with_recomputed(
    context: RunContext, state: ModelState, request: DecisionRequest, measured: ProbeMeasurement
) -> tuple[DecisionRequest, ProbeMeasurement]:
    """With replay auto: the request with those known domains recomputed that alone lower the predicted objective."""
    recipe = context.recipe
    if recipe.replay.recompute != "auto" or request.components.space is None:
        return request, measured
    if recipe.decision.probe_mode != "probe-law":
        return request, measured  # they would need probes of their own

    def recomputed(names: Sequence[str]) -> tuple[DecisionRequest, ProbeMeasurement]:
        components = MixtureComponents.beside_known(context, state.history, request.phase, names)
        assert components is not None  # it was not without any
        return replace(request, components=components), _seen_through(components, measured)

    def promise(names: Sequence[str]) -> float:
        return MODES["probe-law"](decision_problem(context, state, *recomputed(names))).proposal.objective_value

    kept = promise(())
    bundled = request.components.space.fixed_ratio
    return recomputed([name for name in bundled if promise((name,)) < (1 - _RECOMPUTING_IS_WORTH) * kept])


def _seen_through(components: MixtureComponents, measured: ProbeMeasurement) -> ProbeMeasurement:
    """The same probes, with their shares of other components."""
    leaves = components.leaves
    probes = []
    for probe in measured.probes:
        mixture = Mixture.from_dict(leaves, {n: probe.component.trained_on[n] for n in leaves.names})
        probes.append(replace(probe, component=replace(probe.component, shares=components.shares_of(mixture))))
    return replace(measured, old=components.old_shares, probes=tuple(probes))


def decision_problem(
    context: RunContext, state: ModelState, request: DecisionRequest, measured: ProbeMeasurement
) -> DecisionProblem:
    """What every mode answers: finished probes, and what the recipe asks for."""
    decision, components = context.recipe.decision, request.components
    return DecisionProblem(
        measured,
        _objective(context, request),
        components.bounds(context, state.history, request.n_rows),
        components.prior(request.prior),
        decision.given_kl,
        candidate_count(decision, len(components.components)),
        decision.gradient_evaluations,
        context.recipe.seed + request.phase.number + request.at_step,
        request.own,
        _ceilings(context, request.phase, measured),
        request.horizon,
        decision.kl_weight,
        tuple(guard_of(context, request, guard) for guard in decision.guards),
    )


def _objective(context: RunContext, request: DecisionRequest) -> Objective:
    """The recipe's over the phase's domains, or the weighted mean of costs on tasks; over all metrics of the probes."""
    names = request.phase.domains
    if not request.tasks:
        return context.objective(names, "decision")
    weights = {each.task.name: each.recipe.weight for each in request.tasks}
    return Objective.from_dict((*names, *weights), weights, "metric")


def _ceilings(context: RunContext, phase: Phase, measured: ProbeMeasurement) -> Floats | None:
    """Retention: no domain learnt before may be predicted to be worse than now by more than so many nats."""
    most = context.recipe.retention.max_rise
    if most is None:
        return None
    known = np.array([name in phase.known for name in phase.domains])
    ceilings = np.full(len(measured.metrics), np.inf)
    ceilings[: len(known)] = np.where(known, measured.base_loss_nats + most, np.inf)
    return ceilings


def _cross_checks(
    context: RunContext, request: DecisionRequest, problem: DecisionProblem, chosen: ModeOutcome
) -> tuple[dict[str, ModeRecord], Compute]:
    """What every mode that was asked for answers to the same problem; one that cannot says why."""
    decision, components = context.recipe.decision, request.components
    failures, compute = dict[str, str](), Compute()
    outcomes: dict[str, ModeOutcome] = {decision.probe_mode: chosen}
    for name in (name for name in MODES if decision.cross_checks and name != decision.probe_mode):
        started = time.monotonic()
        if name == "gradient" and request.tasks:
            failures[name] = "cannot be asked: answers have no gradient"
            continue
        if name == "gradient" and (problem.guards or problem.ceilings is not None):
            failures[name] = "cannot be asked: guards and retention are held by a law, and it has none"
            continue
        try:
            outcomes[name] = MODES[name](problem)
        except ConvergenceError as error:
            failures[name] = f"failed: {error}"
            continue
        compute += _mode_compute(context, "cross-checks", outcomes[name], time.monotonic() - started)
    n = len(request.phase.domains)
    records = {
        name: ModeRecord(
            mixture=dict(components.expand(outcome.proposal.mixture).as_dict),
            status=outcome.proposal.status,
            predicted_loss_nats=named(request.phase.domains, outcome.proposal.predicted[:n]),
            objective_value=finite(outcome.proposal.objective_value),
        )
        for name, outcome in outcomes.items()
    }
    return records | {n: ModeRecord(mixture=None, status=status) for n, status in failures.items()}, compute


def _mode_compute(context: RunContext, part: str, outcome: ModeOutcome, seconds: float) -> Compute:
    forward, backward, size = outcome.n_forward_tokens, outcome.n_backward_tokens, context.size
    return Compute.of(part, size.evaluation(forward) + size.training(backward), forward + backward, seconds)


def _references(context: RunContext, request: DecisionRequest, chosen: Mixture) -> dict[str, Mixture]:
    """Mixtures whose predictions stand beside the chosen one's, over the components.

    Where domains keep a fixed ratio, natural and uniform are no mixtures of the components.
    """
    found = {"chosen": chosen, "so far": request.components.old_shares}
    return found if request.components.space is not None else found | named_references(context, request)


def _record(
    context: RunContext,
    state: ModelState,
    request: DecisionRequest,
    problem: DecisionProblem,
    outcome: ModeOutcome,
    modes: dict[str, ModeRecord],
    compute: Compute,
) -> Decision:
    names, proposal, measured = request.phase.domains, outcome.proposal, problem.measured
    n = len(names)
    references = _references(context, request, proposal.mixture)
    predicted = outcome.predict(np.array([mixture.weights for mixture in references.values()]))
    values = np.atleast_1d(problem.objective.value(predicted))
    ceilings = outcome.ceilings
    return Decision(
        **request.describe(context, state, proposal.mixture),
        evidence="probes",
        mode=context.recipe.decision.probe_mode,
        prior=dict(problem.prior.as_dict),
        kl_weight=proposal.kl_weight,
        kl_source=outcome.kl_source,
        binding=proposal.binding,
        status=proposal.status,
        base_loss_nats=named(names, measured.base_loss_nats),
        probes={
            probe.component.name: ProbeRecord(
                shares=dict(probe.component.shares.as_dict), loss_nats=named(names, probe.loss_nats)
            )
            for probe in measured.probes
        },
        probe_tokens=measured.probes[0].n_tokens,
        probe_steps=measured.steps,
        affordable_probe_steps=measured.affordable_steps,
        predicted_loss_nats=named(names, predicted[0, :n]),
        predicted_objective={name: finite(value) for name, value in zip(references, values, strict=True)},
        ceilings=None
        if ceilings is None
        else {name: float(most) for name, most in zip(names, ceilings[:n], strict=True) if np.isfinite(most)},
        tasks=_error_rates(measured, predicted[0, n:]),
        modes=modes,
        assessment_absent=outcome.assessment_absent,
        compute=compute,
    )


def _error_rates(measured: ProbeMeasurement, predicted: Floats) -> ErrorRates | None:
    """What a decision by tasks saw and foretells, per task."""
    tasks = measured.tasks
    if tasks is None:
        return None
    rows = zip(measured.probes, tasks.probes, strict=True)
    return ErrorRates(
        base=named(tasks.names, tasks.base),
        probes={probe.component.name: named(tasks.names, row) for probe, row in rows},
        predicted=named(tasks.names, predicted),
    )
