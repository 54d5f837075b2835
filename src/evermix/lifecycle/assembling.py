"""From what an arm did in a phase to its part of the RunResult: scores, forgetting, realised decisions, compute.

This module alone reads test text, after all that there was to decide is decided.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.ledger import content_hash
from evermix.lifecycle.arms import PhaseOutcome
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.equal_compute import Entrant
from evermix.lifecycle.evidence.base import named, positive
from evermix.lifecycle.scoring import mean_accuracy, score, score_on_tasks, tasks_seen
from evermix.mixture import Mixture
from evermix.recipe.phases import Phase, base_name
from evermix.results import (
    ArmResult,
    Compute,
    Decision,
    DomainInfo,
    Means,
    ModelInfo,
    ObjectiveInfo,
    PairedComparison,
    PhaseResult,
    RunResult,
    ScheduledMixture,
)
from evermix.results.run_result import TaskScores
from evermix.training.data import open_stream

Floats = npt.NDArray[np.float64]
PhaseResults = list[PhaseResult]


def phase_result(
    context: RunContext, row_name: str, order: int, phase: Phase, outcome: PhaseOutcome, before: Sequence[PhaseResult]
) -> PhaseResult:
    """What one arm was trained on in a phase, how it scores on all domains there are, and what it cost.

    Args:
        row_name: of the row of the comparison.
        phase: as long as it was trained on.
        before: its earlier phases of the same order.
    """
    scores = score(context, outcome.judged.run_id, outcome.judged.trained, phase.domains, "test")
    objective, losses = context.objective(phase.domains, "test"), scores.loss_nats
    bits = np.array([each.bits_per_byte for each in scores.per_domain.values()])
    value, forgetting = float(objective.value(losses)), dict[str, float]()
    for name in phase.known:
        earlier = [row.per_domain[name].loss_nats for row in before if name in row.per_domain]
        if earlier:
            forgetting[name] = scores.per_domain[name].loss_nats - min(earlier)
    trained_on = _TrainedOn(context, outcome)
    result = PhaseResult(
        arm=row_name,
        order=order,
        number=phase.number,
        phase=phase.name,
        kind=phase.recipe.kind,
        trainer=phase.recipe.trainer,
        new=phase.new,
        known=phase.known,
        n_rows=phase.n_rows,
        n_tokens=trained_on.n_tokens,
        mixture=positive(outcome.mixture),
        average_mixture=trained_on.average,
        schedule=trained_on.schedule,
        new_share=float(sum(outcome.mixture[name] for name in phase.new)),
        per_domain=scores.per_domain,
        objective_value=value,
        means=_means(losses, bits, np.array(objective.weights)),
        means_over_all=_means(losses, bits, np.full(len(losses), 1 / len(losses))),
        forgetting_nats=forgetting,
        mean_forgetting_nats=float(np.mean(list(forgetting.values()))) if forgetting else 0.0,
        epochs=trained_on.epochs,
        tokens=trained_on.tokens,
        compute=outcome.compute,
        cumulative_compute=Compute.sum((*(earlier.compute for earlier in before), outcome.compute)),
        decisions=tuple(
            decision.model_copy(
                update={
                    "order": order,
                    "realised_loss_nats": named(phase.domains, losses),
                    "realised_objective": value,
                }
            )
            for decision in outcome.decisions
        ),
        stayed=outcome.stayed,
        curve=outcome.judged.curve,
        model_id=outcome.judged.run_id,
        record=outcome.record,
    )
    _note_outcomes(context, result)
    return _with_tasks(context, result, phase, outcome, before)


class _TrainedOn:
    """What a phase's rows were, out of the history that its model has gone through."""

    def __init__(self, context: RunContext, outcome: PhaseOutcome) -> None:
        self.context, self.first = context, outcome.first_row
        self.history = outcome.judged.history
        assert self.history.schedule is not None, "the model was trained"
        self._schedule = self.history.schedule
        spent = self._schedule.sequences_spent
        self._rows: Floats = spent(self.history.n_rows) - spent(self.first)

    @property
    def n_tokens(self) -> float:
        """Expected."""
        return float(self._rows @ self.context.store.mean_lengths)

    @property
    def average(self) -> dict[str, float]:
        """Over the phase."""
        return positive(Mixture.normalised(self.context.rows, self._rows))

    @property
    def schedule(self) -> tuple[ScheduledMixture, ...]:
        """Mixtures, with rows and tokens counted from the beginning of the phase."""
        starts = [s.start_sequence for s in self._schedule.segments if s.start_sequence > self.first]
        found = []
        for start in (self.first, *(start for start in starts if start < self.history.n_rows)):
            rows = self._schedule.sequences_spent(start) - self._schedule.sequences_spent(self.first)
            tokens = float(rows @ self.context.store.mean_lengths)
            mixture = positive(self._schedule.mixture_at(start))
            found.append(ScheduledMixture(start_row=start - self.first, start_token=tokens, mixture=mixture))
        return tuple(found)

    @property
    def epochs(self) -> dict[str, float]:
        """Passes over every text used so far."""
        return {name: float(n) for name, n in self._drawn(self._stream().epochs().tolist())}

    @property
    def tokens(self) -> dict[str, float]:
        """Of every text used so far."""
        counts = self._stream().counts * self.context.store.mean_lengths
        return {name: float(n) for name, n in self._drawn(counts.tolist())}

    def _stream(self) -> Any:
        stream = open_stream(self.context.store, self._schedule, self.context.recipe.seed)
        stream.seek(self.history.n_rows)
        return stream

    def _drawn(self, values: Sequence[float]) -> list[tuple[str, float]]:
        used = self.history.spent > 0
        names = self.context.rows.names
        return [(name, n) for name, n, here in zip(names, values, used, strict=True) if here]


def _means(losses: Floats, bits_per_byte: Floats, weights: Floats) -> Means:
    """Means over domains, shapes (domains,), under weights that sum to 1."""
    return Means(
        loss_nats=float(weights @ losses),
        bits_per_byte=float(weights @ bits_per_byte),
        perplexity=float(weights @ np.exp(losses)),
    )


def _note_outcomes(context: RunContext, result: PhaseResult) -> None:
    """What came of decisions, in the ledger beside them."""
    for decision in result.decisions:
        outcome = {
            "arm": decision.arm,
            "phase": decision.phase,
            "label": decision.label,
            "predicted_loss_nats": decision.predicted_loss_nats,
            "realised_loss_nats": decision.realised_loss_nats,
            "realised_objective": decision.realised_objective,
        }
        context.project.ledger.append("outcome", content_hash([result.model_id, decision.label]), outcome)


def _with_tasks(
    context: RunContext, result: PhaseResult, phase: Phase, outcome: PhaseOutcome, before: Sequence[PhaseResult]
) -> PhaseResult:
    """With scores on the tasks of all domains that there are or were, and their compute, which is in no total."""
    domains = {base_name(name) for row in before for name in row.per_domain} | set(map(base_name, phase.domains))
    tasks = tasks_seen(context, domains)
    if not tasks:
        return result
    found = score_on_tasks(context, outcome.judged.run_id, outcome.judged.trained, tasks)
    accuracy = mean_accuracy(context.recipe, found)
    return result.model_copy(
        update={"tasks": found.metrics, "mean_accuracy": accuracy, "scoring_compute": found.compute}
    )


def assemble(
    context: RunContext,
    found: Mapping[Entrant, Sequence[PhaseResults]],
    untrained: Sequence[Decision] = (),
    before: TaskScores | None = None,
) -> RunResult:
    """The whole result.

    Args:
        found: row of the comparison -> per order, its phases.
        untrained: decisions that no arm was trained on.
        before: what the checkpoint that all arms begin with scores on the tasks.
    """
    recipe = context.recipe
    store = context.store
    rows = zip(store.counts(), store.domains, context.rows, strict=True)
    return RunResult(
        recipe_fingerprint=recipe.fingerprint(),
        project=str(recipe.project_folder),
        method=recipe.method,
        seed=recipe.seed,
        model=ModelInfo(
            name=recipe.model.checkpoint or recipe.model.rung,
            non_embedding=context.size.non_embedding,
            output_projection=context.size.output_projection,
        ),
        objective=ObjectiveInfo(
            quantity=recipe.objective.quantity, by=recipe.decision.by, weights=recipe.domain_weights
        ),
        max_epochs=recipe.constraints.max_epochs,
        domains=tuple(
            DomainInfo(
                name=counts["name"],
                n_tokens=domain.n_tokens or 0,
                n_rows=row.n_rows or 0,
                n_bytes=counts["train_n_bytes"],
                n_documents=counts["train_n_documents"],
                decision_tokens=store.heldout(j, "decision").size,
                test_tokens=store.heldout(j, "test").size,
            )
            for j, (counts, domain, row) in enumerate(rows)
        ),
        orders=tuple(tuple(phase.name for phase in phases) for phases in context.orders),
        before=before,
        arms={
            row.name: ArmResult(
                arm=row.arm,
                given=row.given,
                label=row.label,
                colour=row.colour,
                mark=row.mark,
                orders=tuple(map(tuple, orders)),
            )
            for row, orders in found.items()
        },
        untrained_decisions=tuple(untrained),
        comparisons=_comparisons(context, {row.name: orders for row, orders in found.items()}),
    )


def _comparisons(context: RunContext, arms: Mapping[str, Sequence[PhaseResults]]) -> tuple[PairedComparison, ...]:
    """Standard errors of loss differences at the end of each order, paired over test sequences."""
    found = []
    for order, phases in enumerate(context.orders):
        names = phases[-1].domains
        losses = {
            arm: score(context, orders[order][-1].model_id, Path(), names, "test").sequence_losses
            for arm, orders in arms.items()
        }
        for arm, baseline in itertools.permutations(arms, 2):
            errors = {name: _stderr(losses[arm][name], losses[baseline][name]) for name in names}
            found.append(PairedComparison(arm=arm, baseline=baseline, order=order, difference_stderr_nats=errors))
    return tuple(found)


def _stderr(ours: Sequence[float], theirs: Sequence[float]) -> float:
    difference = np.array(ours) - np.array(theirs)
    spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
    return float(spread / np.sqrt(len(difference)))
