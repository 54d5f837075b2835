"""A torch map-style data set over the flat train index of a token store."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch.utils.data import Dataset

from evermix.corpus.chat import PADDING, TARGET
from evermix.corpus.store import TokenStore

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
