"""Arms that decide: evidence is gathered, a mixture decided, the phase trained on it. They differ in the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evermix.errors import RecipeError
from evermix.lifecycle.arms.base import Arm, PhaseOutcome, on_mixture, trained
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.course import Course
from evermix.lifecycle.deciding import decide
from evermix.lifecycle.evidence import EVIDENCE, Evidence
from evermix.lifecycle.evidence.base import on_the_way
from evermix.lifecycle.evidence.in_run import InRunEvidence
from evermix.lifecycle.evidence.probe_budget import decided_at
from evermix.lifecycle.evidence.probes import ProbeEvidence
from evermix.lifecycle.evidence.timetable import Timetable, timetable
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work, trainings
from evermix.mixture import Mixture
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Compute, Decision, Expectation
from evermix.results.run_result import EvidenceName
from evermix.trust.references import BEST_RUN


class DecidedArm(Arm):
    """Decide before a phase, then train it; where there is nothing to decide, the recipe's start."""

    evidence: EvidenceName
    decides = True

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """Decide the last phase's mixture, then train it."""
        return _before(context, state, phases, self.name, self.evidence)

    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """The decision, and the training of the phase."""
        return [*EVIDENCE[self.evidence].estimate(recipe, phases[-1]), *trainings(recipe, phases[-1])]


class Evermix(Arm):
    """The recipe's method: the run itself, probes of the model (OP-Mix, arXiv 2605.15220), or a swarm (Olmix).

    A swarm decides before a phase, and so do probes, but for a pretraining: that is decided on the way, as is a later
    phase by experiments within it.
    """

    name, label, colour, mark = "evermix", "evermix", "#009E73", "o"
    decides = True

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """Decide the last phase's mixture, then train it; in a pretraining decide on the way."""
        evidence, phase = context.recipe.decided_by, phases[-1]
        planned = timetable(context.recipe, phase)
        if planned is not None:
            return _in_run(context, state, phase, planned)
        if evidence == "probes" and phase.recipe.kind == "pretrain":
            return _on_the_way(context, state, phase)
        return _before(context, state, phases, self.name, evidence)

    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """Decisions, and the training of the phase."""
        phase, evidence = phases[-1], recipe.decided_by
        if timetable(recipe, phase) is not None:
            return [*trainings(recipe, phase), *EVIDENCE["in-run"].estimate(recipe, phase)]
        work = EVIDENCE[evidence].estimate(recipe, phase)
        at = decided_at(recipe, phase) if evidence == "probes" and phase.recipe.kind == "pretrain" else ()
        before, *after = trainings(recipe, phase, at)
        return [before, *work, *after] if at else [*work, before, *after]


class MergeMix(DecidedArm):
    """A full model per component, merged at many weights; a law of the merges decides the mixture."""

    name, label, colour, mark = "mergemix", "MergeMix", "#B8A800", "X"
    evidence: EvidenceName = "merges"


class ProxySwarm(DecidedArm):
    """At every phase a swarm of small proxies decides the mixture (OlmixBase, arXiv 2602.12237)."""

    name, label, colour, mark = "proxy-swarm", "proxy swarm", "#17A0A0", "p"
    evidence: EvidenceName = "swarm"


class Oracle(DecidedArm):
    """The phase trained at every share of a grid, and the best kept: what a decision could gain."""

    name, label, colour, mark = "oracle", "oracle (sweep)", "#8a8f98", "*"
    evidence: EvidenceName = "sweep"
    decides = False  # a bound, and no method that a baseline would have to match


class BestRunArm(DecidedArm):
    """The mixture of the best proxy of the swarm, as it was measured, without a law."""

    name, label, colour, mark = "best-run", "best run", "#999999", "h"
    evidence: EvidenceName = "swarm"

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """The decision is made as by arm evermix; what is trained on is the best run's mixture."""
        phase = phases[-1]
        decision = decide_before(context, state, phases, self.name, EVIDENCE[self.evidence])
        comparison = None if decision is None or decision.proposal is None else decision.proposal.comparison
        best = None if comparison is None or BEST_RUN not in comparison else comparison[BEST_RUN].mixture
        if decision is None or best is None:
            raise RecipeError(
                "arm best-run needs runs of a swarm",
                received="none" if decision is None else decision.mode,
                hint="leave the arm out, or measure proxies: `evermix run` with method olmix",
            )
        mixture = Mixture.from_dict(context.leaves(phase.domains), best)
        outcome = on_mixture(context, state, phase, mixture)
        return replace(outcome, compute=decision.compute + outcome.compute)


def decide_before(
    context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str, kind: Evidence
) -> Decision | None:
    """The decision before the last of the phases; None where there is nothing to decide."""
    request = kind.request(context, state, phases, arm)
    return None if request is None else decide(context, kind, state, request)


def decided_mixture(context: RunContext, phase: Phase, decision: Decision) -> Mixture:
    """What was decided, over the phase's domains."""
    return Mixture.from_dict(context.leaves(phase.domains), decision.mixture)


def _before(
    context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str, evidence: EvidenceName
) -> PhaseOutcome:
    """Decide before the last of the phases, and train it on that; on the recipe's start where nothing is decided."""
    phase = phases[-1]
    decision = decide_before(context, state, phases, arm, EVIDENCE[evidence])
    if decision is None:
        expected = EVIDENCE[evidence].kept_start(context.recipe, phase)
        if expected is None:
            return on_mixture(context, state, phase, context.named_mixture(phase))
        return _on_the_start(context, state, phase, expected)
    outcome = on_mixture(context, state, phase, decided_mixture(context, phase, decision))
    return replace(outcome, compute=decision.compute + outcome.compute, decisions=(decision,))


def _on_the_start(context: RunContext, state: ModelState, phase: Phase, expected: Expectation) -> PhaseOutcome:
    """Trained on the start, as far as the rules allow: deciding is not expected to be worth what it costs."""
    return replace(on_mixture(context, state, phase, context.allowed_start(state.history, phase)), stayed=expected)


def _in_run(context: RunContext, state: ModelState, phase: Phase, planned: Timetable) -> PhaseOutcome:
    """The start, then experiments around what was decided last, with a decision after each; then the last decided.

    Without any experiment it is all trained on the start, as far as the rules allow.
    """
    if not planned.experiments:
        return _on_the_start(context, state, phase, planned.expected)
    evidence, decisions, mixture = InRunEvidence(), list[Decision](), context.allowed_start(state.history, phase)
    measuring = evidence.measuring(context, phase)
    before = [(context.over_all(mixture), planned.begin)]
    course = Course.begin(state, phase).through(context, before, measuring)
    for number in range(len(planned.experiments)):
        segments = evidence.experiment(context, course.state, phase, mixture, number)
        course = course.through(context, segments, measuring)
        request = on_the_way(context, course.state, phase, mixture, Evermix.name)
        decisions.append(decide(context, evidence, course.state, request))
        mixture = decided_mixture(context, phase, decisions[-1])
    over_all = context.over_all(mixture)
    outcome = trained(state, course.on(context, over_all, phase.n_steps), over_all)
    deciding = Compute.sum(decision.compute for decision in decisions)
    return replace(outcome, compute=outcome.compute + deciding, decisions=tuple(decisions))


def _on_the_way(context: RunContext, state: ModelState, phase: Phase) -> PhaseOutcome:
    """The start mixture up to the first decision, then each decided one up to the next, with one optimiser.

    On a trunk all decisions are made from it.
    """
    probes, at = ProbeEvidence(), decided_at(context.recipe, phase)
    mixture = context.allowed_start(state.history, phase)
    decisions, course = list[Decision](), Course.begin(state, phase)
    for end in (*at, phase.n_steps):
        course = course.on(context, context.over_all(mixture), end, "training" if decisions else None)
        if end < phase.n_steps:
            request = probes.request_on_the_way(context, course.state, phase, mixture, Evermix.name)
            decisions.append(decide(context, probes, course.state, request))
            mixture = decided_mixture(context, phase, decisions[-1])
    outcome = trained(state, course, context.over_all(mixture))
    deciding = Compute.sum(decision.compute for decision in decisions)
    return replace(outcome, compute=outcome.compute + deciding, decisions=tuple(decisions))
