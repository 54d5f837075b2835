"""TokenStore: every domain tokenised once, as memory-mapped sequences to train on, to decide by and to test by.

Layout of the folder (all readable with numpy and any JSON reader):
    store.json                        the domains of the last build, in order
    tokenizer-<fingerprint>.json      the tokenizer
    surveys/<signature>.json          content fingerprints of sources, by file sizes and times
    <domain>-<key>/train.npy          (sequences, sequence_length) uint16 or uint32; decision.npy, test.npy likewise
    <domain>-<key>/decision_bytes.npy uint32 beside each token: the bytes of its text; test_bytes.npy likewise
    <domain>-<key>/train_roles.npy    of a chat domain: uint8 beside each token; decision_, test_roles.npy likewise
    <domain>-<key>/meta.json          counts, and size and SHA-256 of the files; the folder appears whole, by one rename
The key is a hash of the documents, the tokenizer and the settings: adding a domain tokenises only that one.

A sequence of a text domain is full of tokens, all learnt. One of a chat domain is a conversation, padded on the right
with the end token; its roles are 0 padding, 1 context, 2 target.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from evermix.corpus.builder import StoreProgress, StoreSettings, build_domains
from evermix.corpus.chat import TARGET
from evermix.corpus.packing import BYTES, map_sequences
from evermix.corpus.source import TextSource
from evermix.corpus.split import Side, Split
from evermix.corpus.tokenizer import TextTokenizer, load_tokenizer
from evermix.domains import Domain, DomainSet
from evermix.errors import CorpusError
from evermix.files import DISK_FULL, faults, read_record, write_record

__all__ = ["StoreProgress", "StoreSettings", "TokenStore", "build_store"]

_BESIDE: dict[str, np.dtype[Any]] = {"_roles": np.dtype(np.uint8), "_bytes": BYTES}
_OPEN_MAPS = 256  # files mapped at once; far below the usual limit on open files


@dataclass
class TokenStore:
    """A built store; opened by `TokenStore.open` or returned by `build_store`.

    Attributes:
        folder: the store's folder.
        sequence_length: tokens per sequence.
        tokenizer_fingerprint: of the tokenizer that made it.
        entries: one per domain: its subfolder's name and meta.
        train_limits: per domain, how many of its train sequences there are to see; None for all of them.
    """

    folder: Path
    sequence_length: int
    tokenizer_fingerprint: str
    entries: tuple[dict[str, Any], ...]
    train_limits: tuple[int, ...] | None = None
    _maps: dict[tuple[int, str], npt.NDArray[Any]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def open(cls, folder: Path) -> TokenStore:
        """The store last built in `folder`, every file of it read once; CorpusError if a part is gone or damaged."""
        manifest = Path(folder) / "store.json"
        if not manifest.is_file():
            raise CorpusError("a token store must hold store.json", received=str(folder), hint="build it first")
        store = cls.from_manifest(Path(folder), read_record(manifest, "folders", "sequence_length", "tokenizer"))
        for entry in store.entries:
            for fault in faults(store.folder / entry["folder"] / "meta.json"):
                raise CorpusError(
                    f"a part of the token store is gone or damaged: {fault}",
                    hint=f"delete the folder {store.folder / entry['folder']} and build the store again",
                )
        return store

    @classmethod
    def from_manifest(cls, folder: Path, manifest: Mapping[str, Any]) -> TokenStore:
        """The store of the domains that `manifest` lists, as whoever made the manifest has found it, unread.

        Raises:
            CorpusError: if a part of it is gone.
        """
        entries = []
        for name in manifest["folders"]:
            meta = folder / name / "meta.json"
            if not meta.is_file():
                raise CorpusError("a part of the token store is gone", received=str(meta), hint="build the store again")
            entries.append({"folder": name, **read_record(meta, "name", "train", "decision", "test")})
        return cls(folder, manifest["sequence_length"], manifest["tokenizer"], tuple(entries))

    @property
    def manifest(self) -> dict[str, Any]:
        """What `from_manifest` needs beside the folder; it names contents, so it is a key of what is trained on it."""
        return {
            "sequence_length": self.sequence_length,
            "tokenizer": self.tokenizer_fingerprint,
            "folders": [entry["folder"] for entry in self.entries],
        }

    def subset(self, names: Collection[str]) -> TokenStore:
        """The same store with only the domains in `names`, in the order of the store.

        Raises:
            DomainError: if a name is unknown.
        """
        wanted = {self.domains.index(name) for name in names}
        kept = tuple(entry for j, entry in enumerate(self.entries) if j in wanted)
        limits = self.train_limits and tuple(limit for j, limit in enumerate(self.train_limits) if j in wanted)
        return replace(self, entries=kept, train_limits=limits, _maps={})

    def shrunk(self, factor: float) -> TokenStore:
        """The same store with the first `factor` of each domain's train sequences, at least one.

        Sequences lie in random order, so the first ones are a random sample. A run of `factor` times the target's
        tokens on it repeats every domain as often as the target does on the whole: simulated epoching.

        Raises:
            CorpusError: unless 0 < factor.
        """
        if not factor > 0:
            raise CorpusError("a store can only be shrunk by a positive factor", received=factor)
        if factor >= 1:
            return self
        return self.limited([max(1, round(n * factor)) for n in self.train_sizes.tolist()])

    def limited(self, train_sequences: Sequence[int]) -> TokenStore:
        """The same store with the first `train_sequences[j]` train sequences of each domain j."""
        return replace(self, train_limits=tuple(train_sequences), _maps={})

    @cached_property
    def domains(self) -> DomainSet:
        """The domains in order; n_tokens counts train sequences without padding, fingerprints are of content."""
        return DomainSet(
            Domain(e["name"], round(n * self.mean_length(j)), e["fingerprint"])
            for j, (e, n) in enumerate(zip(self.entries, self.train_sizes.tolist(), strict=True))
        )

    @cached_property
    def train_sizes(self) -> npt.NDArray[np.int64]:
        """Train sequences of each domain, shape (domains,)."""
        sizes = np.array([e["train"]["n_sequences"] for e in self.entries], dtype=np.int64)
        return sizes if self.train_limits is None else np.minimum(sizes, self.train_limits)

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

    @property
    def vocab_size(self) -> int:
        """Largest token id plus one."""
        return int(self.entries[0]["vocab_size"])

    @property
    def end_id(self) -> int:
        """Id of the token after each document."""
        return int(self.entries[0]["end_id"])

    def train(self, j: int) -> npt.NDArray[Any]:
        """Train sequences of domain j, memory-mapped, shape (sequences, sequence_length)."""
        return self._map(j, "train")[: self.train_sizes[j]]

    def heldout(self, j: int, side: Side) -> npt.NDArray[Any]:
        """Sequences of domain j that decide, or that test; memory-mapped, shape (sequences, sequence_length)."""
        return self._map(j, side)

    def heldout_bytes(self, j: int, side: Side) -> npt.NDArray[np.uint32]:
        """Beside each token of `heldout(j, side)` the UTF-8 bytes of the text that it stands for, of the same shape.

        The tokens of a document sum to its bytes, those of an answer to the answer's.
        """
        return self._map(j, side, beside="_bytes")

    @cached_property
    def has_chat(self) -> bool:
        """Whether any domain is a chat domain."""
        return any(self.is_chat(j) for j in range(len(self.entries)))

    @property
    def chat_templates(self) -> dict[str, str]:
        """Fingerprint of the template of each chat domain, by name."""
        return {entry["name"]: entry["chat_template"] for entry in self.entries if "chat_template" in entry}

    def is_chat(self, j: int) -> bool:
        """Whether the sequences of domain j are padded conversations, of which only the answers are learnt."""
        return "chat_template" in self.entries[j]

    def roles(self, j: int, split: Split) -> npt.NDArray[np.uint8] | None:
        """Roles beside `train(j)` or `heldout(j, split)`, of the same shape; None for text: all of it is learnt."""
        if not self.is_chat(j):
            return None
        roles: npt.NDArray[np.uint8] = self._map(j, split, beside="_roles")
        return roles[: self.train_sizes[j]] if split == "train" else roles

    def mean_length(self, j: int) -> float:
        """Tokens per train sequence of domain j, without padding; of all sequences, where only the first are seen."""
        if not self.is_chat(j):
            return float(self.sequence_length)
        train = self.entries[j]["train"]
        return float(train["n_tokens"] / train["n_sequences"])

    @cached_property
    def mean_lengths(self) -> npt.NDArray[np.float64]:
        """`mean_length` of each domain, shape (domains,); sequences per domain times this are tokens."""
        return np.array([self.mean_length(j) for j in range(len(self.entries))])

    def read(self, flat_indices: npt.ArrayLike) -> npt.NDArray[np.int64]:
        """Train sequences at flat indices (see `flat_offsets`), shape (k, sequence_length).

        Raises:
            CorpusError: if an index lies outside the store.
        """
        out = np.empty((np.size(flat_indices), self.sequence_length), dtype=np.int64)
        for i, j, row in self._located(flat_indices):
            out[i] = self.train(j)[row]
        return out

    def read_roles(self, flat_indices: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Roles beside `read`, shape (k, sequence_length); every token of a text domain is learnt.

        Raises:
            CorpusError: if an index lies outside the store.
        """
        out = np.full((np.size(flat_indices), self.sequence_length), TARGET, dtype=np.uint8)
        for i, j, row in self._located(flat_indices):
            roles = self.roles(j, "train")
            if roles is not None:
                out[i] = roles[row]
        return out

    def _located(self, flat_indices: npt.ArrayLike) -> Iterator[tuple[int, int, int]]:
        """(position among the indices, domain, its train sequence) of each flat index."""
        flat = np.asarray(flat_indices, dtype=np.int64)
        if flat.size and (flat.min() < 0 or flat.max() >= self.flat_offsets[-1]):
            raise CorpusError(
                f"flat indices must lie in [0, {self.flat_offsets[-1]})", received=[int(flat.min()), int(flat.max())]
            )
        owner = np.searchsorted(self.flat_offsets, flat, side="right") - 1
        rows = flat - self.flat_offsets[owner]
        return zip(range(len(flat)), owner.tolist(), rows.tolist(), strict=True)

    def counts(self) -> list[dict[str, object]]:
        """One row per domain: name, and for each split n_documents, n_bytes, n_tokens, n_sequences; n_duplicates.

        Rows of chat domains also have n_too_long, the conversations left out.
        """
        return [
            {
                "name": e["name"],
                **{f"{split}_{key}": n for split in get_args(Split) for key, n in e[split].items()},
                "n_duplicates": e["n_duplicates"],
                **({"n_too_long": e["n_too_long"]} if self.is_chat(j) else {}),
            }
            for j, e in enumerate(self.entries)
        ]

    def __getstate__(self) -> dict[str, Any]:
        """For worker processes: everything but the open maps."""
        return {**self.__dict__, "_maps": {}}

    def _map(self, j: int, split: Split, beside: str = "") -> npt.NDArray[Any]:
        """The array of a split, or the one `beside` it: `_roles` or `_bytes`."""
        name = split + beside
        if (j, name) not in self._maps:
            if len(self._maps) >= _OPEN_MAPS:
                self._maps.pop(next(iter(self._maps)))
            entry = self.entries[j]
            shape = (entry[split]["n_sequences"], self.sequence_length)
            dtype = _BESIDE.get(beside) or np.dtype(entry["dtype"])
            self._maps[j, name] = map_sequences(self.folder / entry["folder"] / f"{name}.npy", dtype, shape)
        return self._maps[j, name]


def build_store(
    sources: Sequence[TextSource],
    tokenizer: TextTokenizer,
    folder: Path,
    settings: StoreSettings,
    progress: Callable[[StoreProgress], None] | None = None,
) -> TokenStore:
    """Tokenise what is not yet in `folder` or is damaged there, and open the store of these sources.

    Every file is read once, to compare it with the hash that was written with it.

    Args:
        sources: one per domain, unique names.
        tokenizer: encodes the text.
        folder: the store's folder, made if missing.
        settings: sequence length, held-out split, base folder, workers.
        progress: called from several threads in turn, never at once.

    Raises:
        CorpusError: bad input (see `source.iterate`), a domain too small for one sequence on every side, a full disk.
        DomainError: duplicate or malformed domain names.
    """
    DomainSet(source.name for source in sources)
    folder = Path(folder)
    with _full_disk_named(folder):
        entries = build_domains(sources, tokenizer, folder, settings, progress or (lambda _: None))
        tokenizer.save(folder / f"tokenizer-{tokenizer.fingerprint}.json")
        store = TokenStore(folder, settings.sequence_length, tokenizer.fingerprint, tuple(entries))
        write_record(folder / "store.json", store.manifest)
    return store


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
