"""Tasks that are scored by the likelihood of given answers: kinds `answer` and `choice`.

Kind `answer`: bits per byte of gold answers, the metric that Olmix fits (arXiv 2602.12237), smooth where accuracy is
noise.

    bits per byte = sum over items of -log2 p(answer | prompt) / sum over items of UTF-8 bytes of the answer

A ratio of sums, so that long answers count by their length. Its standard error is that of a ratio estimator, linearised
(Cochran, Sampling Techniques, section 6.4): with b_i bits, n_i bytes, N items and R the ratio

    SE(R) = sqrt( N / (N - 1) * sum_i (b_i - R n_i)^2 ) / sum_i n_i

Kind `choice`: bits per byte of the right choice, and accuracy.

    chosen   = argmax over choices of ln p(choice | prompt) / UTF-8 bytes of the choice
    accuracy = share of items whose chosen one is the right one

Ties share the item, so that a model that knows nothing gets chance. Bits per byte is that over the right
choices alone. The standard error of the accuracy is the items' standard deviation over sqrt(items).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.recipe.measured import TaskRecipe
from evermix.tasks.base import MetricInfo, Render, Score, brief, checked_text, field_of, items_file, read_items, text_of
from evermix.tasks.likelihood import Continuation, Floats, count_tokens, log_likelihoods
from evermix.tasks.prompts import prompts_fingerprint

# ---- kind answer


@dataclass(frozen=True)
class AnswerItem:
    """A prompt and its right answer. `prompt` may be empty; `place` is `file:line`, for messages."""

    prompt: str
    answer: str
    place: str


def read_answer_items(path: Path, max_items: int | None = None) -> tuple[AnswerItem, ...]:
    """Items `{prompt, answer}` of a JSONL file; at most `max_items`, evenly spaced over the file.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    return read_items(path, answer_item, max_items)


def answer_item(record: Mapping[str, Any], place: str) -> AnswerItem:
    """An item of one record; TaskError names the field that breaks a rule."""
    if "choices" in record:
        raise TaskError(f"{place}: choices: an item of kind answer has no choices", hint="set kind: choice")
    return AnswerItem(text_of(record, "prompt", place, may_be_empty=True), text_of(record, "answer", place), place)


@dataclass(frozen=True)
class AnswerTask:
    """Questions with one right answer each. Metric: `name`, bits per byte of the answers, minimised.

    `render` is the chat template of the prompts; None: they stand as they are written.
    """

    name: str
    items: tuple[AnswerItem, ...]
    render: Render | None = None

    @classmethod
    def open(cls, recipe: TaskRecipe, base: Path, render: Render | None) -> Self:
        """The task of a recipe of this kind; see `Task`."""
        return cls.from_file(recipe.name, items_file(recipe, base), recipe.max_items, render)

    @classmethod
    def from_file(cls, name: str, path: Path, max_items: int | None = None, render: Render | None = None) -> Self:
        """The task of a JSONL file of `{prompt, answer}`; TaskError names the line that breaks a rule."""
        return cls(name, read_answer_items(path, max_items), render)

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over kind, items, what a template makes of their prompts, and scoring version."""
        return prompts_fingerprint("answer", self.render, [[item.prompt, item.answer] for item in self.items])

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """Bits per byte of the answers."""
        return (MetricInfo(self.name, "bits per byte", maximised=False),)

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens that a model reads for one scoring if all texts fit into its context."""
        return count_tokens(tokenizer, self._continuations())

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """Bits per byte of the answers under `model`.

        Raises:
            TaskError: an answer has no tokens or no finite likelihood.
            TokenizerError: the model does not know every token.
        """
        asked = self._continuations()
        nats = log_likelihoods(model, tokenizer, asked).nats
        return {self.name: bits_per_byte(nats, np.array([c.n_bytes for c in asked], dtype=np.float64))}

    def _continuations(self) -> list[Continuation]:
        return [Continuation(item.prompt, item.answer, item.place, self.render) for item in self.items]


def bits_per_byte(nats: Floats, n_bytes: Floats) -> Score:
    """The ratio of sums and its standard error from ln p (items,) and bytes (items,) of each answer."""
    bits = -nats / math.log(2)
    ratio = float(bits.sum() / n_bytes.sum())
    n_items = len(bits)
    if n_items == 1:
        return Score(ratio, None, 1)
    spread = float(((bits - ratio * n_bytes) ** 2).sum()) * n_items / (n_items - 1)
    return Score(ratio, math.sqrt(spread) / float(n_bytes.sum()), n_items)


# ---- kind choice


@dataclass(frozen=True)
class ChoiceItem:
    """A prompt, at least two different choices, and the index of the right one."""

    prompt: str
    choices: tuple[str, ...]
    gold: int
    place: str


def read_choice_items(path: Path, max_items: int | None = None) -> tuple[ChoiceItem, ...]:
    """Items `{prompt, choices, answer}`, the answer an index from 0 or the text of a choice; see read_answer_items.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    return read_items(path, _choice_item, max_items)


def _choice_item(record: Mapping[str, Any], place: str) -> ChoiceItem:
    prompt = text_of(record, "prompt", place, may_be_empty=True)
    given = field_of(record, "choices", place)
    if not isinstance(given, list) or len(given) < 2:
        raise TaskError(f"{place}: choices: must be a list of at least two texts", received=brief(given))
    choices = tuple(checked_text(choice, f"{place}: choices[{k}]", False) for k, choice in enumerate(given))
    for k, choice in enumerate(choices):
        if choice in choices[:k]:
            raise TaskError(f"{place}: choices[{k}]: choices must differ from each other", received=brief(choice))
    return ChoiceItem(prompt, choices, _gold(field_of(record, "answer", place), choices, place), place)


def _gold(answer: object, choices: tuple[str, ...], place: str) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(choices):
            raise TaskError(f"{place}: answer: an index must be from 0 to {len(choices) - 1}", received=answer)
        return answer
    if not isinstance(answer, str) or answer not in choices:
        raise TaskError(
            f"{place}: answer: must be the index of a choice, from 0, or the text of one", received=brief(answer)
        )
    return choices.index(answer)


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
    def open(cls, recipe: TaskRecipe, base: Path, render: Render | None) -> Self:
        """The task of a recipe of this kind; see `Task`."""
        return cls.from_file(recipe.name, items_file(recipe, base), recipe.max_items, render)

    @classmethod
    def from_file(cls, name: str, path: Path, max_items: int | None = None, render: Render | None = None) -> Self:
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
