"""Building of a token store, domain by domain: survey, tokenise, split, pack."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from evermix.corpus.chat import ChatEncoder, ChatShape, TokenisedChats, tokenise_chats, write_rows
from evermix.corpus.chat_template import ChatTemplate
from evermix.corpus.packing import TokenisedDocuments, pack, pack_bytes, tokenise
from evermix.corpus.source import Survey, TextSource, iterate, serialised, survey
from evermix.corpus.split import Split, cut, piece_bytes, split_masks, spread
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import CorpusError
from evermix.files import new_folder, read_record, stored, write_record

Result = TypeVar("Result")

_VERSION = 5  # raise it when the same input would give other sequences
_CHAT_VERSION = 3  # the same for chat domains alone
_LEAST_HELDOUT = 0.5  # of a side's wished-for share of tokens, whatever the documents' sizes


@dataclass(frozen=True)
class StoreSettings:
    """How text becomes sequences.

    Attributes:
        sequence_length: tokens per sequence.
        heldout_fraction: share of documents held out, for decision and test together, in (0, 1).
        heldout_max_sequences: most sequences kept per domain on each of both sides; held-out text beyond them is not
            trained on.
        base: folder that relative paths start from.
        workers: domains prepared at once (threads; the tokenizer has threads of its own).
        chat_template: how the conversations of chat domains become text.

    Raises:
        CorpusError: if a value is out of range.
    """

    sequence_length: int
    heldout_fraction: float = 0.05
    heldout_max_sequences: int = 512
    base: Path = Path()
    workers: int = 2
    chat_template: ChatTemplate = field(default_factory=ChatTemplate.plain)

    def __post_init__(self) -> None:
        if self.sequence_length < 2:
            raise CorpusError("sequence_length must be >= 2 tokens", received=self.sequence_length)
        if not 0 < self.heldout_fraction < 1:
            raise CorpusError("heldout_fraction must lie in (0, 1)", received=self.heldout_fraction)
        if self.heldout_max_sequences < 1 or self.workers < 1:
            raise CorpusError(
                "heldout_max_sequences and workers must be >= 1", received=(self.heldout_max_sequences, self.workers)
            )


@dataclass(frozen=True)
class StoreProgress:
    """How far one domain is; total_bytes is None until it has been read once."""

    domain: str
    stage: Literal["reading", "tokenising", "packing", "done"]
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True)
class _Job:
    tokenizer: TextTokenizer
    folder: Path
    settings: StoreSettings
    progress: Callable[[StoreProgress], None]


def build_domains(
    sources: Sequence[TextSource],
    tokenizer: TextTokenizer,
    folder: Path,
    settings: StoreSettings,
    progress: Callable[[StoreProgress], None],
) -> list[dict[str, Any]]:
    """Make sure that every source is in the store; one entry each: folder name and meta, in order."""
    lock, stop = threading.Lock(), threading.Event()

    def report(event: StoreProgress) -> None:
        if stop.is_set():
            raise CorpusError(f"building of domain '{event.domain}' was stopped, because another one failed")
        with lock:
            progress(event)

    job = _Job(tokenizer, folder, settings, report)
    with ThreadPoolExecutor(settings.workers) as pool:
        try:
            surveys = _in_parallel(pool, [partial(_survey, source, job) for source in sources])
            pairs = zip(sources, surveys, strict=True)
            return _in_parallel(pool, [partial(_build_domain, source, found, job) for source, found in pairs])
        finally:
            stop.set()  # after a failure or an interrupt the threads still at work end at their next report


def _in_parallel(pool: ThreadPoolExecutor, calls: Sequence[Callable[[], Result]]) -> list[Result]:
    """Results of all calls in order; the first failure is raised at once and calls not yet begun are dropped."""
    futures = [pool.submit(call) for call in calls]
    done, waiting = wait(futures, return_when=FIRST_EXCEPTION)
    for future in waiting:
        future.cancel()
    failed = [future for future in futures if future in done and future.exception()]
    return [future.result() for future in failed or futures]


def _survey(source: TextSource, job: _Job) -> Survey:
    def read_so_far(n_bytes: int) -> None:
        job.progress(StoreProgress(source.name, "reading", n_bytes, None))

    found = survey(source, job.settings.base, job.folder / "surveys", read_so_far)
    job.progress(StoreProgress(source.name, "reading", found.n_bytes, found.n_bytes))
    return found


def _build_domain(source: TextSource, found: Survey, job: _Job) -> dict[str, Any]:
    name = f"{_slug(source.name)}-{_key(source, found, job)}"
    meta = job.folder / name / "meta.json"
    if stored(meta) is None:
        with new_folder(job.folder / name) as folder:
            write = _write_chats if source.is_chat else _write_sequences
            made = write(source, found, job, folder)
            write_record(folder / "meta.json", made, [path.name for path in folder.iterdir()])
    job.progress(StoreProgress(source.name, "done", found.n_bytes, found.n_bytes))
    return {"folder": name, **read_record(meta, "name", "train", "decision", "test")}


def _write_sequences(source: TextSource, found: Survey, job: _Job, folder: Path) -> dict[str, Any]:
    """Tokenise, split and pack one domain into `folder`; its meta."""
    dtype = _id_type(job)
    flat = folder / "flat.tokens"
    documents = tokenise(_documents(source, found, job), job.tokenizer, flat, dtype, _reporting(source, found, job))
    job.progress(StoreProgress(source.name, "packing", found.n_bytes, found.n_bytes))
    settings = job.settings
    length = settings.sequence_length
    sides = _sides(documents, documents.n_tokens, length, found, settings)
    splits: dict[str, dict[str, int]] = {
        split: _pack_split(documents, chosen, job, limit, folder / f"{split}.npy") for split, chosen, limit in sides
    }
    _check_sizes(source.name, splits, length)
    flat.unlink()
    pieces = piece_bytes(found.n_distinct, found.largest_bytes, found.n_bytes)
    return {**_meta(source, found, job), "piece_bytes": pieces, **splits}


def _write_chats(source: TextSource, found: Survey, job: _Job, folder: Path) -> dict[str, Any]:
    """Tokenise and split the conversations of one domain into rows in `folder`; its meta."""
    settings = job.settings
    shape = ChatShape(settings.sequence_length, job.tokenizer.end_id, _id_type(job))
    encoder = ChatEncoder(job.tokenizer, settings.chat_template)
    texts = serialised(source, settings.base)
    chats = tokenise_chats(source.name, texts, encoder, folder, shape, _reporting(source, found, job))
    job.progress(StoreProgress(source.name, "packing", found.n_bytes, found.n_bytes))
    rows = np.ones(len(chats.documents.keys), dtype=np.int64)
    splits: dict[str, dict[str, int]] = {
        split: _write_split(chats, chosen[:limit], shape, folder / f"{split}.npy")
        for split, chosen, limit in _sides(chats.documents, rows, 1, found, settings)
    }
    for split, counts in splits.items():
        if not counts["n_sequences"]:
            raise CorpusError(
                f"domain '{source.name}' must have at least one conversation in its {split} part, three different ones "
                "in all",
                received=f"{len(rows)} that fit a row, {chats.n_too_long} that are too long",
                hint="add conversations to this domain, or raise corpus.sequence_length",
            )
    for file in (chats.documents.file, chats.roles, chats.token_bytes):
        file.unlink()
    template = settings.chat_template.fingerprint
    return {**_meta(source, found, job), "chat_template": template, "n_too_long": chats.n_too_long, **splits}


def _sides(
    documents: TokenisedDocuments, sizes: npt.NDArray[np.int64], least: int, found: Survey, settings: StoreSettings
) -> Iterator[tuple[Split, npt.NDArray[np.int64], int | None]]:
    """Each split with positions of its documents in random order, and the most sequences that are kept of it.

    Args:
        sizes: what each document counts, shape (documents,): its tokens, or one row.
        least: what one sequence takes, in the same unit.
    """
    fraction = settings.heldout_fraction
    wanted = max(float(least), _LEAST_HELDOUT * fraction / 2 * float(sizes.sum()))
    rng = np.random.default_rng(int(found.fingerprint[:16], 16))
    for split, mask in split_masks(documents.keys, sizes, fraction, wanted).items():
        yield split, rng.permutation(np.flatnonzero(mask)), None if split == "train" else settings.heldout_max_sequences


def _write_split(
    chats: TokenisedChats, chosen: npt.NDArray[np.int64], shape: ChatShape, target: Path
) -> dict[str, int]:
    """Write one side; its counts, of what is written: n_tokens without padding."""
    if len(chosen):
        write_rows(chats, chosen, shape, target, with_bytes=target.stem != "train")
    return {
        "n_documents": len(chosen),
        "n_bytes": int(chats.documents.n_bytes[chosen].sum()),
        "n_tokens": int(chats.documents.n_tokens[chosen].sum()),
        "n_sequences": len(chosen),
    }


def _id_type(job: _Job) -> np.dtype[Any]:
    return np.dtype(np.uint16 if job.tokenizer.vocab_size <= 1 << 16 else np.uint32)


def _reporting(source: TextSource, found: Survey, job: _Job) -> Callable[[int], None]:
    return lambda n_bytes: job.progress(StoreProgress(source.name, "tokenising", n_bytes, found.n_bytes))


def _meta(source: TextSource, found: Survey, job: _Job) -> dict[str, Any]:
    """What the meta of text and of chat domains have in common."""
    return {
        "name": source.name,
        "fingerprint": found.fingerprint,
        "end_id": job.tokenizer.end_id,
        "end_token": job.tokenizer.backend.id_to_token(job.tokenizer.end_id),
        "vocab_size": job.tokenizer.vocab_size,
        "sequence_length": job.settings.sequence_length,
        "dtype": _id_type(job).name,
        "n_duplicates": found.n_documents - found.n_distinct,
    }


def _pack_split(
    documents: TokenisedDocuments, chosen: npt.NDArray[np.int64], job: _Job, limit: int | None, target: Path
) -> dict[str, int]:
    """Write one side and its counts; with a limit at most so many sequences, evenly spread over all of its documents,
    and beside them the bytes of each token."""
    length = job.settings.sequence_length
    n_tokens = int(documents.n_tokens[chosen].sum())
    n_all = n_tokens // length
    n_sequences = n_all if limit is None else min(n_all, limit)
    if n_all:
        pack(documents, chosen, (n_all, length), target)
        if limit is not None:
            beside = target.with_stem(f"{target.stem}_bytes")
            pack_bytes(documents, chosen, (n_all, length), job.tokenizer, beside)
            for file in (target, beside):
                _keep(file, spread(n_all, limit))
    return {
        "n_documents": len(chosen),
        "n_bytes": int(documents.n_bytes[chosen].sum()),
        "n_tokens": n_tokens,
        "n_sequences": n_sequences,
    }


def _keep(file: Path, rows: npt.NDArray[np.int64]) -> None:
    """Only these rows of an array in a file."""
    every = np.load(file, mmap_mode="r")
    if len(rows) < len(every):
        kept = every[rows]
        del every
        file.unlink()
        np.save(file, kept)


def _check_sizes(name: str, splits: dict[str, dict[str, int]], length: int) -> None:
    total = sum(counts["n_tokens"] for counts in splits.values())
    for split, counts in splits.items():
        if counts["n_sequences"] == 0:
            raise CorpusError(
                f"domain '{name}' must have at least one sequence of {length} tokens in its {split} part",
                received=f"{counts['n_tokens']} tokens ({total} in the whole domain)",
                hint="add text to this domain, join it with another, or shorten sequence_length",
            )


def _documents(source: TextSource, found: Survey, job: _Job) -> Iterator[str]:
    limit = piece_bytes(found.n_distinct, found.largest_bytes, found.n_bytes)
    for text in iterate(source, job.settings.base):
        if limit is None:
            yield text
        else:
            yield from cut(text, limit)


def _key(source: TextSource, found: Survey, job: _Job) -> str:
    settings = job.settings
    parts = [
        _VERSION,
        source.name,
        found.fingerprint,
        job.tokenizer.fingerprint,
        job.tokenizer.end_id,
        settings.sequence_length,
        settings.heldout_fraction,
        settings.heldout_max_sequences,
    ]
    if source.is_chat:
        parts += ["chat", _CHAT_VERSION, settings.chat_template.fingerprint]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40] or "domain"
