"""From the tasks of a recipe to tasks that can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evermix.errors import TaskError
from evermix.recipe.tasks import TaskRecipe
from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import Task


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
    place = base / Path(recipe.folder or recipe.file or "").expanduser()
    if recipe.kind == "answer":
        return AnswerTask.from_file(recipe.name, place, recipe.max_items)
    raise TaskError(f"task '{recipe.name}': kind must be known", received=recipe.kind)
