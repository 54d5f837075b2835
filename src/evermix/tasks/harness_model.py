"""A model as lm-evaluation-harness sees it: answers its likelihood requests with our scoring. Needs evermix[eval]."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.tasks.harness import continuation_of
from evermix.tasks.likelihood import Likelihoods, log_likelihoods

_LM: Any = import_module("lm_eval.api.model").LM


class HarnessModel(_LM):
    """The harness's interface to a model; requests are its `Instance`s, whose `args` are texts."""

    def __init__(self, model: PreTrainedModel, tokenizer: TextTokenizer, place: str) -> None:
        super().__init__()
        self.model, self.tokenizer, self.place = model, tokenizer, place

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """(ln p of the continuation after its context, whether greedy decoding writes it) of each request."""
        found = self._scored(requests)
        return list(zip(found.nats.tolist(), found.is_greedy.tolist(), strict=True))

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """ln p of each whole text; one longer than the context slides through it by half a context."""
        return [float(nats) for nats in self._scored(requests).nats]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """Not offered: TaskError."""
        raise TaskError(f"{self.place}: a task must ask for likelihoods, not for written text")

    def _scored(self, requests: Sequence[Any]) -> Likelihoods:
        asked = [continuation_of(r.args, f"{self.place}, document {r.doc_id}") for r in requests]
        return log_likelihoods(self.model, self.tokenizer, asked)
