"""Tasks whose answers the model writes: kinds `exact` and `scorer`.

Kind `exact`: the model writes an answer, which is right if it equals one of the right ones.

    accuracy = share of items whose written answer, normalised, is a right answer, normalised

Normalised: blanks at the ends gone, every run of blanks one space, and with `ignore_case` case folded. The smooth
companion, and the first metric, is the bits per byte of the gold answers (kind `answer`). The standard error of the
accuracy a is binomial, sqrt(a (1 - a) / (items - 1)).

Kind `scorer`: written answers judged by a user's own Python function: any task whose answers a program can check.

    score = mean over items of function(item, answer), each in [0, 1]

`item` is the item's JSON object as a dict, `answer` the text that the model wrote. If the items have an `answer`, the
bits per byte of it come first (kind `answer`). The function is code that is run: use only what you trust.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any, Self

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.files import placed
from evermix.recipe.measured import TaskRecipe
from evermix.tasks.base import MetricInfo, Render, Score, brief, checked_text, items_file, read_items, text_of
from evermix.tasks.generation import DEFAULT_NEW_TOKENS, Generation, count_generated, greedy_answers
from evermix.tasks.likelihood_tasks import AnswerItem, AnswerTask, answer_item, mean_score
from evermix.tasks.prompts import prompts_fingerprint

# ---- kind exact


@dataclass(frozen=True)
class ExactItem:
    """A prompt, its right answer, and all answers that count as right, the first of them `answer`."""

    prompt: str
    answers: tuple[str, ...]
    place: str

    @property
    def answer(self) -> str:
        """The one whose likelihood is measured."""
        return self.answers[0]


def read_exact_items(path: Path, max_items: int | None = None) -> tuple[ExactItem, ...]:
    """Items `{prompt, answer}`, with `answers`, a list of further right answers, if they have one.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    return read_items(path, _exact_item, max_items)


def _exact_item(record: Mapping[str, Any], place: str) -> ExactItem:
    item = answer_item(record, place)
    further = record.get("answers", [])
    if not isinstance(further, list):
        raise TaskError(f"{place}: answers: must be a list of texts", received=brief(further))
    texts = [checked_text(text, f"{place}: answers[{k}]", False) for k, text in enumerate(further)]
    return ExactItem(item.prompt, (item.answer, *(text for text in texts if text != item.answer)), place)


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

    @classmethod
    def open(cls, recipe: TaskRecipe, base: Path, render: Render | None) -> Self:
        """The task of a recipe of this kind; see `Task`."""
        items = read_exact_items(items_file(recipe, base), recipe.max_items)
        return cls(recipe.name, items, _generation(recipe, render), recipe.ignore_case)

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


def _generation(recipe: TaskRecipe, render: Render | None) -> Generation:
    return Generation(recipe.max_new_tokens or DEFAULT_NEW_TOKENS, recipe.stop, render)


def normalised(text: str, ignore_case: bool = False) -> str:
    """`text` without blanks at its ends, with single spaces within, case folded if `ignore_case`."""
    joined = " ".join(text.split())
    return joined.casefold() if ignore_case else joined


ScoreFunction = Callable[[dict[str, Any], str], float]


# ---- kind scorer


@dataclass(frozen=True)
class ScorerItem:
    """A prompt and the whole record that a scorer sees; `answer` is its field of that name, None if it has no text."""

    prompt: str
    record: Mapping[str, Any]
    answer: str | None
    place: str


def read_scorer_items(path: Path, max_items: int | None = None) -> tuple[ScorerItem, ...]:
    """Items with `prompt` and any fields; either all of them have a text `answer` or none.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    items = read_items(path, _scorer_item, max_items)
    answered = items[0].answer is not None
    for item in items:
        if (item.answer is not None) is not answered:
            raise TaskError(
                f"{item.place}: answer: either every item of a task must have a text answer or none",
                received=brief(item.record.get("answer", "no answer")),
                hint=f"{items[0].place} has {'one' if answered else 'none'}",
            )
    return items


def _scorer_item(record: Mapping[str, Any], place: str) -> ScorerItem:
    answer = text_of(record, "answer", place) if isinstance(record.get("answer"), str) else None
    return ScorerItem(text_of(record, "prompt", place, may_be_empty=True), record, answer, place)


@dataclass(frozen=True)
class Scorer:
    """A function that judges answers.

    Attributes:
        label: `module:function` or `file.py:function`, for messages.
        function: from the item's JSON object and the answer to a number in [0, 1].
        fingerprint: of its source: the whole file's, or the module's name and the function's own lines.
    """

    label: str
    function: ScoreFunction
    fingerprint: str

    def __call__(self, item: ScorerItem, answer: str) -> float:
        """The function's number for one answer.

        Raises:
            TaskError: naming the item and the function, if it raises or returns no number in [0, 1].
        """
        record = copy.deepcopy(dict(item.record))  # a function that changes its item must not change the task
        try:
            value = self.function(record, answer)
        except Exception as error:
            raise TaskError(
                f"{item.place}: scorer '{self.label}' must judge every answer, it raised {_told(error)}"
            ) from error
        if not isinstance(value, Real | np.bool_) or not 0 <= float(value) <= 1:
            raise TaskError(
                f"{item.place}: scorer '{self.label}' must return a number in [0, 1]", received=brief(value)
            )
        return float(value)


@dataclass(frozen=True)
class ScorerTask:
    """Questions whose answers are written and judged by a function.

    Metrics: `name`, the mean score, maximised; or, where items have an answer, `name`, bits per byte of these answers,
    minimised, and `name:score`.
    """

    name: str
    items: tuple[ScorerItem, ...]
    scorer: Scorer
    generation: Generation = field(default_factory=Generation)

    @classmethod
    def open(cls, recipe: TaskRecipe, base: Path, render: Render | None) -> Self:
        """The task of a recipe of this kind; see `Task`."""
        scorer = load_scorer(recipe.scorer or "", base)
        items = read_scorer_items(items_file(recipe, base), recipe.max_items)
        return cls(recipe.name, items, scorer, _generation(recipe, render))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits over kind, items, rendered prompts, the function's source, and how answers are written."""
        content = [[item.prompt, dict(item.record)] for item in self.items]
        settings = [self.generation.max_new_tokens, self.generation.stops, self.scorer.fingerprint]
        return prompts_fingerprint("scorer", self.generation.render, content, settings)

    @property
    def metrics(self) -> tuple[MetricInfo, ...]:
        """The mean score, after bits per byte where items have answers."""
        score = MetricInfo(self._score_name, "fraction", maximised=True)
        return (score,) if self._gold is None else (*self._gold.metrics, score)

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens read for the likelihoods, and tokens read and at most written for the answers."""
        read = 0 if self._gold is None else self._gold.n_tokens(tokenizer)
        return read + count_generated(tokenizer, self.items, self.generation)

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """Every metric under `model`.

        Raises:
            TaskError: the function raises or returns no number in [0, 1]; an answer has no finite likelihood; or
                max_new_tokens does not fit into the context.
            TokenizerError: the model does not know every token.
        """
        found = {} if self._gold is None else self._gold.score(model, tokenizer)
        written = greedy_answers(model, tokenizer, self.items, self.generation)
        values = [self.scorer(item, answer) for item, answer in zip(self.items, written, strict=True)]
        return {**found, self._score_name: mean_score(np.array(values))}

    @property
    def _score_name(self) -> str:
        return self.name if self._gold is None else f"{self.name}:score"

    @cached_property
    def _gold(self) -> AnswerTask | None:
        items = tuple(AnswerItem(i.prompt, i.answer, i.place) for i in self.items if i.answer is not None)
        return AnswerTask(self.name, items, self.generation.render) if items else None


def load_scorer(label: str, base: Path) -> Scorer:
    """The function `module:function`, or `file.py:function` with the file relative to `base`.

    Raises:
        TaskError: the label is malformed, the module or file cannot be run, or it has no such function.
    """
    place, _, name = label.rpartition(":")
    if not place or not name.isidentifier():
        raise TaskError("a scorer must be module:function or file.py:function", received=label)
    if place.endswith(".py"):
        file = placed(place, base)
        source = _source_bytes(label, file)
        function = _function(label, _run(label, file, source), name)
    else:
        function = _function(label, _imported(label, place), name)
        source = f"{place}\n{_source(label, function)}".encode()
    return Scorer(label, function, hashlib.sha256(source).hexdigest()[:16])


def _function(label: str, module: ModuleType, name: str) -> ScoreFunction:
    function: object = getattr(module, name, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
        raise TaskError(
            f"scorer '{label}': there must be a function '{name}'", hint=f"found: {', '.join(known) or 'none'}"
        )
    return function


def _imported(label: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise TaskError(
            f"scorer '{label}': module {name} must be importable, it raised {_told(error)}",
            hint="give a file as path/file.py:function, relative to the recipe's folder",
        ) from error


def _source_bytes(label: str, file: Path) -> bytes:
    if not file.is_file():
        raise TaskError(f"scorer '{label}': its file must exist", received=str(file))
    return file.read_bytes()


def _run(label: str, file: Path, source: bytes) -> ModuleType:
    """A new module of what `source` defines; run from the bytes that were hashed, not from a cache of compiled code."""
    module = ModuleType(f"evermix_scorer_{hashlib.sha256(source).hexdigest()[:16]}")
    module.__file__ = str(file)
    sys.modules[module.__name__] = module  # where dataclasses look for the module of a class
    try:
        exec(compile(source, str(file), "exec"), module.__dict__)
    except Exception as error:
        raise TaskError(f"scorer '{label}': {file} must run, it raised {_told(error)}") from error
    return module


def _source(label: str, function: ScoreFunction) -> str:
    try:
        return inspect.getsource(inspect.unwrap(function))
    except (OSError, TypeError):
        raise TaskError(
            f"scorer '{label}': must be a function written in Python, so that a change of it is seen",
            received=type(function).__name__,
        ) from None


def _told(error: Exception) -> str:
    """Type and message on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
