"""Evaluation: loss, bits per byte and perplexity of each domain's held-out text, with standard errors.

    loss           = mean over predicted tokens of -ln p(token)                    nats per token
    bits per byte  = sum over tokens of -log2 p(token) / UTF-8 bytes of the tokens
    perplexity     = exp(loss)
Predicted tokens are those that are learnt: of a conversation the answers and what ends them (special tokens have no
bytes). The tokens of a text have its own bytes, however the tokenizer spells it (`TokenStore.heldout_bytes`). The
standard error is that of the mean over held-out sequences. Where these have different numbers n_i of predicted tokens,
with l_i the mean loss of sequence i, it is that of a ratio of sums:

    loss = sum n_i l_i / sum n_i,    stderr^2 = s / (s - 1) sum (n_i (l_i - loss))^2 / (sum n_i)^2,    s sequences
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from evermix.corpus.chat import PADDING, TARGET
from evermix.corpus.split import Side, spread
from evermix.corpus.store import TokenStore
from evermix.domains import DomainSet
from evermix.errors import TrainingError
from evermix.training.data import IGNORE_INDEX

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldoutBatch:
    """Sequences of one domain.

    Attributes:
        domain: its position.
        ids: token ids, shape (batch, length).
        labels: the same, with -100 for what is not learnt; `ids` itself when all of it is.
    """

    domain: int
    ids: torch.Tensor
    labels: torch.Tensor

    def to(self, device: torch.device) -> HeldoutBatch:
        """The same on `device`."""
        ids = self.ids.to(device)
        return HeldoutBatch(self.domain, ids, ids if self.labels is self.ids else self.labels.to(device))


@dataclass(frozen=True)
class HeldoutText:
    """Held-out sequences of every domain, of one side, ready to be scored.

    Attributes:
        domains: which domains, in order.
        sequences: per domain, token ids of shape (sequences, length).
        n_bytes: shape (domains,), UTF-8 bytes of the predicted tokens.
        roles: per domain, shape (sequences, length): 0 padding, 1 context, 2 target; None where all of it is learnt.
    """

    domains: DomainSet
    sequences: tuple[torch.Tensor, ...]
    n_bytes: Floats
    roles: tuple[torch.Tensor | None, ...] = ()

    def __post_init__(self) -> None:
        if not self.roles:
            object.__setattr__(self, "roles", (None,) * len(self.sequences))

    @classmethod
    def from_store(cls, store: TokenStore, side: Side, most: int | None = None) -> HeldoutText:
        """At most so many sequences of each domain (None: all) that decide, or that test, evenly spread over them."""
        sequences, roles = [], []
        n_bytes = np.zeros(len(store.domains))
        for j in range(len(store.domains)):
            rows = spread(len(store.heldout(j, side)), most)
            ids = np.asarray(store.heldout(j, side))[rows].astype(np.int64)
            roles_of_all = store.roles(j, side)
            kinds = None if roles_of_all is None else np.asarray(roles_of_all)[rows]
            lengths = np.asarray(store.heldout_bytes(j, side))[rows, 1:]
            n_bytes[j] = (lengths if kinds is None else lengths[kinds[:, 1:] == TARGET]).sum(dtype=np.int64)
            sequences.append(torch.from_numpy(ids))
            roles.append(None if kinds is None else torch.from_numpy(kinds))
        return cls(store.domains, tuple(sequences), n_bytes, tuple(roles))

    def select(self, names: Sequence[str]) -> HeldoutText:
        """The same with only the domains `names`, in this order; DomainError if one is unknown."""
        kept = [self.domains.index(name) for name in names]
        return HeldoutText(
            DomainSet(self.domains.domains[j] for j in kept),
            tuple(self.sequences[j] for j in kept),
            self.n_bytes[kept],
            tuple(self.roles[j] for j in kept),
        )

    @cached_property
    def n_predicted(self) -> Floats:
        """Predicted tokens per domain, shape (domains,)."""
        return np.array([self.sequence_counts(j).sum() for j in range(len(self.sequences))], dtype=np.float64)

    def sequence_counts(self, j: int) -> Floats:
        """Predicted tokens of each sequence of domain j, shape (sequences,)."""
        ids, roles = self.sequences[j], self.roles[j]
        if roles is None:
            return np.full(ids.shape[0], ids.shape[1] - 1, dtype=np.float64)
        return (roles[:, 1:] == TARGET).sum(dim=1).double().numpy()

    @property
    def n_tokens(self) -> int:
        """Tokens that one evaluation reads, without padding."""
        pairs = zip(self.sequences, self.roles, strict=True)
        return sum(ids.numel() if roles is None else int((roles != PADDING).sum()) for ids, roles in pairs)

    @property
    def bits_per_byte_factor(self) -> Floats:
        """bits per byte = factor * loss in nats per token, shape (domains,)."""
        return self.n_predicted / (np.maximum(self.n_bytes, 1) * math.log(2))

    def batches(self, batch_tokens: int = 8192) -> Iterator[HeldoutBatch]:
        """All sequences in order; what is padding in a whole batch is cut off."""
        for j, (ids, roles) in enumerate(zip(self.sequences, self.roles, strict=True)):
            if roles is None:
                size = max(1, batch_tokens // ids.shape[1])
                yield from (HeldoutBatch(j, batch, batch) for batch in torch.split(ids, size))
                continue
            size = max(1, batch_tokens // int((roles != PADDING).sum(dim=1).max()))
            for batch, kinds in zip(torch.split(ids, size), torch.split(roles, size), strict=True):
                longest = int((kinds != PADDING).sum(dim=1).max())
                labels = batch.masked_fill(kinds != TARGET, IGNORE_INDEX)
                yield HeldoutBatch(j, batch[:, :longest], labels[:, :longest])

    def share_of_loss(self, losses: torch.Tensor, batch: HeldoutBatch) -> torch.Tensor:
        """What a batch with these sequence losses, shape (batch,), adds to its domain's loss; shape ()."""
        if self.roles[batch.domain] is None:
            return losses.sum() / len(self.sequences[batch.domain])
        counts = (batch.labels[:, 1:] != IGNORE_INDEX).sum(dim=1)
        return (losses * counts).sum() / float(self.n_predicted[batch.domain])


@dataclass(frozen=True)
class Evaluation:
    """Scores of one model, each of shape (domains,).

    `sequence_losses` holds per domain the loss of every held-out sequence, shape (sequences,), nats per token: two
    models scored on the same sequences are compared in pairs.
    """

    domains: DomainSet
    loss_nats: Floats
    stderr_nats: Floats
    bits_per_byte: Floats
    sequence_losses: tuple[Floats, ...]

    @property
    def perplexity(self) -> Floats:
        """exp(loss), shape (domains,)."""
        return np.exp(self.loss_nats)

    def per_domain(self) -> dict[str, dict[str, float]]:
        """domain -> every score, units in the names."""
        return {
            name: {
                "loss_nats": float(self.loss_nats[j]),
                "loss_stderr_nats": float(self.stderr_nats[j]),
                "bits_per_byte": float(self.bits_per_byte[j]),
                "perplexity": float(self.perplexity[j]),
            }
            for j, name in enumerate(self.domains.names)
        }


def sequence_losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of each sequence over the tokens that are learnt, shape (batch,), nats.

    Args:
        logits: shape (batch, length, vocab).
        labels: token ids, -100 for what is not learnt, shape (batch, length).
    """
    targets = labels[:, 1:]
    each = functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(),
        targets.reshape(-1),
        reduction="none",
        ignore_index=IGNORE_INDEX,
    ).view(labels.shape[0], -1)
    learnt = targets != IGNORE_INDEX
    return each.mean(dim=1) if bool(learnt.all()) else each.sum(dim=1) / learnt.sum(dim=1)


def summarise(heldout: HeldoutText, losses: list[list[torch.Tensor]]) -> Evaluation:
    """Scores from the sequence losses of each domain."""
    joined = [torch.cat(parts).double().cpu().numpy() for parts in losses]
    pairs = [_mean_and_error(values, heldout, j) for j, values in enumerate(joined)]
    mean, stderr = (np.array(column) for column in zip(*pairs, strict=True))
    return Evaluation(heldout.domains, mean, stderr, mean * heldout.bits_per_byte_factor, tuple(joined))


def _mean_and_error(values: Floats, heldout: HeldoutText, j: int) -> tuple[float, float]:
    """Loss of domain j and its standard error (see the module), from the losses of its sequences."""
    n = len(values)
    if heldout.roles[j] is None:
        return values.mean(), values.std(ddof=1) / math.sqrt(n) if n > 1 else 0.0
    counts = heldout.sequence_counts(j)
    mean = float(counts @ values / counts.sum())
    residuals = counts * (values - mean)
    return mean, math.sqrt(n / (n - 1) * float(residuals @ residuals)) / float(counts.sum()) if n > 1 else 0.0


GREATEST_LOSS = math.log(sys.float_info.max)
"""Nats per token; above it the perplexity is no number."""


def is_loss(nats: float) -> bool:
    """Whether it can be the loss of a model that learns: a number whose perplexity is one too."""
    return math.isfinite(nats) and nats < GREATEST_LOSS


@torch.no_grad()
def evaluate(model: PreTrainedModel, heldout: HeldoutText) -> Evaluation:
    """Score `model` on every domain; its training mode is put back afterwards.

    Raises:
        TrainingError: a loss is none (`is_loss`); it names the domains.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    losses: list[list[torch.Tensor]] = [[] for _ in heldout.sequences]
    for cpu_batch in heldout.batches():
        batch = cpu_batch.to(device)
        losses[batch.domain].append(sequence_losses(model(input_ids=batch.ids).logits, batch.labels))
    model.train(was_training)
    scores = summarise(heldout, losses)
    pairs = zip(scores.domains.names, scores.loss_nats.tolist(), strict=True)
    bad = [f"{name} {nats:.3g}" for name, nats in pairs if not is_loss(nats)]
    if bad:
        raise TrainingError(f"loss of held-out text in nats per token: {', '.join(bad)}")
    return scores
