"""TokenStore: every domain tokenised once, as memory-mapped train and held-out sequences.

Layout of the folder (all readable with numpy and any JSON reader):
    store.json                        the domains of the last build, in order
    tokenizer-<fingerprint>.json      the tokenizer; token_bytes-<fingerprint>.npy: bytes per token
    surveys/<signature>.json          content fingerprints of sources, by file sizes and times
    <domain>-<key>/train.npy          (sequences, sequence_length) uint16 or uint32; heldout.npy likewise
    <domain>-<key>/meta.json          counts; the folder appears by one rename when it is whole
The key is a hash of the documents, the tokenizer and the settings: adding a domain tokenises only that one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.corpus.builder import StoreProgress, StoreSettings, build_domains
from evermix.corpus.packing import map_sequences
from evermix.corpus.source import TextSource
from evermix.corpus.tokenizer import TextTokenizer, load_tokenizer
from evermix.domains import Domain, DomainSet
from evermix.errors import CorpusError
from evermix.files import DISK_FULL, read_record, write_atomically, write_json

__all__ = ["StoreProgress", "StoreSettings", "TokenStore", "build_store"]

_OPEN_MAPS = 256  # files mapped at once; far below the usual limit on open files


@dataclass
class TokenStore:
    """A built store; opened by `TokenStore.open` or returned by `build_store`.

    Attributes:
        folder: the store's folder.
        sequence_length: tokens per sequence.
        tokenizer_fingerprint: of the tokenizer that made it.
        entries: one per domain: its subfolder's name and meta.
    """

    folder: Path
    sequence_length: int
    tokenizer_fingerprint: str
    entries: tuple[dict[str, Any], ...]
    _maps: dict[tuple[int, str], npt.NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """The store last built in `folder`; CorpusError if there is none or a part of it is gone."""
        manifest = Path(folder) / "store.json"
        if not manifest.is_file():
            raise CorpusError("a token store must hold store.json", received=str(folder), hint="build it first")
        content = read_record(manifest, "folders", "sequence_length", "tokenizer")
        entries = []
        for name in content["folders"]:
            meta = Path(folder) / name / "meta.json"
            if not meta.is_file():
                raise CorpusError("a part of the token store is gone", received=str(meta), hint="build the store again")
            entries.append({"folder": name, **read_record(meta, "name", "train", "heldout")})
        return cls(Path(folder), content["sequence_length"], content["tokenizer"], tuple(entries))

    @cached_property
    def domains(self) -> DomainSet:
        """The domains in order; n_tokens counts the train sequences, fingerprints are those of the content."""
        return DomainSet(
            Domain(e["name"], e["train"]["n_sequences"] * self.sequence_length, e["fingerprint"]) for e in self.entries
        )

    @cached_property
    def train_sizes(self) -> npt.NDArray[np.int64]:
        """Train sequences of each domain, shape (domains,)."""
        return np.array([e["train"]["n_sequences"] for e in self.entries], dtype=np.int64)

    @cached_property
    def flat_offsets(self) -> npt.NDArray[np.int64]:
        """Where each domain begins in the flat train index, and its end, shape (domains + 1,)."""
        return np.concatenate([[0], np.cumsum(self.train_sizes)]).astype(np.int64)

    @cached_property
    def tokenizer(self) -> TextTokenizer:
        """The tokenizer that made the store."""
        return load_tokenizer(
            self.folder / f"tokenizer-{self.tokenizer_fingerprint}.json", self.entries[0]["end_token"]
        )

    @cached_property
    def token_bytes(self) -> npt.NDArray[np.int64]:
        """UTF-8 bytes that each token stands for, shape (vocab,)."""
        table: npt.NDArray[np.int64] = np.load(self.folder / f"token_bytes-{self.tokenizer_fingerprint}.npy")
        return table

    @property
    def vocab_size(self) -> int:
        """Largest token id plus one."""
        return len(self.token_bytes)

    @property
    def end_id(self) -> int:
        """Id of the token after each document."""
        return int(self.entries[0]["end_id"])

    def train(self, j: int) -> npt.NDArray[Any]:
        """Train sequences of domain j, memory-mapped, shape (sequences, sequence_length)."""
        return self._map(j, "train")

    def heldout(self, j: int) -> npt.NDArray[Any]:
        """Held-out sequences of domain j, memory-mapped, shape (sequences, sequence_length)."""
        return self._map(j, "heldout")

    def read(self, flat_indices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Train sequences at flat indices (see `flat_offsets`), shape (k, sequence_length).

        Raises:
            CorpusError: if an index lies outside the store.
        """
        flat = np.asarray(flat_indices, dtype=np.int64)
        if flat.size and (flat.min() < 0 or flat.max() >= self.flat_offsets[-1]):
            raise CorpusError(
                f"flat indices must lie in [0, {self.flat_offsets[-1]})", received=[int(flat.min()), int(flat.max())]
            )
        owner = np.searchsorted(self.flat_offsets, flat, side="right") - 1
        out = np.empty((len(flat), self.sequence_length), dtype=np.int64)
        rows = flat - self.flat_offsets[owner]
        for i, (j, row) in enumerate(zip(owner.tolist(), rows.tolist(), strict=True)):
            out[i] = self.train(j)[row]
        return out

    def counts(self) -> list[dict[str, object]]:
        """One row per domain: name, and for each split n_documents, n_bytes, n_tokens, n_sequences; n_duplicates."""
        return [
            {
                "name": e["name"],
                **{f"{split}_{key}": n for split in ("train", "heldout") for key, n in e[split].items()},
                "n_duplicates": e["n_duplicates"],
            }
            for e in self.entries
        ]

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: everything but the open maps."""
        return {**self.__dict__, "_maps": {}}

    def _map(self, j: int, split: str) -> npt.NDArray[Any]:
        if (j, split) not in self._maps:
            if len(self._maps) >= _OPEN_MAPS:
                self._maps.pop(next(iter(self._maps)))
            entry = self.entries[j]
            shape = (entry[split]["n_sequences"], self.sequence_length)
            path = self.folder / entry["folder"] / f"{split}.npy"
            self._maps[j, split] = map_sequences(path, np.dtype(entry["dtype"]), shape)
        return self._maps[j, split]


def build_store(
    sources: Sequence[TextSource],
    tokenizer: TextTokenizer,
    folder: Path,
    settings: StoreSettings,
    progress: Callable[[StoreProgress], None] | None = None,
) -> TokenStore:
    """Tokenise what is not yet in `folder`, and open the store of these sources.

    Args:
        sources: one per domain, unique names.
        tokenizer: encodes the text.
        folder: the store's folder, made if missing.
        settings: sequence length, held-out split, base folder, workers.
        progress: called from several threads in turn, never at once.

    Raises:
        CorpusError: bad input (see `source.iterate`), a domain with fewer tokens than one sequence, a full disk.
        DomainError: duplicate or malformed domain names.
    """
    DomainSet(source.name for source in sources)
    folder = Path(folder)
    with _full_disk_named(folder):
        entries = build_domains(sources, tokenizer, folder, settings, progress or (lambda _: None))
        _keep_tokenizer(tokenizer, folder)
        manifest = {
            "sequence_length": settings.sequence_length,
            "tokenizer": tokenizer.fingerprint,
            "folders": [entry["folder"] for entry in entries],
        }
        write_json(folder / "store.json", manifest)
    return TokenStore(folder, settings.sequence_length, tokenizer.fingerprint, tuple(entries))


def _keep_tokenizer(tokenizer: TextTokenizer, folder: Path) -> None:
    import io

    table = io.BytesIO()
    np.save(table, tokenizer.token_bytes)
    write_atomically(folder / f"token_bytes-{tokenizer.fingerprint}.npy", table.getvalue())
    tokenizer.save(folder / f"tokenizer-{tokenizer.fingerprint}.json")


@contextmanager
def _full_disk_named(folder: Path) -> Iterator[None]:
    """Turn a full disk into a CorpusError that says what was being written and where."""
    try:
        yield
    except OSError as error:
        if error.errno not in DISK_FULL:
            raise
        raise CorpusError(
            f"the disk must have room for the token store ({error.strerror})",
            received=str(folder),
            hint="free some space or move the project folder; nothing half-written was kept",
        ) from error
