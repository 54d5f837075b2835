"""Greedy answers of a model to prompts, many at once.

    token_t = argmax over v of p(v | prompt, token_1 ... token_{t-1})

until a token that ends an answer, a stop string, or `max_new_tokens`. The loop is Hugging Face's `generate` with its
key-value cache and nothing but greed: the checkpoint's own generation settings (sampling, penalties) are set aside.

Prompts. Without a template, as an answer's likelihood sees them (likelihood.py): the beginning token before, and the
spaces at their end left to the model. With one, as it renders them (prompts.py). A prompt that is longer than the
context minus `max_new_tokens` loses its beginning.

End. An answer ends at the tokenizer's end token, the end tokens of the checkpoint's configuration, the template's end
of turn, or a stop string; none of these is part of it.

Batches. Prompts of like length are read together, filled up on the left and masked, so that an answer does not depend
on its neighbours but for rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from transformers import (
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    StoppingCriteria,
    StoppingCriteriaList,
)

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError
from evermix.models.loading import context_length
from evermix.tasks.base import Render
from evermix.tasks.likelihood import beginning_id, check_vocabulary
from evermix.tasks.prompts import PromptEncoder

DEFAULT_NEW_TOKENS = 32
BATCH_TOKENS = {"cpu": 8192}  # by device: rows times (prompt + new tokens)
_BATCH_TOKENS_ELSEWHERE = 32768
_MOST_ROWS = 256
_SPARE_TOKENS = 8  # of the tail that is searched for a stop: tokens that stand for no whole character


class Question(Protocol):
    """An item that is asked."""

    @property
    def prompt(self) -> str: ...

    @property
    def place(self) -> str: ...


@dataclass(frozen=True)
class Generation:
    """How answers are written.

    Attributes:
        max_new_tokens: at most so many tokens each.
        stop: texts that end an answer; None: a new line, or with a template nothing but the end of turn.
        render: the chat template; None: prompts as they are written.
    """

    max_new_tokens: int = DEFAULT_NEW_TOKENS
    stop: tuple[str, ...] | None = None
    render: Render | None = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings in force."""
        if self.stop is not None:
            return self.stop
        return ("\n",) if self.render is None else ()


def greedy_answers(
    model: PreTrainedModel, tokenizer: TextTokenizer, questions: Sequence[Question], generation: Generation
) -> list[str]:
    """The answer to each question, as written, in the questions' order.

    The model's training mode, generation settings and device stay as they are.

    Raises:
        TaskError: the context does not hold `max_new_tokens`, or the model's logits are NaN.
        TokenizerError: the model does not know every token of the tokenizer.
    """
    check_vocabulary(model, tokenizer)
    prompts = encoded_prompts(tokenizer, questions, generation.render, beginning_id(model, tokenizer))
    room = _room(model, generation.max_new_tokens)
    prompts = [ids[-room:] if room is not None else ids for ids in prompts]
    ends = end_ids(model, tokenizer, generation.render)
    answers = [""] * len(prompts)
    with _set_aside(model, generation, ends):
        for batch in _batches([len(ids) for ids in prompts], generation.max_new_tokens, _device(model)):
            places = [questions[k].place for k in batch]
            written = _write(model, tokenizer, [prompts[k] for k in batch], generation.stops, places)
            for k, ids in zip(batch, written, strict=True):
                answers[k] = cut_at_stop(tokenizer.decode(before_end(ids, ends)), generation.stops)
    return answers


def count_generated(tokenizer: TextTokenizer, questions: Sequence[Question], generation: Generation) -> int:
    """Tokens that a model reads or writes at most: every prompt's and `max_new_tokens` for each.

    An upper bound: an answer that ends early costs less, and a prompt longer than the context is cut.
    """
    prompts = encoded_prompts(tokenizer, questions, generation.render, tokenizer.end_id)
    return sum(map(len, prompts)) + generation.max_new_tokens * len(prompts)


def encoded_prompts(
    tokenizer: TextTokenizer, questions: Sequence[Question], render: Render | None, first_id: int
) -> list[list[int]]:
    """Ids of each prompt, at least one; `first_id` stands before those that no template renders."""
    texts = [question.prompt for question in questions]
    if render is None:
        return [[first_id, *ids] for ids in tokenizer.encode_batch([text.rstrip(" ") for text in texts])]
    return [ids or [first_id] for ids in PromptEncoder(tokenizer, render).encode(texts)]


def end_ids(model: PreTrainedModel, tokenizer: TextTokenizer, render: Render | None) -> tuple[int, ...]:
    """Tokens that end an answer, ascending."""
    found: list[Any] = [tokenizer.end_id]
    for config in (model.config.get_text_config(), _bare(model).generation_config):
        named = getattr(config, "eos_token_id", None)
        found += named if isinstance(named, list | tuple) else [named]
    if render is not None:
        found.append(PromptEncoder(tokenizer, render).end_of_turn)
    return tuple(sorted({i for i in found if isinstance(i, int) and 0 <= i < tokenizer.vocab_size}))


def before_end(ids: Sequence[int], ends: Sequence[int]) -> list[int]:
    """The ids before the first that is an end."""
    return list(ids[: next((k for k, i in enumerate(ids) if i in ends), len(ids))])


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """The text before the first stop."""
    found = [place for place in map(text.find, stops) if place >= 0]
    return text[: min(found)] if found else text


class _Stopped(StoppingCriteria):
    """Says of each row whether the end of what it wrote holds a stop string."""

    def __init__(self, tokenizer: TextTokenizer, stops: Sequence[str], n_read: int) -> None:
        self.tokenizer, self.stops, self.n_read = tokenizer, stops, n_read
        self.tail = max(len(stop.encode()) for stop in stops) + _SPARE_TOKENS

    def __call__(self, input_ids: torch.Tensor, scores: object) -> torch.Tensor:
        """input_ids (rows, length) -> (rows,) of bool."""
        tails = input_ids[:, self.n_read :][:, -self.tail :].tolist()
        texts = map(self.tokenizer.decode, tails)
        return torch.tensor([any(stop in text for stop in self.stops) for text in texts], device=input_ids.device)


class _Finite(LogitsProcessor):
    """Refuses logits that are NaN, whose argmax would pass for an answer."""

    def __init__(self, places: Sequence[str]) -> None:
        self.places = places

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """scores (rows, vocab), unchanged."""
        broken = scores.isnan().any(dim=-1)
        if bool(broken.any()):
            raise TaskError(
                f"{self.places[int(broken.nonzero()[0])]}: the model must give every token a number, not NaN",
                hint="its weights may hold NaN: training diverged",
            )
        return scores


def _write(
    model: PreTrainedModel,
    tokenizer: TextTokenizer,
    prompts: Sequence[Sequence[int]],
    stops: Sequence[str],
    places: Sequence[str],
) -> list[list[int]]:
    """New ids of each prompt of a batch, in the generation settings that the model has."""
    longest = max(map(len, prompts))
    ids = torch.full((len(prompts), longest), tokenizer.end_id, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        ids[row, longest - len(prompt) :] = torch.tensor(prompt)
        mask[row, longest - len(prompt) :] = 1
    criteria = [_Stopped(tokenizer, stops, longest)] if stops else []
    written: Any = _bare(model).generate(
        input_ids=ids.to(_device(model)),
        attention_mask=mask.to(_device(model)),
        stopping_criteria=StoppingCriteriaList(criteria),
        logits_processor=LogitsProcessorList([_Finite(places)]),
    )
    return written[:, longest:].tolist()


@contextmanager
def _set_aside(model: PreTrainedModel, generation: Generation, ends: Sequence[int]) -> Iterator[None]:
    """The model in evaluation mode and greedy; its own mode and settings are put back afterwards."""
    bare = _bare(model)
    was_training, settings = model.training, bare.generation_config
    model.eval()
    bare.generation_config = GenerationConfig(
        do_sample=False,
        num_beams=1,
        use_cache=True,
        max_new_tokens=generation.max_new_tokens,
        eos_token_id=list(ends),
        pad_token_id=ends[0],
    )
    try:
        yield
    finally:
        bare.generation_config = settings
        model.train(was_training)


def _bare(model: PreTrainedModel) -> Any:
    """The model whose loop writes: that within a model with adapters, which are part of its layers."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _batches(lengths: Sequence[int], n_new: int, device: torch.device) -> Iterator[list[int]]:
    """Positions of prompts, longest first, as many at once as the device's tokens allow, at least one."""
    most = BATCH_TOKENS.get(device.type, _BATCH_TOKENS_ELSEWHERE)
    order = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    while order:
        rows = min(_MOST_ROWS, max(1, most // (lengths[order[0]] + n_new)))
        yield order[:rows]
        order = order[rows:]


def _room(model: PreTrainedModel, n_new: int) -> int | None:
    """Tokens of a prompt that fit into the context before the answer; None: any number."""
    context = context_length(model.config)
    if context is not None and n_new >= context:
        raise TaskError(
            f"max_new_tokens must be less than the model's context of {context} tokens",
            received=n_new,
            hint="lower max_new_tokens of the task",
        )
    return None if context is None else context - n_new


def _device(model: PreTrainedModel) -> torch.device:
    return next(model.parameters()).device
