"""The training sequences for HF Trainer: a map-style data set over a token store, and the order that a sampler gives.

The sequences of batch b are a function of (seed, b, schedule) only, so that resuming, the number of workers and the
number of ranks change nothing. The sampler lives in the main process.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch.utils.data import Dataset, Sampler

from evermix.corpus.chat import PADDING, TARGET
from evermix.corpus.store import TokenStore
from evermix.corpus.stream import MixtureStream
from evermix.schedule import MixtureSchedule

Example = dict[str, torch.Tensor]
IGNORE_INDEX = -100  # the label that losses pass over


class SequenceDataset(Dataset[Example]):
    """Train sequences by flat index; the order is the mixture stream's business (a sampler)."""

    def __init__(self, store: TokenStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return int(self.store.flat_offsets[-1])

    def __getitem__(self, flat_index: int) -> Example:
        """{"input_ids", "labels"}: the same LongTensor (sequence_length,).

        If the store has a chat domain, labels are -100 where nothing is learnt, and "attention_mask", a LongTensor
        (sequence_length,), is 0 on the padding.
        """
        return self.__getitems__([flat_index])[0]

    def __getitems__(self, flat_indices: Sequence[int]) -> list[Example]:
        """One example per flat index, read together."""
        indices = np.asarray(flat_indices, dtype=np.int64)
        rows = torch.from_numpy(self.store.read(indices))
        if not self.store.has_chat:
            return [{"input_ids": row, "labels": row} for row in rows]
        roles = torch.from_numpy(self.store.read_roles(indices))
        labels = rows.masked_fill(roles != TARGET, IGNORE_INDEX)
        masks = (roles != PADDING).long()
        return [
            {"input_ids": row, "labels": label, "attention_mask": mask}
            for row, label, mask in zip(rows, labels, masks, strict=True)
        ]


def trimmed(examples: Sequence[Example]) -> Example:
    """A batch without the columns that are padding in all of its examples: each entry (batch, longest example)."""
    batch = {key: torch.stack([example[key] for example in examples]) for key in examples[0]}
    longest = int(batch["attention_mask"].sum(dim=1).max())
    return {key: values[:, :longest] for key, values in batch.items()}


def open_stream(store: TokenStore, schedule: MixtureSchedule, seed: int) -> MixtureStream:
    """The mixture stream of `schedule` over the training sequences of `store`, at its start."""
    return MixtureStream(store.train_sizes.tolist(), store.domains.names, schedule, seed)


class StreamSampler(Sampler[int]):
    """Yields `n_sequences` flat sequence indices from sequence `first` of the schedule on: the start of the run.

    A resumed Trainer skips the ones it has trained on by drawing indices without reading data.
    """

    def __init__(
        self, store: TokenStore, schedule: MixtureSchedule, seed: int, n_sequences: int, first: int = 0
    ) -> None:
        self.store = store
        self.first = first
        self.schedule = schedule
        self.seed = seed
        self.n_sequences = n_sequences

    def __iter__(self) -> Iterator[int]:
        stream = open_stream(self.store, self.schedule, self.seed)
        stream.seek(self.first)
        drawn = 0
        while drawn < self.n_sequences:
            chunk = min(256, self.n_sequences - drawn)
            yield from stream.draw(chunk).tolist()
            drawn += chunk

    def rows(self, start: int, count: int) -> list[int]:
        """Flat indices of `count` sequences from the one that is drawn `start`-th (from 0) on."""
        stream = open_stream(self.store, self.schedule, self.seed)
        stream.seek(self.first + start)
        return [int(index) for index in stream.draw(count)]

    def __len__(self) -> int:
        return self.n_sequences
