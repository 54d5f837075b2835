"""Bits per byte of gold answers, the metric that Olmix fits (arXiv 2602.12237): smooth where accuracy is noise.

    bits per byte = sum over items of -log2 p(answer | prompt) / sum over items of UTF-8 bytes of the answer

A ratio of sums, so that long answers count by their length. Its standard error is that of a ratio estimator, linearised
(Cochran, Sampling Techniques, section 6.4): with b_i bits, n_i bytes, N items and R the ratio

    SE(R) = sqrt( N / (N - 1) * sum_i (b_i - R n_i)^2 ) / sum_i n_i
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.tasks.base import MetricInfo, Score
from evermix.tasks.items import AnswerItem, read_answer_items
from evermix.tasks.likelihood import Continuation, Floats, count_tokens, log_likelihoods
from evermix.tasks.prompts import Render, prompts_fingerprint


@dataclass(frozen=True)
class AnswerTask:
    """Questions with one right answer each. Metric: `name`, bits per byte of the answers, minimised.

    `render` is the chat template of the prompts; None: they stand as they are written.
    """

    name: str
    items: tuple[AnswerItem, ...]
    render: Render | None = None

    @classmethod
    def from_file(cls, name: str, path: Path, max_items: int | None = None, render: Render | None = None) -> AnswerTask:
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
