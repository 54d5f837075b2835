"""What a model and its probes answer wrongly, for decisions by accuracy (recipe: decision.by).

With r of n answers right (or a mean score of r / n), the error rate that laws are fitted to is

    (n - r + 1/2) / (n + 1)

which is never 0 nor 1, as laws of positive quantities ask for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.cost import Cost
from evermix.lifecycle.continual.scoring import TaskScores, accuracy_of, score_on_tasks
from evermix.lifecycle.probing import Evidence, TaskEvidence
from evermix.measure.probes import load_probe
from evermix.recipe import TaskRecipe
from evermix.recipe.timeline import Phase, base_name
from evermix.tasks import Task

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CountedTask:
    """A task that decisions count."""

    recipe: TaskRecipe
    task: Task
    metric: str


def counted_tasks(bench: LifeBench, stage: Phase) -> tuple[CountedTask, ...]:
    """The tasks that the decision of a stage counts: of its domains or of none, of role fit, with an accuracy.

    None of them where decisions are by loss.
    """
    if bench.recipe.decision.by == "loss":
        return ()
    there = {None, *map(base_name, stage.domains)}
    found = []
    for recipe, task in zip(bench.recipe.tasks, bench.tasks, strict=True):
        metric = accuracy_of(task)
        if metric is not None and recipe.role == "fit" and recipe.weight > 0 and recipe.domain in there:
            found.append(CountedTask(recipe, task, metric.name))
    return tuple(found)


def with_answers(bench: LifeBench, evidence: Evidence, counted: Sequence[CountedTask]) -> tuple[Evidence, list[Cost]]:
    """The evidence with the error rates of base and probes, scored once and kept; and what that cost."""
    tasks, base = [each.task for each in counted], evidence.base
    found = [score_on_tasks(bench, base.run_id, base.checkpoint, tasks)]
    for probe in evidence.probes:
        load = partial(load_probe, base.checkpoint)
        found.append(score_on_tasks(bench, probe.adapter.parent.name, probe.adapter, tasks, load))
    rates = np.array([_rates(scores, counted) for scores in found])

    def measure(model: PreTrainedModel) -> Floats:
        scores = [each.task.score(model, bench.store.tokenizer)[each.metric] for each in counted]
        return np.array([_error_rate(score.value, score.n_items) for score in scores])

    n_tokens = sum(task.n_tokens(bench.store.tokenizer) for task in tasks)
    answers = TaskEvidence(tuple(task.name for task in tasks), rates[0], rates[1:], measure, n_tokens)
    costs = [replace(cost, part="evaluation") for scores in found for cost in scores.costs]
    return replace(evidence, tasks=answers), costs


def _rates(scores: TaskScores, counted: Sequence[CountedTask]) -> list[float]:
    found = [scores.metrics[each.metric] for each in counted]
    return [_error_rate(metric["value"], metric["n_items"]) for metric in found]


def _error_rate(accuracy: float, n_items: int) -> float:
    return (n_items * (1 - accuracy) + 0.5) / (n_items + 1)
