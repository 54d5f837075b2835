"""Multiple choice: bits per byte of the right choice, and accuracy.

    chosen   = argmax over choices of ln p(choice | prompt) / UTF-8 bytes of the choice
    accuracy = share of items whose chosen one is the right one

Ties share the item, so that a model that knows nothing gets chance. Bits per byte is that of `answer.py` over the right
choices alone. The standard error of the accuracy is the items' standard deviation over sqrt(items).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.tasks.answer import bits_per_byte
from evermix.tasks.base import MetricInfo, Score
from evermix.tasks.items import ChoiceItem, read_choice_items
from evermix.tasks.likelihood import Continuation, Floats, count_tokens, log_likelihoods
from evermix.tasks.prompts import Render, prompts_fingerprint


@dataclass(frozen=True)
class ChoiceTask:
    """Questions with one right choice each.

    Metrics: `name`, bits per byte of the right choices, minimised; `name:accuracy`, maximised.
    `render` is as in AnswerTask.
    """

    name: str
    items: tuple[ChoiceItem, ...]
    render: Render | None = None

    @classmethod
    def from_file(cls, name: str, path: Path, max_items: int | None = None, render: Render | None = None) -> ChoiceTask:
        """The task of a JSONL file of `{prompt, choices, answer}`; TaskError names the line that breaks a rule."""
        return cls(name, read_choice_items(path, max_items), render)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over kind, items, what a template makes of their prompts, and scoring version."""
        content = [[item.prompt, item.choices, item.gold] for item in self.items]
        return prompts_fingerprint("choice", self.render, content)

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """Bits per byte of the right choices, and accuracy with the value that guessing gets."""
        chance = float(np.mean([1 / len(item.choices) for item in self.items]))
        return (
            MetricInfo(self.name, "bits per byte", maximised=False),
            MetricInfo(f"{self.name}:accuracy", "fraction", maximised=True, chance=chance),
        )

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens that a model reads for one scoring if all texts fit into its context."""
        return count_tokens(tokenizer, self._continuations())

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """Both metrics under `model`.

        Raises:
            TaskError: a choice has no tokens or no finite likelihood.
            TokenizerError: the model does not know every token.
        """
        asked = self._continuations()
        nats = log_likelihoods(model, tokenizer, asked).nats
        n_bytes = np.array([continuation.n_bytes for continuation in asked], dtype=np.float64)
        starts = np.cumsum([len(item.choices) for item in self.items])[:-1]
        gold = np.array([0, *starts]) + [item.gold for item in self.items]
        per_item = np.split(nats / n_bytes, starts)
        credits = np.array([_credit(mine, item.gold) for item, mine in zip(self.items, per_item, strict=True)])
        return {self.name: bits_per_byte(nats[gold], n_bytes[gold]), f"{self.name}:accuracy": mean_score(credits)}

    def _continuations(self) -> list[Continuation]:
        return [
            Continuation(item.prompt, choice, item.place, self.render) for item in self.items for choice in item.choices
        ]


def mean_score(values: Floats) -> Score:
    """The mean over items of values (items,), with its standard error."""
    spread = float(values.std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return Score(float(values.mean()), spread, len(values))


def _credit(per_byte: Floats, gold: int) -> float:
    """1 if the gold choice is the likeliest per byte, 1/n if it is one of n such."""
    best = per_byte == per_byte.max()
    return float(best[gold] / best.sum())
