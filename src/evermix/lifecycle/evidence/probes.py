"""Evidence by probes of the model itself (OP-Mix, arXiv 2605.15220; METHODS 2): short LoRA trainings, and a mode."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError
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
from evermix.lifecycle.evidence.outcomes import learnt_from, learnt_horizon
from evermix.lifecycle.evidence.probe_budget import candidate_count, planned_probes, recomputed_domains
from evermix.lifecycle.evidence.probed import DecisionProblem, ModeOutcome, ProbeMeasurement
from evermix.lifecycle.evidence.probing import probe_all, probe_compute, with_answers
from evermix.lifecycle.evidence.worth import DRAWS, STAYS, expected_after
from evermix.lifecycle.scoring import accuracy_of
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase, base_name
from evermix.results import Compute, Decision, Expectation, ProbeRecord
from evermix.results.run_result import ErrorRates, EvidenceName, ModeRecord

Floats = npt.NDArray[np.float64]
_RECOMPUTING_IS_WORTH = 1e-3  # of the predicted objective: what one domain's share of its own must gain


class ProbeEvidence(Evidence):
    """LoRA probes of the current model.

    Args:
        to_be_merged: whether the probes themselves are merged in the end, and so must be pure.
    """

    name: EvidenceName = "probes"

    def __init__(self, to_be_merged: bool = False) -> None:
        self.to_be_merged = to_be_merged

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """That interpolated points reach from probe to probe; what is merged; what the horizon is learnt from."""
        between = ["from probe to probe"] if context.recipe.decision.probe_mode == "interpolation" else []
        return between + ["to be merged"] * request.to_be_merged + learnt_from(state.decisions)

    def kept_start(self, recipe: Recipe, phase: Phase) -> Expectation | None:
        """Asked of the recipe alone (worth.py)."""
        planned = planned_probes(recipe, phase, self.to_be_merged)
        return None if planned is None or planned.at_steps else planned.expected

    def request(
        self, context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str
    ) -> DecisionRequest | None:
        """Before a phase: the shares of new domains beside those learnt before, where that is worth it."""
        recipe, phase = context.recipe, phases[-1]
        if self.kept_start(recipe, phase) is not None:
            return None
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
            to_be_merged=self.to_be_merged,
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
        measured = probe_all(context, state, request)
        if not request.tasks:
            return ProbesMeasured(measured, probe_compute(measured))
        with_tasks, answering = with_answers(context, measured, request.tasks)
        return ProbesMeasured(with_tasks, probe_compute(measured) + answering)

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """Probes of all decisions of a phase, and what they and their mode read."""
        planned = planned_probes(recipe, phase, self.to_be_merged)
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
            outcome, expected = _or_the_start(context, request, problem, outcome, compute)
        return _record(context, state, request, problem, outcome, expected, modes, compute + checking)


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


def _or_the_start(
    context: RunContext, request: DecisionRequest, problem: DecisionProblem, outcome: ModeOutcome, spent: Compute
) -> tuple[ModeOutcome, Expectation | None]:
    """The outcome, or the start where no gain over it is expected; None: this mode does not tell.

    As training, a part c of the phase's FLOPs would have brought about c of the fall that is foretold for the phase.
    """
    law, phase = outcome.law, request.phase
    if law is None:
        return outcome, None
    start = request.components.shares_of(request.in_force or context.named_mixture(phase))
    trained = context.size.training(context.mean_length(context.over_all(request.prior)) * phase.n_rows)
    gained = spent.flops / trained * (problem.measured.base_values - law.level_)
    slopes = law.drawn_slopes(DRAWS, np.random.default_rng(problem.seed))
    expected = expected_after(law, problem.objective, outcome.proposal.mixture, start, slopes, gained)
    if expected.gain > 0 or context.recipe.decision.always or not problem.allows(start, law):
        return outcome, expected
    predicted = tuple(law.predict(start.weights).tolist())
    proposal = replace(outcome.proposal, mixture=start, predicted=predicted, binding=(), status=STAYS)
    return replace(outcome, proposal=proposal), expected.model_copy(update={"stays": True})


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
        _level_horizon(context, state, request, measured),
        decision.probes.horizon,
        decision.kl_weight,
        tuple(guard_of(context, request, guard) for guard in decision.guards),
    )


def _level_horizon(
    context: RunContext, state: ModelState, request: DecisionRequest, measured: ProbeMeasurement
) -> float | Floats:
    """Per metric; before a phase learnt from what earlier phases have done to losses that probes had foretold."""
    by_itself = context.recipe.decision.probes.horizon
    if request.at_step:
        return by_itself
    base = named(request.phase.domains, measured.base_loss_nats)
    return learnt_horizon(by_itself, state.decisions, request.phase.number, base, measured.metrics).factor


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
    expected: Expectation | None,
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
        horizon=_told(problem) if context.recipe.decision.probe_mode == "probe-law" else None,
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
        expected=expected,
        modes=modes,
        assessment_absent=outcome.assessment_absent,
        compute=compute,
    )


def _told(problem: DecisionProblem) -> dict[str, float]:
    """The horizon of every metric."""
    metrics = problem.measured.metrics
    return named(metrics, np.broadcast_to(problem.level_horizon, len(metrics)))


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
