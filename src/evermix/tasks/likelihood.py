"""ln p(answer | prompt) under a causal model: borders between prompt and answer, long texts, batches.

    ln p(answer | prompt) = sum over answer tokens of ln p(token | prompt, earlier answer tokens)

Border. Blanks at the end of a prompt belong to the answer, for a byte-pair token such as " Paris" spans them (the
convention of lm-evaluation-harness). The text is then encoded as a whole; if the prompt's own tokens are not a prefix
of that, because a token spans the border, prompt and answer are encoded apart. So the scored tokens are exactly those
of the answer. A rendered prompt (a chat template's, prompts.py) is kept whole, and the answer is encoded apart from it.

Beginning. A prompt is the beginning of a document: the model's beginning-of-sequence token stands before it, or the
tokenizer's end token if the model names none. A rendered prompt begins as its template writes it.

Length. A model with a context of L tokens reads L and predicts L. What fits is read at once. Otherwise the answer is
scored in pieces of at most L/2 tokens, each after as much of the text before it as fits: a long prompt loses its
beginning, a long answer slides through the context.

Batches. Windows of like length are read together, filled up on the right with a token that nothing after it sees: a
causal model needs no mask for that.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import TaskError, TokenizerError
from evermix.models.loading import context_length
from evermix.tasks.base import Render
from evermix.tasks.prompts import PromptEncoder

Floats = npt.NDArray[np.float64]

BATCH_TOKENS = {"cpu": 2048}  # by device; one core is fastest with little at once
_BATCH_TOKENS_ELSEWHERE = 16384
_LOGITS_AT_ONCE = 1 << 27  # 512 MiB of float32


@dataclass(frozen=True)
class Continuation:
    """A text whose likelihood after a prompt is asked for.

    `place` names the item in messages; `render` is the chat template of the prompt, None: the prompt is as written.
    """

    prompt: str
    answer: str
    place: str
    render: Render | None = None

    def split(self) -> tuple[str, str]:
        """(prompt without the blanks at its end, these blanks and the answer); a rendered prompt keeps its blanks."""
        if self.render is not None:
            return self.prompt, self.answer
        kept = self.prompt.rstrip()
        return kept, self.prompt[len(kept) :] + self.answer

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes that are scored: those of the answer, with the blanks before it."""
        return len(self.split()[1].encode())


@dataclass(frozen=True)
class Window:
    """Token ids of which the last `n_scored` are predicted from those before; `owner` is the continuation's index."""

    owner: int
    ids: tuple[int, ...]
    n_scored: int


@dataclass(frozen=True)
class Likelihoods:
    """Of each continuation, shape (continuations,): nats, and whether greedy decoding would write just it."""

    nats: Floats
    is_greedy: npt.NDArray[np.bool_]


def log_likelihoods(
    model: PreTrainedModel, tokenizer: TextTokenizer, continuations: Sequence[Continuation]
) -> Likelihoods:
    """ln p of each continuation; the model's training mode is put back afterwards.

    Raises:
        TaskError: an answer has no tokens, or the model gives it no finite likelihood.
        TokenizerError: the model does not know every token of the tokenizer.
    """
    check_vocabulary(model, tokenizer)
    windows = encoded_windows(tokenizer, continuations, beginning_id(model, tokenizer), context_length(model.config))
    found = score_windows(model, windows, len(continuations))
    for continuation, nats in zip(continuations, found.nats, strict=True):
        if not np.isfinite(nats):
            raise TaskError(
                f"{continuation.place}: the model must give every answer a finite likelihood",
                received=float(nats),
                hint="its weights may hold NaN: training diverged",
            )
    return found


def check_vocabulary(model: PreTrainedModel, tokenizer: TextTokenizer) -> None:
    """Nothing, if the model embeds every token.

    Raises:
        TokenizerError: it does not.
    """
    rows = model.get_input_embeddings().num_embeddings
    if rows < tokenizer.vocab_size:
        raise TokenizerError(
            f"a model must know every token of the tokenizer: it embeds {rows}, not {tokenizer.vocab_size}"
        )


def count_tokens(tokenizer: TextTokenizer, continuations: Sequence[Continuation]) -> int:
    """Tokens that a model without a limit of context reads to score the continuations."""
    windows = encoded_windows(tokenizer, continuations, tokenizer.end_id, None)
    return sum(len(window.ids) - 1 for window in windows)


def beginning_id(model: PreTrainedModel, tokenizer: TextTokenizer) -> int:
    """The token before the first one of a text."""
    named = getattr(model.config.get_text_config(), "bos_token_id", None)
    return int(named) if isinstance(named, int) and 0 <= named < tokenizer.vocab_size else tokenizer.end_id


def encoded_windows(
    tokenizer: TextTokenizer, continuations: Sequence[Continuation], first_id: int, context: int | None
) -> list[Window]:
    """Every continuation as one window or several.

    Raises:
        TaskError: an answer has no tokens.
    """
    windows: list[Window] = []
    pairs = _encoded(tokenizer, continuations, first_id)
    for owner, (before, answer) in enumerate(pairs):
        if not answer:
            rule = f"{continuations[owner].place}: an answer must have tokens"
            raise TaskError(rule, received=continuations[owner].split()[1])
        windows.extend(cut_to_context(owner, tuple(before), tuple(answer), context))
    return windows


def _encoded(
    tokenizer: TextTokenizer, continuations: Sequence[Continuation], first_id: int
) -> list[tuple[list[int], list[int]]]:
    """(ids before the answer, at least one; ids of the answer) of each continuation."""
    texts = [continuation.split() for continuation in continuations]
    answers = tokenizer.encode_batch([answer for _, answer in texts])
    prompts = tokenizer.encode_batch([prompt for prompt, _ in texts])
    wholes = tokenizer.encode_batch([prompt + answer for prompt, answer in texts])
    pairs = [
        ([first_id, *before], whole[len(before) :] if whole[: len(before)] == before else answer)
        for before, whole, answer in zip(prompts, wholes, answers, strict=True)
    ]
    for render in {id(each.render): each.render for each in continuations if each.render is not None}.values():
        mine = [k for k, each in enumerate(continuations) if each.render is render]
        rendered = PromptEncoder(tokenizer, render).encode([continuations[k].prompt for k in mine])
        for k, before in zip(mine, rendered, strict=True):
            pairs[k] = (before or [first_id], answers[k])
    return pairs


def cut_to_context(
    owner: int, before: tuple[int, ...], answer: tuple[int, ...], context: int | None
) -> Iterator[Window]:
    """Windows of at most context + 1 ids (the last is only predicted) that score each answer token once."""
    ids = before + answer
    if context is None or len(ids) <= context + 1:
        yield Window(owner, ids, len(answer))
        return
    piece = max(1, context // 2)
    for start in range(len(before), len(ids), piece):
        end = min(start + piece, len(ids))
        yield Window(owner, ids[max(0, end - context - 1) : end], end - start)


@torch.no_grad()
def score_windows(model: PreTrainedModel, windows: Sequence[Window], n_owners: int) -> Likelihoods:
    """Sum of ln p over the scored tokens of each owner's windows."""
    nats = np.zeros(n_owners)
    is_greedy = np.ones(n_owners, dtype=np.bool_)
    was_training = model.training
    model.eval()
    try:
        for batch in _batches(windows, _tokens_at_once(model)):
            sums, greedy = _score_batch(model, batch)
            for window, total, matches in zip(batch, sums, greedy, strict=True):
                nats[window.owner] += total
                is_greedy[window.owner] &= matches
    finally:
        model.train(was_training)
    return Likelihoods(nats, is_greedy)


def _tokens_at_once(model: PreTrainedModel) -> int:
    """How many tokens one batch may hold: what suits the device, and no more logits than fit."""
    most = BATCH_TOKENS.get(next(model.parameters()).device.type, _BATCH_TOKENS_ELSEWHERE)
    return min(most, _LOGITS_AT_ONCE // int(model.get_input_embeddings().num_embeddings))


def _batches(windows: Sequence[Window], most_tokens: int) -> Iterator[list[Window]]:
    """Windows sorted by length, as many at once as `most_tokens` allows, at least one."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda w: (len(w.ids), w.n_scored)):
        if batch and (len(batch) + 1) * len(window.ids) > most_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch


def _score_batch(model: PreTrainedModel, batch: Sequence[Window]) -> tuple[list[float], list[bool]]:
    """(nats, greedy) of each window of a batch, the logits only from the first scored position on."""
    device = next(model.parameters()).device
    longest = max(len(window.ids) for window in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    scored = torch.zeros(len(batch), longest - 1, dtype=torch.bool)
    for row, window in enumerate(batch):
        end = len(window.ids)
        ids[row, :end] = torch.tensor(window.ids)
        scored[row, end - 1 - window.n_scored : end - 1] = True
    first = int(scored.any(dim=0).nonzero()[0])
    logits = _logits(model, ids[:, :-1].to(device), first).float()
    targets, mask = ids[:, first + 1 :].to(device), scored[:, first:].to(device)
    chosen, wanted = logits[mask], targets[mask]
    losses = torch.zeros(targets.shape, dtype=torch.float64)
    losses[mask.cpu()] = functional.cross_entropy(chosen, wanted, reduction="none").cpu().double()
    misses = torch.zeros(targets.shape, dtype=torch.bool)
    misses[mask.cpu()] = (chosen.argmax(dim=-1) != wanted).cpu()
    return (-losses.sum(dim=1)).tolist(), (~misses.any(dim=1)).tolist()


def _logits(model: PreTrainedModel, ids: torch.Tensor, first: int) -> torch.Tensor:
    """Logits from position `first` on: ids (batch, length) -> (batch, length - first, vocab)."""
    if "logits_to_keep" in inspect.signature(model.forward).parameters:
        kept: torch.Tensor = model(input_ids=ids, logits_to_keep=ids.shape[1] - first).logits
        return kept
    every: torch.Tensor = model(input_ids=ids).logits
    return every[:, first:]
