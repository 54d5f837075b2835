"""What a task is: items that a model is scored on, its metrics, and a fingerprint of all that decides the scores.

Here too: reading the items of a task from JSON lines, also compressed. Every fault is told with file, line and field.
Fields beyond those of the kind and `id` are passed over, but for a scorer's items, which keep all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self, TypeVar

from transformers import PreTrainedModel

from evermix.corpus.readers import encodable, read_records
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import CorpusError, TaskError
from evermix.files import placed
from evermix.recipe.measured import TaskRecipe

SCORING_VERSION = 1
"""Part of every fingerprint; raised when the same items and model would get another score."""


Render = Callable[[list[dict[str, str]]], str]
"""From messages (role, content) to the text of a prompt, up to where the model's answer begins."""


@dataclass(frozen=True)
class MetricInfo:
    """One metric of a task.

    Attributes:
        name: the task's name, or `task:metric` for its further metrics.
        unit: `bits per byte`, or `fraction` for an accuracy.
        maximised: whether higher is better.
        chance: the value that guessing gets, where there is one.
    """

    name: str
    unit: str
    maximised: bool
    chance: float | None = None


@dataclass(frozen=True)
class Score:
    """A model's value of one metric.

    Attributes:
        value: in the metric's unit.
        standard_error: over the items, as if they were drawn at random; None for a single item.
        n_items: how many items stand behind it.
    """

    value: float
    standard_error: float | None
    n_items: int


class Task(Protocol):
    """Something a model is scored on: one class per kind, which stands in `evermix.tasks.TASK_KINDS`."""

    @classmethod
    def open(cls, recipe: TaskRecipe, base: Path, render: Render | None) -> Self:
        """The task of a recipe, its items read and checked.

        Args:
            recipe: the task, of this kind.
            base: the folder that relative paths start at.
            render: a chat template, which renders every prompt as the only message of a user; None: as it is written.

        Raises:
            TaskError: a file, an item or a scorer breaks a rule.
        """
        ...

    @property
    def name(self) -> str:
        """The name that the recipe gives it, and the name of its first metric."""
        ...

    @property
    def fingerprint(self) -> str:
        """16 hex digits over kind, items and scoring version, not the name: the same means the same scores."""
        ...

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """Its metrics; the first one is smooth and meant to be fitted."""
        ...

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens that a model reads for one scoring if all texts fit into its context; for counting FLOPs."""
        ...

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """A score for each of `metrics`, by name; the model's training mode and device stay as they are.

        Raises:
            TaskError: an item cannot be scored with this model and tokenizer.
        """
        ...


def items_file(recipe: TaskRecipe, base: Path) -> Path:
    """The JSONL of a task; a relative path starts at `base`."""
    return placed(recipe.file or "", base)


def score_tasks(tasks: Sequence[Task], model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
    """The scores of every metric of every task, by metric name.

    Raises:
        TaskError: an item cannot be scored with this model and tokenizer.
    """
    return {name: score for task in tasks for name, score in task.score(model, tokenizer).items()}


def task_fingerprint(kind: str, content: object) -> str:
    """SHA-256 over kind, scoring version and JSON-able content, first 16 hex digits."""
    record = json.dumps([kind, SCORING_VERSION, content], sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(record.encode()).hexdigest()[:16]


Item = TypeVar("Item")


# ---- items from JSONL


def read_items(path: Path, make: Callable[[Mapping[str, Any], str], Item], max_items: int | None) -> tuple[Item, ...]:
    items: list[Item] = []
    places_of_ids: dict[object, str] = {}
    try:
        for place, record in read_records(path):
            if "id" in record:
                _check_id(record["id"], place, places_of_ids)
            items.append(make(record, place))
    except CorpusError as error:
        raise TaskError(error.rule, received=error.received, hint="check `file` of the task") from error
    if not items:
        raise TaskError(f"{path}: a task must have at least one item", hint="write one JSON object per line")
    return tuple(evenly_spaced(items, max_items))


def evenly_spaced(items: Sequence[Any], most: int | None) -> list[Any]:
    """At most `most` of the items, in order, at even distances; all of them if None."""
    if most is None or most >= len(items):
        return list(items)
    return [items[k * len(items) // most] for k in range(most)]


def _check_id(value: object, place: str, places_of_ids: dict[object, str]) -> None:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TaskError(f"{place}: id: an id must be a text or an integer", received=value)
    if value in places_of_ids:
        raise TaskError(f"{place}: id: ids must be unique, {places_of_ids[value]} has it too", received=value)
    places_of_ids[value] = place


def field_of(record: Mapping[str, Any], field: str, place: str) -> object:
    if field not in record:
        found = ", ".join(map(str, record)) or "none"
        raise TaskError(f"{place}: {field}: an item must have this field", hint=f"fields found: {found}")
    return record[field]


def text_of(record: Mapping[str, Any], field: str, place: str, may_be_empty: bool = False) -> str:
    return checked_text(field_of(record, field, place), f"{place}: {field}", may_be_empty)


def checked_text(value: object, place: str, may_be_empty: bool) -> str:
    """`value` if it is valid Unicode text, and not blank unless it may be."""
    if not isinstance(value, str):
        raise TaskError(f"{place}: must be a text", received=brief(value))
    if not may_be_empty and not value.strip():
        raise TaskError(f"{place}: must hold more than blanks", received=value)
    try:
        return encodable(value, place)
    except CorpusError as error:
        raise TaskError(error.rule, hint=error.hint) from None


def brief(value: object) -> object:
    """`value`, or its beginning if it is long, for a message of one line."""
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= 80 else text[:80] + "..."
