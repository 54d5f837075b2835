"""From the tasks of a recipe to tasks that can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evermix.errors import TaskError
from evermix.recipe.tasks import TaskRecipe
from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import Task
from evermix.tasks.choice import ChoiceTask


def open_tasks(recipes: Sequence[TaskRecipe], base: Path) -> tuple[Task, ...]:
    """The tasks of a recipe in order, their items read and checked; relative paths start at `base`.

    Raises:
        TaskError: two tasks share a name, a file or item breaks a rule, or evermix[eval] is not installed for lm-eval.
    """
    names = [recipe.name for recipe in recipes]
    for position, name in enumerate(names):
        if name in names[:position]:
            raise TaskError("task names must be unique", received=name, hint="rename one of them")
    return tuple(_open(recipe, base) for recipe in recipes)


def _open(recipe: TaskRecipe, base: Path) -> Task:
    if recipe.kind == "lm-eval":
        from evermix.tasks.harness_opening import open_harness_task

        return open_harness_task(recipe, base)
    file = base / Path(recipe.file or "").expanduser()
    kind = AnswerTask if recipe.kind == "answer" else ChoiceTask
    return kind.from_file(recipe.name, file, recipe.max_items)
