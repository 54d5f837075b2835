"""Scores of a model on held-out text and on tasks, kept by model and content, so that nothing is scored twice."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from transformers import PreTrainedModel

from evermix.errors import TaskError
from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.cost import Cost
from evermix.models.loading import load_model, load_to_score, on_gpu
from evermix.tasks import MetricInfo, Task
from evermix.training.evaluation import evaluate

Floats = npt.NDArray[np.float64]
LoadModel = Callable[[Path], PreTrainedModel]
_MARKER = "done.json"
_SCORING = "scoring"


@dataclass(frozen=True)
class Scores:
    """A model's scores on the held-out text of some domains.

    Attributes:
        per_domain: domain -> loss_nats, loss_stderr_nats, bits_per_byte, perplexity.
        cost: of the scoring.
    """

    per_domain: dict[str, dict[str, float]]
    cost: Cost

    @property
    def loss_nats(self) -> Floats:
        """Loss of every domain in nats per token, shape (domains,)."""
        return np.array([scores["loss_nats"] for scores in self.per_domain.values()])


@dataclass(frozen=True)
class TaskScores:
    """A model's scores on tasks.

    Attributes:
        metrics: metric -> value, stderr (None for a single item), unit, n_items.
        accuracies: task -> its accuracy or score, of those that have one.
        costs: of the scoring, one per task: part `scoring`, the same for every arm and so in no arm's total.
    """

    metrics: dict[str, dict[str, Any]]
    accuracies: dict[str, float]
    costs: tuple[Cost, ...]


def score(bench: LifeBench, model_id: str, model: Path, names: Sequence[str]) -> Scores:
    """Score a checkpoint on all held-out text of `names`, or read the scores it has."""
    fingerprints = [[name, bench.rows.domains[bench.rows.index(name)].fingerprint] for name in names]
    key = content_hash(["scores", model_id, fingerprints, bench.recipe.corpus.heldout_sequences])
    marker = bench.project.run_folder(f"scores-{key}") / _MARKER
    if not marker.exists():
        write_json(_made(marker), _score(bench, model, names))
    record = read_record(marker, "per_domain", "cost")
    return Scores(record["per_domain"], Cost(**record["cost"]))


def check_tasks(bench: LifeBench) -> None:
    """Nothing, if every task can be opened and one of them can decide, should they decide.

    Raises:
        TaskError: a file, an item or a scorer breaks a rule, or decisions are by accuracy and no task has one.
    """
    if bench.tasks:
        bench.reporter.say(f"tasks: {', '.join(task.name for task in bench.tasks)}")
    recipes = bench.recipe.tasks
    deciding = [task for recipe, task in zip(recipes, bench.tasks, strict=True) if recipe.role == "fit"]
    if bench.recipe.decision.by == "accuracy" and not any(map(accuracy_of, deciding)):
        raise TaskError(
            "decision.by: accuracy needs a task of role fit that has an accuracy or a score",
            received=", ".join(task.name for task in deciding) or None,
            hint="add a task of kind exact, choice or scorer, or decide by loss",
        )


def tasks_seen(bench: LifeBench, domains: Collection[str]) -> tuple[Task, ...]:
    """The tasks of `domains`, which there are or were, and those of no domain; in the order of the recipe."""
    pairs = zip(bench.recipe.tasks, bench.tasks, strict=True)
    return tuple(task for recipe, task in pairs if recipe.domain is None or recipe.domain in domains)


def score_on_tasks(
    bench: LifeBench, model_id: str, model: Path, tasks: Sequence[Task], load: LoadModel = load_model
) -> TaskScores:
    """Score a checkpoint on tasks, or read the scores it has; `load` makes a model of it.

    Raises:
        TaskError: an item cannot be scored with this model and tokenizer.
    """
    markers = [_task_marker(bench, model_id, task) for task in tasks]
    loaded: PreTrainedModel | None = None
    for task, marker in zip(tasks, markers, strict=True):
        if not marker.exists():
            loaded = loaded or on_gpu(load(model))
            with bench.reporter.part(_SCORING, f"task {task.name}", None):
                write_json(_made(marker), _score_on_task(bench, loaded, task))
    records = [read_record(marker, "scores", "cost") for marker in markers]
    metrics, accuracies = dict[str, dict[str, Any]](), dict[str, float]()
    for task, record in zip(tasks, records, strict=True):
        named = zip(task.metrics, record["scores"], strict=True)
        metrics |= {metric.name: {"unit": metric.unit, **value} for metric, value in named}
        accuracy = accuracy_of(task)
        if accuracy is not None:
            accuracies[task.name] = metrics[accuracy.name]["value"]
    return TaskScores(metrics, accuracies, tuple(Cost(**record["cost"]) for record in records))


def score_before(bench: LifeBench) -> TaskScores | None:
    """Scores on all tasks of the checkpoint that a life begins with; None where there is none, or no task.

    Raises:
        TaskError: an item cannot be scored with this model and tokenizer.
    """
    checkpoint = bench.recipe.model.checkpoint
    if checkpoint is None or not bench.tasks:
        return None
    return score_on_tasks(bench, bench.newborn_id, Path(checkpoint), bench.tasks, lambda _: bench.fresh_model())


def accuracy_of(task: Task) -> MetricInfo | None:
    """The first metric of a task that is a share of right answers, or a mean score from 0 to 1."""
    return next((metric for metric in task.metrics if metric.maximised and metric.unit == "fraction"), None)


def _task_marker(bench: LifeBench, model_id: str, task: Task) -> Path:
    key = content_hash(["task", model_id, task.fingerprint, bench.store.tokenizer_fingerprint])
    return bench.project.run_folder(f"task-{key}") / _MARKER


def _made(marker: Path) -> Path:
    marker.parent.mkdir(parents=True, exist_ok=True)
    return marker


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.monotonic()
    return work(), time.monotonic() - started


def _score(bench: LifeBench, model: Path, names: Sequence[str]) -> dict[str, Any]:
    heldout = bench.heldout(names)
    scores, seconds = _timed(lambda: evaluate(load_to_score(model), heldout).per_domain())
    cost = Cost("evaluation", bench.size.evaluation(heldout.n_tokens), heldout.n_tokens, seconds)
    return {"per_domain": scores, "cost": asdict(cost)}


def _score_on_task(bench: LifeBench, model: PreTrainedModel, task: Task) -> dict[str, Any]:
    """Scores in the order of the task's metrics, without its name: the same items under another name are the same."""
    tokenizer = bench.store.tokenizer
    found, seconds = _timed(lambda: task.score(model, tokenizer))
    scores = [found[metric.name] for metric in task.metrics]
    n_tokens = task.n_tokens(tokenizer)
    return {
        "scores": [{"value": s.value, "stderr": s.standard_error, "n_items": s.n_items} for s in scores],
        "cost": asdict(Cost(_SCORING, bench.size.evaluation(n_tokens), n_tokens, seconds)),
    }
