"""Tasks: metrics beyond held-out loss, as bits per byte of gold answers, accuracy of choices and of written answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from evermix.errors import TaskError
from evermix.recipe.measured import TaskKind, TaskRecipe
from evermix.tasks.base import MetricInfo, Render, Score, Task, score_tasks
from evermix.tasks.generation import Generation, greedy_answers
from evermix.tasks.generation_tasks import ExactItem, ExactTask, ScorerItem, ScorerTask, load_scorer
from evermix.tasks.harness import HarnessTask
from evermix.tasks.likelihood_tasks import AnswerItem, AnswerTask, ChoiceItem, ChoiceTask

__all__ = [
    "TASK_KINDS",
    "AnswerItem",
    "AnswerTask",
    "ChoiceItem",
    "ChoiceTask",
    "ExactItem",
    "ExactTask",
    "Generation",
    "HarnessTask",
    "MetricInfo",
    "Score",
    "ScorerItem",
    "ScorerTask",
    "Task",
    "greedy_answers",
    "load_scorer",
    "open_tasks",
    "score_tasks",
]

TASK_KINDS: Mapping[TaskKind, type[Task]] = MappingProxyType(
    {
        "answer": AnswerTask,
        "choice": ChoiceTask,
        "exact": ExactTask,
        "scorer": ScorerTask,
        "lm-eval": HarnessTask,
    }
)
"""`kind` of a recipe's task -> its class."""


def open_tasks(recipes: Sequence[TaskRecipe], base: Path, render: Render | None = None) -> tuple[Task, ...]:
    """The tasks of a recipe in order, their items read and checked; relative paths start at `base`.

    Args:
        recipes: the tasks.
        base: the recipe's folder.
        render: a chat template, from messages to the text of a prompt up to where the answer begins; it renders every
            prompt as the only message of a user. None: prompts as they are written. Tasks of kind lm-eval stay as the
            harness writes them.

    Raises:
        TaskError: two tasks share a name, a file, item or scorer breaks a rule, or evermix[eval] is not installed for
            lm-eval.
    """
    names = [recipe.name for recipe in recipes]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise TaskError("task names must be unique", received=name, hint="rename one of them")
    return tuple(TASK_KINDS[recipe.kind].open(recipe, base, render) for recipe in recipes)
