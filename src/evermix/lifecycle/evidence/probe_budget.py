"""The budget of probes: how many, how long, and on how much decision text they are scored; planned before any run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from evermix.lifecycle.evidence.base import decides
from evermix.lifecycle.evidence.worth import by_probes, prospect_of_probes
from evermix.lifecycle.state import decision_steps
from evermix.lifecycle.work import ADAPTER, READING, TRAINING, Work
from evermix.recipe import DecisionRecipe, Recipe
from evermix.recipe.phases import Phase, base_name
from evermix.results import Expectation

_LEAST_STEPS, _MOST_STEPS = 5, 200
_LEAST_SEQUENCES = 4
_EVALUATION_PART = 1 / 4
_PARTS_OF_BUDGET = (1, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32)


def recomputed_domains(recipe: Recipe, phase: Phase) -> tuple[str, ...]:
    """Known domains whose shares are decided one by one from the beginning; `auto` chooses them later."""
    asked = recipe.replay.recompute
    if isinstance(asked, tuple):
        return tuple(name for name in phase.known if base_name(name) in asked)
    return phase.known if asked == "all" else ()


@dataclass(frozen=True)
class ProbePlan:
    """What one decision's probes and candidates may cost.

    Attributes:
        n_probes: probes to train.
        steps: optimiser steps of each.
        evaluation_sequences: sequences of decision text per domain that score a probe or a candidate.
        affordable_steps: that the budget would pay for, where that is more than a probe is given by itself; else None.
    """

    n_probes: int
    steps: int
    evaluation_sequences: int
    affordable_steps: int | None = None


@dataclass(frozen=True)
class ProbeNeeds:
    """What sets the cost of one decision's probes.

    Attributes:
        n_probes: probes to train, `old` among them.
        n_candidates: interpolated candidates, should the mode be interpolation.
        n_domains: whose decision text scores them.
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


def plan_probes(decision: DecisionRecipe, needs: ProbeNeeds, available_sequences: int, budget: float) -> ProbePlan:
    """Length of probes and size of evaluations that keep all decisions within a budget, a part of the run's FLOPs.

    With N parameters, S steps of b sequences in the run, D decisions, P probes of s steps, E evaluations of q sequences
    in each of m domains (an evaluation with gradient counts as three):
        D (4 N b s P + 2 N E m q) <= budget * 6 N b S,   a quarter of it for evaluations,   5 <= s <= 200.
    """
    probes, batch, m = decision.probes, needs.batch_sequences, needs.n_domains
    n_evaluations = needs.n_probes + 1 + _evaluations_of_mode(decision, needs.n_candidates)
    allowed = budget * 6 * batch * needs.total_steps / needs.n_decisions
    for_evaluations = allowed * _EVALUATION_PART / (2 * n_evaluations * m)
    sequences = probes.evaluation_sequences or max(_LEAST_SEQUENCES, math.floor(for_evaluations))
    sequences = min(sequences, available_sequences)
    left = allowed - 2 * n_evaluations * m * sequences
    affordable = math.floor(left / (4 * batch * needs.n_probes))
    steps = probes.steps or min(max(_LEAST_STEPS, affordable), _MOST_STEPS)
    is_capped = probes.steps is None and affordable > _MOST_STEPS
    return ProbePlan(needs.n_probes, steps, sequences, affordable if is_capped else None)


def candidate_count(decision: DecisionRecipe, n_components: int) -> int:
    """Interpolated candidates: the recipe's number, or what the log-linear law needs to be identified."""
    return max(decision.candidates, n_components + 3)


def _evaluations_of_mode(decision: DecisionRecipe, n_candidates: int) -> int:
    """Evaluations beyond those of the base and of the probes."""
    if decision.probe_mode == "probe-law":
        return 0
    return n_candidates if decision.probe_mode == "interpolation" else 3 * decision.gradient_evaluations


@dataclass(frozen=True)
class PlannedProbes:
    """Probes of all decisions of a phase, before any text is read.

    Attributes:
        plan: of one decision.
        at_steps: at which is decided; none at all where deciding is not expected to be worth what it costs.
        work: of all decisions.
        budget: part of the phase's FLOPs that they may take: of the recipe's as much as pays.
        expected: of deciding, before anything is known of the run; None where it cannot be said.
    """

    plan: ProbePlan
    at_steps: tuple[int, ...]
    work: list[Work]
    budget: float
    expected: Expectation | None = None


def planned_probes(recipe: Recipe, phase: Phase, to_be_merged: bool = False) -> PlannedProbes | None:
    """The probes of a phase; None where nothing is decided. To be merged they must be pure.

    Before a phase as much of the budget is taken as pays by worth.py, or none. Designed probes are as many as the
    recipe says. Of pure ones a single domain that is probed has one per purity; several have one each, beside one of
    what was learnt before; on the way of a pretraining at every purity.
    """
    decision, on_the_way = recipe.decision, phase.recipe.kind == "pretrain"
    at = decided_at(recipe, phase)
    if not at:
        return None
    recomputed = recomputed_domains(recipe, phase)
    if on_the_way:
        m = len(phase.domains)
        n_probes = 1 + m * len(decision.probes.purities)
    else:
        m = len(phase.new) + len(recomputed) + (len(recomputed) < len(phase.known))
        n_probed = len(phase.new) + (len(recomputed) if decision.probe_mode != "probe-law" else 0)
        n_probes = 1 + n_probed if n_probed > 1 else len(recipe.replay.purities)
    if decision.designs_probes(n_probes) and not to_be_merged:
        n_probes = decision.probes.number
    candidates = candidate_count(decision, m)
    needs = ProbeNeeds(n_probes, candidates, len(phase.domains), phase.batch_rows, phase.n_steps, len(at))
    if to_be_merged or not _foreseeable(recipe):
        return _planned(recipe, needs, at, decision.probes.budget)
    in_any_case = decision.always or on_the_way  # where a mode of probes was asked for by name
    parts = (1.0,) if in_any_case else _PARTS_OF_BUDGET
    best = max((_with_prospect(recipe, phase, needs, at, part) for part in parts), key=_net)
    assert best.expected is not None, "it was asked"
    if best.expected.stays and not in_any_case:
        return replace(best, at_steps=(), work=[])
    return replace(best, expected=best.expected.model_copy(update={"stays": False}))


def _with_prospect(recipe: Recipe, phase: Phase, needs: ProbeNeeds, at: tuple[int, ...], part: float) -> PlannedProbes:
    """With a part of the budget, and what deciding by that is expected to gain."""
    found = _planned(recipe, needs, at, part * recipe.decision.probes.budget)
    spent = sum(work.flops(1) for work in found.work) / (TRAINING * phase.n_rows * recipe.corpus.sequence_length)
    seen = by_probes(found.plan.steps, found.plan.evaluation_sequences)
    expected = prospect_of_probes(recipe, phase, recomputed_domains(recipe, phase), seen, spent)
    return replace(found, expected=expected)


def probing_budget(recipe: Recipe, phase: Phase, to_be_merged: bool = False) -> float:
    """Part of a phase's FLOPs that its probes may take."""
    planned = planned_probes(recipe, phase, to_be_merged)
    return recipe.decision.probes.budget if planned is None else planned.budget


def _net(planned: PlannedProbes) -> float:
    return 0.0 if planned.expected is None else planned.expected.gain - planned.expected.cost


def _planned(recipe: Recipe, needs: ProbeNeeds, at: tuple[int, ...], budget: float) -> PlannedProbes:
    """Within a budget, and what it costs."""
    decision, length = recipe.decision, recipe.corpus.sequence_length
    plan = plan_probes(decision, needs, recipe.corpus.heldout_sequences, budget)
    reading = len(at) * plan.evaluation_sequences * needs.n_domains * length
    n_read = needs.n_probes + 1 + (needs.n_candidates if decision.probe_mode == "interpolation" else 0)
    n_with_gradient = decision.gradient_evaluations if decision.probe_mode == "gradient" else 0
    work = [
        Work("probes", len(at) * needs.n_probes * plan.steps * needs.batch_sequences * length, ADAPTER),
        Work("evaluation", n_read * reading, READING),
        Work("evaluation", n_with_gradient * reading, TRAINING),
    ]
    return PlannedProbes(plan, at, work, budget)


def _foreseeable(recipe: Recipe) -> bool:
    """Whether it can be asked if decisions are worth it: of losses; guards and retention may forbid the start."""
    return recipe.decision.by == "loss" and not recipe.decision.guards and recipe.retention.max_rise is None


def decided_at(recipe: Recipe, phase: Phase) -> tuple[int, ...]:
    """Steps of a phase at which probes decide: on the way of a pretraining, at the beginning of what follows.

    They are the recipe's, however much a phase is lengthened.
    """
    if phase.recipe.kind == "pretrain":
        return decision_steps(recipe.decision.probed_at, phase.own_steps) if len(phase.domains) > 1 else ()
    return (0,) if decides(phase) else ()
