"""plan: the phases of a recipe in every order, and what every arm will cost by part, without reading any text."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from evermix.lifecycle.context import check_positions
from evermix.lifecycle.equal_compute import Entrant, depends_on_size, entrants, estimate
from evermix.lifecycle.evidence.probe_budget import planned_probes
from evermix.lifecycle.evidence.swarm import planned_runs
from evermix.lifecycle.evidence.timetable import timetable
from evermix.lifecycle.work import Work
from evermix.models.ladder import counted_parameters
from evermix.models.loading import config_at_hand
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results.plan import ArmPlan, PhasePlan, RunPlan, SwarmPlan

_SIZE_UNKNOWN = "the size of the model, which says how many tokens the swarm's compute is, is not known yet"


def plan(recipe: Recipe) -> RunPlan:
    """What `run` would do: phases of every order, arms with tokens and, where the model's size is known, FLOPs by part.

    The size is known before any text is read for a model of the ladder with a tokenizer that will be trained.

    Raises:
        RecipeError: if a pretraining has too few steps for its decisions.
        CheckpointError: if the checkpoint is on this machine and has too few positions for the recipe's sequences.
    """
    checkpoint = recipe.model.checkpoint
    config = None if checkpoint is None else config_at_hand(checkpoint, recipe.base)
    if config is not None:
        check_positions(recipe, config)
    orders = [recipe.timeline(order) for order in recipe.phase_orders]
    known = recipe.model.checkpoint is None and recipe.tokenizer.path is None
    counted = counted_parameters(recipe.model.rung, recipe.tokenizer.vocab_size) if known else None
    rows, unknown = _rows(recipe, orders[0], counted)
    return RunPlan(
        project=str(recipe.project_folder),
        method=recipe.method,
        model=recipe.model.checkpoint or recipe.model.rung,
        n_parameters=counted,
        mode=recipe.decision.mode,
        orders=tuple(tuple(phase.name for phase in phases) for phases in orders),
        phases=tuple(tuple(_phase(recipe, phase) for phase in phases) for phases in orders),
        arms={row.name: _arm(recipe, row, orders, counted) for row in rows},
        tasks={task.name: task.role for task in recipe.tasks},
        registry=tuple(dict.fromkeys(d.registry for d in recipe.labels.sources.values() if d.registry is not None)),
        swarm=_swarm(recipe, orders[0][0]) if recipe.decided_by == "swarm" else None,
        not_estimated=(*_not_estimated(recipe), *(f"arm {row.name}: {_SIZE_UNKNOWN}" for row in unknown)),
    )


def _phase(recipe: Recipe, phase: Phase) -> PhasePlan:
    described = PhasePlan(
        number=phase.number,
        phase=phase.name,
        kind=phase.recipe.kind,
        trainer=phase.recipe.trainer,
        domains=phase.domains,
        new=phase.new,
        n_steps=phase.n_steps,
        n_tokens=phase.n_rows * recipe.corpus.sequence_length,
    )
    if recipe.decided_by == "swarm":
        if len(phase.domains) < 2:
            return described
        return described.model_copy(update={"decided_at": (0,), "n_proxies": planned_runs(recipe, len(phase.domains))})
    if "evermix" not in recipe.arms:
        return described
    experiments = timetable(recipe, phase)
    if experiments is not None:
        return described.model_copy(
            update={
                "decided_at": experiments.decided_at,
                "expected": experiments.expected,
                "n_segments": sum(map(len, experiments.experiments)),
                "evaluation_sequences": experiments.evaluation_sequences,
            }
        )
    probes = planned_probes(recipe, phase)
    if probes is None:
        return described
    if not probes.at_steps:
        return described.model_copy(update={"expected": probes.expected})
    return described.model_copy(
        update={
            "decided_at": probes.at_steps,
            "expected": probes.expected,
            "n_probes": probes.plan.n_probes,
            "steps_per_probe": probes.plan.steps,
            "evaluation_sequences": probes.plan.evaluation_sequences,
            "affordable_steps_per_probe": probes.plan.affordable_steps,
        }
    )


def _rows(recipe: Recipe, phases: Sequence[Phase], counted: int | None) -> tuple[list[Entrant], list[Entrant]]:
    """Rows of the comparison: those that can be estimated, and those that need the size of the model, unknown yet."""
    rows = entrants(recipe)
    unknown = [row for row in rows if counted is None and depends_on_size(recipe, row, phases)]
    return [row for row in rows if row not in unknown], unknown


def _arm(recipe: Recipe, row: Entrant, orders: Sequence[Sequence[Phase]], counted: int | None) -> ArmPlan:
    """Tokens and FLOPs by part over all phases, means over orders."""
    size = counted or 1  # where it is not known no row is left whose tokens depend on it
    each = [[work for works in estimate(recipe, row, phases, size) for work in works] for phases in orders]
    parts = dict.fromkeys(work.part for works in each for work in works)

    def over_orders(measure: Callable[[Work], float]) -> dict[str, float]:
        sums = {part: [sum(measure(work) for work in works if work.part == part) for works in each] for part in parts}
        return {part: float(np.mean(values)) for part, values in sums.items()}

    return ArmPlan(
        given=row.given,
        tokens_by_part=over_orders(lambda work: work.n_tokens),
        flops_by_part=None if counted is None else over_orders(lambda work: work.flops(counted)),
    )


def _swarm(recipe: Recipe, phase: Phase) -> SwarmPlan:
    """No parameters and FLOPs with a tokenizer that is not trained: its vocabulary is unknown before it is read."""
    settings, law, m = recipe.swarm, recipe.decision.law, len(phase.domains)
    reason = "as the recipe says" if settings.runs else f"what law {law} needs for {m} domains"
    n_runs = planned_runs(recipe, m)
    described = SwarmPlan(rung=settings.rung, law=law, n_runs=n_runs, reason=reason)
    if recipe.tokenizer.path is not None or recipe.model.checkpoint is not None:
        return described
    counted = counted_parameters(settings.rung, recipe.tokenizer.vocab_size)
    tokens_per_step = settings.batch_sequences * recipe.corpus.sequence_length
    steps = settings.n_tokens(counted) // tokens_per_step
    return described.model_copy(
        update={
            "n_parameters": counted,
            "steps_per_proxy": steps,
            "tokens_per_proxy": steps * tokens_per_step,
            "chinchilla": steps * tokens_per_step / (20 * counted),
            "flops": 6.0 * counted * steps * tokens_per_step * n_runs,
        }
    )


def _not_estimated(recipe: Recipe) -> tuple[str, ...]:
    """What will cost something that the plan does not hold."""
    found = []
    if any(phase.trainer == "sdft" for phase in recipe.phases):
        found.append("generation: what the model writes in trainer sdft")
    if recipe.decision.by != "loss" and recipe.decided_by == "probes" and "evermix" in recipe.arms:
        found.append("evaluation: what base and probes (or candidates) answer to the tasks before every decision")
    return tuple(found)
