"""What a task is: items that a model is scored on, its metrics, and a fingerprint of all that decides the scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer

SCORING_VERSION = 1
"""Part of every fingerprint; raised when the same items and model would get another score."""


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
    """Something a model is scored on."""

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
