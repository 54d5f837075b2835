"""Scores of a model on decision or test text and on tasks: cached jobs named by model and content."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.corpus.split import Side
from evermix.errors import TaskError
from evermix.executors.job import CachedJob
from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.models.loading import load_model, load_to_score, on_gpu
from evermix.recipe import Recipe
from evermix.results import Compute, DomainScore, TaskScore
from evermix.results.run_result import TaskScores
from evermix.tasks import MetricInfo, Task
from evermix.training.evaluation import evaluate
from evermix.version import TRAINING_VERSION

Floats = npt.NDArray[np.float64]
LoadModel = Callable[[Path], PreTrainedModel]
_SCORING = "scoring"


@dataclass(frozen=True)
class Scores:
    """A model's scores on one side's text of some domains.

    Attributes:
        per_domain: in order.
        sequence_losses: of every sequence, in nats per token; for paired comparisons.
        compute: of the scoring.
    """

    per_domain: dict[str, DomainScore]
    sequence_losses: dict[str, list[float]]
    compute: Compute

    @property
    def loss_nats(self) -> Floats:
        """Loss of every domain in nats per token, shape (domains,)."""
        return np.array([score.loss_nats for score in self.per_domain.values()])


@dataclass(frozen=True)
class ScoredTasks:
    """A model's scores on tasks.

    Attributes:
        metrics: by name.
        accuracies: task -> its accuracy or score, of those that have one.
        compute: of the scoring, part `scoring`: the same for every arm and so in no arm's total.
    """

    metrics: dict[str, TaskScore]
    accuracies: dict[str, float]
    compute: Compute


def score(context: RunContext, model_id: str, model: Path, names: Sequence[str], side: Side) -> Scores:
    """Score a checkpoint on all text of one side of `names`, or read the scores it has: `decision` where a choice hangs
    on them, `test` for what came of a choice."""
    fingerprints = [[name, context.rows.domains[context.rows.index(name)].fingerprint] for name in names]
    most = context.recipe.corpus.heldout_sequences
    key = content_hash(["scores", TRAINING_VERSION, model_id, fingerprints, side, most])
    job = CachedJob(context.project.run_folder(f"scores-{key}"), ("per_domain", "sequence_losses", "compute"))
    record = job.run(lambda _: _score(context, model, names, side))
    scores = {name: DomainScore.model_validate(row) for name, row in record["per_domain"].items()}
    return Scores(scores, record["sequence_losses"], Compute.model_validate(record["compute"]))


def check_tasks(context: RunContext) -> None:
    """Nothing, if every task can be opened and one of them can decide, should they decide.

    Raises:
        TaskError: a file, an item or a scorer breaks a rule, or decisions are by accuracy and no task has one.
    """
    if context.tasks:
        context.reporter.say(f"tasks: {', '.join(task.name for task in context.tasks)}")
    recipes = context.recipe.tasks
    deciding = [task for recipe, task in zip(recipes, context.tasks, strict=True) if recipe.role == "fit"]
    if context.recipe.decision.by == "accuracy" and not any(map(accuracy_of, deciding)):
        raise TaskError(
            "decision.by: accuracy needs a task of role fit that has an accuracy or a score",
            received=", ".join(task.name for task in deciding) or None,
            hint="add a task of kind exact, choice or scorer, or decide by loss",
        )


def tasks_seen(context: RunContext, domains: Collection[str]) -> tuple[Task, ...]:
    """The tasks of `domains`, which there are or were, and those of no domain; in the order of the recipe."""
    pairs = zip(context.recipe.tasks, context.tasks, strict=True)
    return tuple(task for recipe, task in pairs if recipe.domain is None or recipe.domain in domains)


def score_on_tasks(
    context: RunContext, model_id: str, model: Path, tasks: Sequence[Task], load: LoadModel = load_model
) -> ScoredTasks:
    """Score a checkpoint on tasks, or read the scores it has; `load` makes a model of it.

    Raises:
        TaskError: an item cannot be scored with this model and tokenizer.
    """
    jobs = [_task_job(context, model_id, task) for task in tasks]
    loaded: PreTrainedModel | None = None
    for task, job in zip(tasks, jobs, strict=True):
        if not job.is_whole():
            loaded = loaded or on_gpu(load(model))
            with context.reporter.part(_SCORING, f"task {task.name}", None):
                record = _score_on_task(context, loaded, task)
                job.run(partial(_made, record))
    records = [job.record() for job in jobs]
    metrics, accuracies = dict[str, TaskScore](), dict[str, float]()
    for task, record in zip(tasks, records, strict=True):
        for metric, value in zip(task.metrics, record["scores"], strict=True):
            metrics[metric.name] = TaskScore(unit=metric.unit, **value)
        accuracy = accuracy_of(task)
        if accuracy is not None:
            accuracies[task.name] = metrics[accuracy.name].value
    return ScoredTasks(metrics, accuracies, Compute.sum(Compute.model_validate(each["compute"]) for each in records))


def score_before(context: RunContext) -> TaskScores | None:
    """Scores on all tasks of the checkpoint that all arms begin with; None where there is none, or no task.

    Raises:
        TaskError: an item cannot be scored with this model and tokenizer.
    """
    checkpoint = context.recipe.model.checkpoint
    if checkpoint is None or not context.tasks:
        return None
    found = score_on_tasks(
        context, context.initial_id, Path(checkpoint), context.tasks, lambda _: context.initial_model()
    )
    return TaskScores(tasks=found.metrics, mean_accuracy=mean_accuracy(context.recipe, found))


def accuracy_of(task: Task) -> MetricInfo | None:
    """The first metric of a task that is a share of right answers, or a mean score from 0 to 1."""
    return next((metric for metric in task.metrics if metric.maximised and metric.unit == "fraction"), None)


def mean_accuracy(recipe: Recipe, found: ScoredTasks) -> float | None:
    """The mean over tasks, if any; where tasks of role fit have decided, over the others, should there be such."""
    counted = list(found.accuracies.values())
    if recipe.decision.by != "loss":
        only_reported = {task.name for task in recipe.tasks if task.role == "held-out"}
        counted = [value for name, value in found.accuracies.items() if name in only_reported] or counted
    return float(np.mean(counted)) if counted else None


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """What `work` gives, and the seconds that it took."""
    started = time.monotonic()
    return work(), time.monotonic() - started


def _made(record: dict[str, Any], folder: Path) -> dict[str, Any]:
    return record


def _task_job(context: RunContext, model_id: str, task: Task) -> CachedJob:
    key = content_hash(["task", TRAINING_VERSION, model_id, task.fingerprint, context.store.tokenizer_fingerprint])
    return CachedJob(context.project.run_folder(f"task-{key}"), ("scores", "compute"))


def _score(context: RunContext, model: Path, names: Sequence[str], side: Side) -> dict[str, Any]:
    heldout = context.heldout(names, side)
    evaluation, seconds = timed(lambda: evaluate(load_to_score(model), heldout))
    compute = Compute.of("evaluation", context.size.evaluation(heldout.n_tokens), heldout.n_tokens, seconds)
    losses = [values.tolist() for values in evaluation.sequence_losses]
    return {
        "per_domain": evaluation.per_domain(),
        "sequence_losses": dict(zip(names, losses, strict=True)),
        "compute": compute.model_dump(mode="json"),
    }


def _score_on_task(context: RunContext, model: PreTrainedModel, task: Task) -> dict[str, Any]:
    """Scores in the order of the task's metrics, without its name: the same items under another name are the same."""
    tokenizer = context.store.tokenizer
    found, seconds = timed(lambda: task.score(model, tokenizer))
    scores = [found[metric.name] for metric in task.metrics]
    n_tokens = task.n_tokens(tokenizer)
    return {
        "scores": [{"value": s.value, "stderr": s.standard_error, "n_items": s.n_items} for s in scores],
        "compute": Compute.of(_SCORING, context.size.evaluation(n_tokens), n_tokens, seconds).model_dump(mode="json"),
    }
