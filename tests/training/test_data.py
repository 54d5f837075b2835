"""The torch data set gives the store's sequences, also through a data loader with workers."""

import numpy as np
import torch
from torch.utils.data import DataLoader

from evermix.corpus import StoreSettings, TextSource, build_store, train_bpe
from evermix.training.data import SequenceDataset


def test_items_equal_the_stores_sequences(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(f"line {i} of {i * i}" for i in range(300)))
    source = TextSource("a", ("a.txt",), documents="line")
    tokenizer = train_bpe({"a": [(tmp_path / "a.txt").read_text()]}, 280)
    store = build_store([source], tokenizer, tmp_path / "s", StoreSettings(8, base=tmp_path))
    data = SequenceDataset(store)
    assert len(data) == len(store.train(0))
    item = data[5]
    assert item["input_ids"].dtype == torch.long
    np.testing.assert_array_equal(item["labels"], store.train(0)[5])
    order = [7, 3, 3, 11, 0, 2]
    for workers in (0, 2):
        batches = list(DataLoader(data, batch_size=3, sampler=order, num_workers=workers))
        np.testing.assert_array_equal(torch.cat([b["input_ids"] for b in batches]), store.read(order))
