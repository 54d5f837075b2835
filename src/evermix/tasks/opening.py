"""From the tasks of a recipe to tasks that can be scored."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from evermix.errors import TaskError
from evermix.recipe.tasks import TaskRecipe
from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import Task
from evermix.tasks.choice import ChoiceTask
from evermix.tasks.exact import ExactTask
from evermix.tasks.generation import DEFAULT_NEW_TOKENS, Generation
from evermix.tasks.harness import open_harness_task
from evermix.tasks.items import read_exact_items, read_scorer_items
from evermix.tasks.prompts import Render
from evermix.tasks.scorer import ScorerTask, load_scorer


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
    return tuple(_open(recipe, base, render) for recipe in recipes)


def _open(recipe: TaskRecipe, base: Path, render: Render | None) -> Task:
    if recipe.kind == "lm-eval":
        return open_harness_task(recipe, base)
    file = base / Path(recipe.file or "").expanduser()
    if recipe.kind in ("answer", "choice"):
        kind = AnswerTask if recipe.kind == "answer" else ChoiceTask
        return kind.from_file(recipe.name, file, recipe.max_items, render)
    generation = Generation(recipe.max_new_tokens or DEFAULT_NEW_TOKENS, recipe.stop, render)
    if recipe.kind == "exact":
        return ExactTask(recipe.name, read_exact_items(file, recipe.max_items), generation, recipe.ignore_case)
    scorer = load_scorer(recipe.scorer or "", base)
    return ScorerTask(recipe.name, read_scorer_items(file, recipe.max_items), scorer, generation)
