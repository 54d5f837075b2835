"""Exact match: the model writes an answer, which is right if it equals one of the right ones.

    accuracy = share of items whose written answer, normalised, is a right answer, normalised

Normalised: blanks at the ends gone, every run of blanks one space, and with `ignore_case` case folded. The smooth
companion, and the first metric, is the bits per byte of the gold answers (answer.py). The standard error of the
accuracy a is binomial, sqrt(a (1 - a) / (items - 1)).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import MetricInfo, Score
from evermix.tasks.choice import mean_score
from evermix.tasks.generation import Generation, count_generated, greedy_answers
from evermix.tasks.items import AnswerItem, ExactItem
from evermix.tasks.prompts import prompts_fingerprint


@dataclass(frozen=True)
class ExactTask:
    """Questions whose answers are written and compared.

    Metrics: `name`, bits per byte of the gold answers, minimised; `name:accuracy`, maximised.

    Raises:
        TaskError: every right answer of an item holds a stop string, so that none could be written.
    """

    name: str
    items: tuple[ExactItem, ...]
    generation: Generation = field(default_factory=Generation)
    ignore_case: bool = False

    def __post_init__(self) -> None:
        stops = self.generation.stops
        for item in self.items:
            if all(any(stop in answer.rstrip() for stop in stops) for answer in item.answers):
                raise TaskError(
                    f"{item.place}: answer: an answer must not hold a stop of the task, for nothing is read after it",
                    received=item.answer,
                    hint="set stop to a text that no answer holds, or to an empty list",
                )

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over kind, items, rendered prompts, how answers are written, and scoring version."""
        content = [[item.prompt, item.answers] for item in self.items]
        settings = [self.generation.max_new_tokens, self.generation.stops, self.ignore_case]
        return prompts_fingerprint("exact", self.generation.render, content, settings)

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """Bits per byte of the gold answers, and accuracy."""
        return (*self._gold.metrics, MetricInfo(f"{self.name}:accuracy", "fraction", maximised=True))

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens read for the likelihoods, and tokens read and at most written for the answers."""
        return self._gold.n_tokens(tokenizer) + count_generated(tokenizer, self.items, self.generation)

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """Both metrics under `model`.

        Raises:
            TaskError: a gold answer has no finite likelihood, or max_new_tokens does not fit into the context.
            TokenizerError: the model does not know every token.
        """
        found = self._gold.score(model, tokenizer)
        written = greedy_answers(model, tokenizer, self.items, self.generation)
        right = [self.is_right(item, answer) for item, answer in zip(self.items, written, strict=True)]
        return {**found, f"{self.name}:accuracy": mean_score(np.array(right, dtype=np.float64))}

    def is_right(self, item: ExactItem, answer: str) -> bool:
        """Whether `answer` is one of the item's right ones after normalisation."""
        return normalised(answer, self.ignore_case) in {normalised(text, self.ignore_case) for text in item.answers}

    @cached_property
    def _gold(self) -> AnswerTask:
        items = tuple(AnswerItem(item.prompt, item.answer, item.place) for item in self.items)
        return AnswerTask(self.name, items, self.generation.render)


def normalised(text: str, ignore_case: bool = False) -> str:
    """`text` without blanks at its ends, with single spaces within, case folded if `ignore_case`."""
    joined = " ".join(text.split())
    return joined.casefold() if ignore_case else joined
