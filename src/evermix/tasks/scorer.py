"""Written answers judged by a user's own Python function: any task whose answers a program can check.

    score = mean over items of function(item, answer), each in [0, 1]

`item` is the item's JSON object as a dict, `answer` the text that the model wrote. If the items have an `answer`, the
bits per byte of it come first (answer.py). The function is code that is run: use only what you trust.
"""

from __future__ import annotations

import copy
import hashlib
import importlib
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from numbers import Real
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.tasks.answer import AnswerTask
from evermix.tasks.base import MetricInfo, Score
from evermix.tasks.choice import mean_score
from evermix.tasks.generation import Generation, count_generated, greedy_answers
from evermix.tasks.items import AnswerItem, ScorerItem
from evermix.tasks.prompts import prompts_fingerprint

ScoreFunction = Callable[[dict[str, Any], str], float]


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
                f"{item.place}: scorer '{self.label}' must return a number in [0, 1]", received=_brief(value)
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
        source = _read(label, base / Path(place).expanduser())
        function = _function(label, _run(label, base / Path(place).expanduser(), source), name)
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


def _read(label: str, file: Path) -> bytes:
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


def _brief(value: object) -> object:
    return value if len(repr(value)) <= 80 else repr(value)[:80] + "..."
