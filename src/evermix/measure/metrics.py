"""Metrics of a proxy: held-out text of every domain, and tasks, all behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

from transformers import PreTrainedModel

from evermix.corpus.store import TokenStore
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import RecipeError
from evermix.ledger import content_hash
from evermix.recipe.tasks import TaskRecipe
from evermix.tasks import Task, open_tasks
from evermix.training.evaluation import HeldoutText, evaluate


class Metric(Protocol):
    """Something that a model is scored on.

    Attributes:
        key: hash of its content; a score is kept under it.
        names: of the values that it gives.
        maximised: those of them where higher is better.
        n_tokens: tokens that one scoring reads, for counting FLOPs.
    """

    @property
    def key(self) -> str: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def maximised(self) -> frozenset[str]: ...

    @property
    def n_tokens(self) -> int: ...

    def score(self, model: PreTrainedModel) -> Mapping[str, float]:
        """Names and values, in the metrics' own units."""
        ...


@dataclass(frozen=True)
class HeldoutMetric:
    """Bits per byte of one domain's held-out text; named as the domain."""

    store: TokenStore
    domain: str
    most: int

    @cached_property
    def _text(self) -> HeldoutText:
        return HeldoutText.from_store(self.store.subset((self.domain,)), self.most)

    @property
    def key(self) -> str:
        """Depends on the domain's text, the tokenizer and the number of sequences."""
        return content_hash([self.store.subset((self.domain,)).manifest, self.most])

    @property
    def names(self) -> tuple[str, ...]:
        """The domain's name."""
        return (self.domain,)

    @property
    def maximised(self) -> frozenset[str]:
        """None: fewer bits are better."""
        return frozenset()

    @property
    def n_tokens(self) -> int:
        """Tokens read."""
        return self._text.n_tokens

    def score(self, model: PreTrainedModel) -> Mapping[str, float]:
        """{domain: bits per byte}."""
        return {self.domain: float(evaluate(model, self._text).bits_per_byte[0])}


@dataclass(frozen=True)
class TaskMetric:
    """All metrics of one task."""

    task: Task
    tokenizer: TextTokenizer

    @property
    def key(self) -> str:
        """Depends on the task's items and on the tokenizer."""
        return content_hash([self.task.name, self.task.fingerprint, self.tokenizer.fingerprint])

    @property
    def names(self) -> tuple[str, ...]:
        """The task's metrics."""
        return tuple(metric.name for metric in self.task.metrics)

    @property
    def maximised(self) -> frozenset[str]:
        """Accuracies and their like."""
        return frozenset(metric.name for metric in self.task.metrics if metric.maximised)

    @property
    def n_tokens(self) -> int:
        """Tokens read."""
        return self.task.n_tokens(self.tokenizer)

    def score(self, model: PreTrainedModel) -> Mapping[str, float]:
        """The task's metrics."""
        return {name: score.value for name, score in self.task.score(model, self.tokenizer).items()}


def open_metrics(store: TokenStore, most: int, tasks: Sequence[TaskRecipe], base: Path) -> tuple[Metric, ...]:
    """Held-out text of every domain of `store`, at most `most` sequences each, then tasks.

    Raises:
        RecipeError: if a task has the name of a domain.
        TaskError: if a task's file is bad.
    """
    for task in tasks:
        if task.name in store.domains:
            raise RecipeError(
                "a task must not have the name of a domain: both name a metric", received=task.name, hint="rename it"
            )
    heldout = [HeldoutMetric(store, name, most) for name in store.domains.names]
    return (*heldout, *(TaskMetric(task, store.tokenizer) for task in open_tasks(tasks, base)))
