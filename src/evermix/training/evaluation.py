"""Evaluation: loss, bits per byte and perplexity of each domain's held-out text, with standard errors.

    loss           = mean over predicted tokens of -ln p(token)                    nats per token
    bits per byte  = sum over tokens of -log2 p(token) / UTF-8 bytes of the tokens
    perplexity     = exp(loss)
The standard error is that of the mean over held-out sequences.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional
from transformers import PreTrainedModel

from evermix.corpus.store import TokenStore
from evermix.domains import DomainSet

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class HeldoutText:
    """Held-out sequences of every domain, ready to be scored.

    Attributes:
        domains: which domains, in order.
        sequences: per domain, token ids of shape (sequences, length).
        n_bytes: shape (domains,), UTF-8 bytes of the predicted tokens.
    """

    domains: DomainSet
    sequences: tuple[torch.Tensor, ...]
    n_bytes: Floats

    @classmethod
    def from_store(cls, store: TokenStore, most: int | None = None) -> HeldoutText:
        """The first `most` held-out sequences of each domain (all when None)."""
        sequences = [np.asarray(store.heldout(j))[:most].astype(np.int64) for j in range(len(store.domains))]
        n_bytes = np.array([store.token_bytes[ids[:, 1:]].sum() for ids in sequences], dtype=np.float64)
        return cls(store.domains, tuple(torch.from_numpy(ids) for ids in sequences), n_bytes)

    @property
    def n_predicted(self) -> Floats:
        """Predicted tokens per domain, shape (domains,)."""
        return np.array([ids.shape[0] * (ids.shape[1] - 1) for ids in self.sequences], dtype=np.float64)

    @property
    def n_tokens(self) -> int:
        """Tokens that one evaluation reads."""
        return sum(ids.numel() for ids in self.sequences)

    @property
    def bits_per_byte_factor(self) -> Floats:
        """bits per byte = factor * loss in nats per token, shape (domains,)."""
        return self.n_predicted / (np.maximum(self.n_bytes, 1) * math.log(2))

    def batches(self, batch_tokens: int = 8192) -> Iterator[tuple[int, torch.Tensor]]:
        """(domain position, token ids of shape (batch, length)) in order."""
        for j, ids in enumerate(self.sequences):
            for batch in torch.split(ids, max(1, batch_tokens // ids.shape[1])):
                yield j, batch


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


def sequence_losses(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Mean next-token loss of each sequence: logits (batch, length, vocab), ids (batch, length) -> (batch,) nats."""
    flat = functional.cross_entropy(
        logits[:, :-1].reshape(-1, logits.shape[-1]).float(), ids[:, 1:].reshape(-1), reduction="none"
    )
    return flat.view(ids.shape[0], -1).mean(dim=1)


def summarise(heldout: HeldoutText, losses: list[list[torch.Tensor]]) -> Evaluation:
    """Scores from the sequence losses of each domain."""
    joined = [torch.cat(parts).double().cpu().numpy() for parts in losses]
    mean = np.array([values.mean() for values in joined])
    stderr = np.array([values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else 0.0 for values in joined])
    return Evaluation(heldout.domains, mean, stderr, mean * heldout.bits_per_byte_factor, tuple(joined))


@torch.no_grad()
def evaluate(model: PreTrainedModel, heldout: HeldoutText) -> Evaluation:
    """Score `model` on every domain; its training mode is put back afterwards."""
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    losses: list[list[torch.Tensor]] = [[] for _ in heldout.sequences]
    for j, batch in heldout.batches():
        ids = batch.to(device)
        losses[j].append(sequence_losses(model(input_ids=ids).logits, ids))
    model.train(was_training)
    return summarise(heldout, losses)
