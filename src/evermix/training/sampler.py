"""The order of training sequences for HF Trainer: a counter-based sampler in the main process.

The sequences of batch b are a function of (seed, b, schedule) only, so that resuming, the number of workers and the
number of ranks change nothing.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch.utils.data import Sampler

from evermix.corpus.store import TokenStore
from evermix.corpus.stream import MixtureStream
from evermix.schedule import MixtureSchedule


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

    def __len__(self) -> int:
        return self.n_sequences
