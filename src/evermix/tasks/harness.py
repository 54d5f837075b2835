"""Tasks of lm-evaluation-harness (extra `eval`), scored with our likelihoods and the harness's own metrics.

First metric: bits per byte of the gold continuations, the harness's delimiter included, as in `answer.py`. Further
ones: `name:metric` for each of the task's `metric_list`, computed by the harness. A task must ask for likelihoods:
output types multiple_choice, loglikelihood and loglikelihood_rolling. A YAML file may name Python functions, which are
run: such a folder is code, to be trusted like code.
"""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from numbers import Real
from typing import Any

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.tasks.answer import bits_per_byte
from evermix.tasks.base import MetricInfo, Score
from evermix.tasks.choice import mean_score
from evermix.tasks.likelihood import Continuation, count_tokens

FEWSHOT_SEED = 1234
"""The harness's own default: the same examples stand before a question each time."""


@dataclass(frozen=True, eq=False)
class HarnessTask:
    """One task of the harness, opened by `evermix.tasks.harness_opening.open_harness_task`.

    Attributes:
        name: its name in the recipe.
        fingerprint: 16 hex digits over requests, gold answers, metrics and the harness's version.
        metrics: bits per byte of the gold answers, then the harness's own.
        task: the harness's object.
        gold: for each document, in order, which of its requests holds the gold answer.
        documents: positions of the documents that are scored; None: all.
    """

    name: str
    fingerprint: str
    metrics: tuple[MetricInfo, ...]
    task: Any
    gold: tuple[int, ...]
    documents: tuple[int, ...] | None

    def n_tokens(self, tokenizer: TextTokenizer) -> int:
        """Tokens that a model reads for one scoring if all texts fit into its context."""
        return count_tokens(tokenizer, [continuation_of(request.args, self.name) for request in self.task.instances])

    def score(self, model: PreTrainedModel, tokenizer: TextTokenizer) -> dict[str, Score]:
        """Every metric under `model`; the standard error of a harness metric is None unless it is a mean over items.

        Raises:
            TaskError: an answer has no tokens or no finite likelihood.
            TokenizerError: the model does not know every token.
        """
        lm = import_module("evermix.tasks.harness_model").HarnessModel(model, tokenizer, f"task '{self.name}'")
        with harness_manners():
            own_name = str(self.task.task_name)
            self.task.set_fewshot_seed(FEWSHOT_SEED)
            report = import_module("lm_eval.evaluator").evaluate(
                lm,
                {"tasks": {own_name: self.task}, "groups": {}, "group_map": {}},
                samples=None if self.documents is None else {own_name: list(self.documents)},
                bootstrap_iters=0,
            )
        samples = report["samples"][own_name]
        first_filter = samples[0]["filter"]
        samples = [sample for sample in samples if sample["filter"] == first_filter]
        scores = {self.name: self._bits_per_byte(samples)}
        for metric in self.metrics[1:]:
            key = metric.name.removeprefix(f"{self.name}:")
            value = float(report["results"][own_name][f"{key},{first_filter}"])
            scores[metric.name] = Score(value, _standard_error(samples, key, value), len(samples))
        return scores

    def _bits_per_byte(self, samples: Sequence[Any]) -> Score:
        nats, n_bytes = [], []
        for sample, gold in zip(samples, self.gold, strict=True):
            response = sample["resps"][gold][0]
            nats.append(response[0] if isinstance(response, tuple | list) else response)
            n_bytes.append(continuation_of(sample["arguments"][gold], self.name).n_bytes)
        return bits_per_byte(np.array(nats), np.array(n_bytes, dtype=np.float64))


@contextlib.contextmanager
def harness_manners() -> Iterator[None]:
    """No progress bars of the harness, and Python's random state as it was: it draws names for its tasks from it."""
    state = random.getstate()
    try:
        with contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        random.setstate(state)


def continuation_of(arguments: Sequence[str], place: str) -> Continuation:
    """What a request asks for: (context, continuation), or (text,) where all of it is scored."""
    prompt, answer = arguments[:2] if len(arguments) > 1 else ("", arguments[0])
    return Continuation(prompt, answer, place)


def _standard_error(samples: Sequence[Any], key: str, value: float) -> float | None:
    """That of the mean over documents, if the metric is one; else None."""
    values = [sample[key] for sample in samples if isinstance(sample.get(key), Real)]
    if len(values) < len(samples):
        return None
    mean = mean_score(np.array(values, dtype=np.float64))
    return mean.standard_error if abs(mean.value - value) <= 1e-9 * max(1.0, abs(value)) else None
