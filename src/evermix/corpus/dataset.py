"""A torch map-style data set over the flat train index of a token store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from evermix.corpus.store import TokenStore

Example = dict[str, torch.Tensor]


class SequenceDataset(Dataset[Example]):
    """Train sequences by flat index; the order is the mixture stream's business (a sampler)."""

    def __init__(self, store: TokenStore) -> None:
        self.store = store

    def __len__(self) -> int:
        return int(self.store.flat_offsets[-1])

    def __getitem__(self, flat_index: int) -> Example:
        """{"input_ids", "labels"}: the same LongTensor (sequence_length,)."""
        return self.__getitems__([flat_index])[0]

    def __getitems__(self, flat_indices: Sequence[int]) -> list[Example]:
        """One example per flat index, read together."""
        rows = torch.from_numpy(self.store.read(np.asarray(flat_indices, dtype=np.int64)))
        return [{"input_ids": row, "labels": row} for row in rows]
