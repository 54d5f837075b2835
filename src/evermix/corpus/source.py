"""TextSource: where the text of one domain comes from, the iteration over its documents, and its survey.

A survey is one pass over the text that yields its content fingerprint and counts, kept beside the store. It is keyed by
what the file system says (paths, sizes, modification times) and the source's settings, so that a second run need not
read the text again. The fingerprint itself depends on the documents only: moving, renaming within the same order, or
compressing files changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from evermix.corpus.chat_records import normal_record
from evermix.corpus.conversation import Conversation
from evermix.corpus.patterns import find_files
from evermix.corpus.readers import Documents, read_dataset, read_documents, read_objects, read_rows
from evermix.corpus.split import content_key
from evermix.errors import CorpusError
from evermix.files import stored, write_record
from evermix.wording import without_secrets


@dataclass(frozen=True)
class TextSource:
    """The text of one domain: files or one HuggingFace dataset.

    Attributes:
        name: the domain's name.
        files: paths or globs (`**` crosses folders), relative to the caller's base folder; `!pattern` leaves files out;
            each file counts once (see `patterns`).
        dataset: arguments of `datasets.load_dataset`, instead of files.
        text_field: field or column of the text in JSONL, Parquet and datasets.
        format: how files are read; "auto" goes by file name; "chat" is records of conversations (see `chat_records`).
        documents: what one document is in plain text.
        max_bytes: take documents in order until their UTF-8 bytes reach this (the last one is cut, but a conversation
            is kept whole), or None for all.

    Raises:
        CorpusError: unless exactly one of files and dataset is given and max_bytes > 0.
    """

    name: str
    files: tuple[str, ...] = ()
    dataset: Mapping[str, Any] | None = field(default=None, repr=False)
    text_field: str = "text"
    format: Literal["auto", "jsonl", "parquet", "text", "chat"] = "auto"
    documents: Documents = "file"
    max_bytes: int | None = None

    def __post_init__(self) -> None:
        if bool(self.files) == (self.dataset is not None):
            raise CorpusError(f"domain '{self.name}' must have either files or a dataset", received=self.files)
        if self.max_bytes is not None and self.max_bytes <= 0:
            raise CorpusError(f"domain '{self.name}' must have max_bytes > 0", received=self.max_bytes)

    @property
    def is_chat(self) -> bool:
        """Whether its documents are conversations, of which only the answers are learnt."""
        return self.format == "chat"


def iterate(source: TextSource, base: Path) -> Iterator[str]:
    """Text of the documents of `source` in order, blank ones left out; paths are relative to the folder `base`.

    Raises:
        CorpusError: a file is missing, empty, damaged, not UTF-8 or without the text field, or there is no text at all.
    """
    if source.is_chat:
        yield from (conversation.text for conversation in conversations(source, base))
    else:
        yield from _text_documents(source, base)


def conversations(source: TextSource, base: Path) -> Iterator[Conversation]:
    """Conversations of a chat source in order.

    Raises:
        CorpusError: a file cannot be read, a record is no conversation (names file, line and field), or there is none.
    """
    left = source.max_bytes
    found = False
    for place, record in _records(source, base):
        conversation = Conversation.from_record(normal_record(record, place), place)
        found = True
        yield conversation
        if left is not None:
            left -= conversation.n_bytes
            if left <= 0:
                return
    if not found:
        raise CorpusError(f"domain '{source.name}' must hold at least one conversation", hint="check `files`")


def serialised(source: TextSource, base: Path) -> Iterator[str]:
    """Documents of `source` as strings that tell them apart: the text, or the conversation in its canonical spelling.

    Raises:
        CorpusError: as `iterate`.
    """
    if source.is_chat:
        yield from (conversation.canonical for conversation in conversations(source, base))
    else:
        yield from _text_documents(source, base)


def _text_documents(source: TextSource, base: Path) -> Iterator[str]:
    left = source.max_bytes
    found = False
    for text in _documents(source, base):
        if not text.strip():
            continue
        found = True
        if left is None:
            yield text
            continue
        n_bytes = len(text.encode())
        yield text if n_bytes <= left else text.encode()[:left].decode("utf-8", errors="ignore")
        left -= n_bytes
        if left <= 0:
            return
    if not found:
        raise CorpusError(f"domain '{source.name}' must hold some text, but all of it is blank", hint="check `files`")


def source_files(source: TextSource, base: Path) -> tuple[Path, ...]:
    """The files of `source`, sorted within each pattern, each once.

    Raises:
        CorpusError: as `find_files`.
    """
    return find_files(source.name, source.files, base).files


def _documents(source: TextSource, base: Path) -> Iterator[str]:
    if source.dataset is not None:
        yield from read_dataset(source.dataset, source.text_field)
        return
    for path in source_files(source, base):
        if path.stat().st_size and source.format != "chat":
            yield from read_documents(path, source.format, source.text_field, source.documents)


def _records(source: TextSource, base: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    if source.dataset is not None:
        yield from read_rows(source.dataset)
        return
    for path in source_files(source, base):
        if path.stat().st_size:
            yield from read_objects(path)


# ---- survey

_REPORT_BYTES = 1 << 22


@dataclass(frozen=True)
class Survey:
    """What one pass over a domain's documents finds.

    Attributes:
        fingerprint: hash of all documents in order.
        n_documents: documents, exact duplicates included.
        n_distinct: distinct documents.
        n_bytes: UTF-8 bytes of all documents, conversations in their canonical spelling.
        largest_bytes: UTF-8 bytes of the largest document.
    """

    fingerprint: str
    n_documents: int
    n_distinct: int
    n_bytes: int
    largest_bytes: int


def survey(source: TextSource, base: Path, cache: Path, report: Callable[[int], None]) -> Survey:
    """Survey of `source`, from the folder `cache` if its files have not changed.

    Args:
        source: the domain's text.
        base: folder that paths are relative to.
        cache: folder of kept surveys.
        report: called now and then with the UTF-8 bytes read so far.

    Raises:
        CorpusError: as `source.serialised`.
    """
    kept = cache / f"{_signature(source, base)}.json"
    record = stored(kept, *Survey.__dataclass_fields__)
    if record is not None:
        return Survey(**record)
    result = _read(source, base, report)
    write_record(kept, asdict(result))
    return result


def _read(source: TextSource, base: Path, report: Callable[[int], None]) -> Survey:
    content = hashlib.blake2b(digest_size=16)
    keys: set[int] = set()
    n_documents = n_bytes = largest = reported = 0
    if source.is_chat:
        content.update(b"chat")  # no text domain has the fingerprint of a chat domain
    for text in serialised(source, base):
        raw = text.encode()
        content.update(len(raw).to_bytes(8, "big") + raw)
        keys.add(content_key(text))
        n_documents += 1
        n_bytes += len(raw)
        largest = max(largest, len(raw))
        if n_bytes - reported >= _REPORT_BYTES:
            reported = n_bytes
            report(n_bytes)
    return Survey(content.hexdigest(), n_documents, len(keys), n_bytes, largest)


def _signature(source: TextSource, base: Path) -> str:
    """Hash of how the source is read and the state of its files; a hub dataset counts as its arguments."""
    settings: dict[str, Any] = without_secrets({**asdict(source), "name": None, "version": 2})
    files = source_files(source, base) if source.files else _local_files(source.dataset, base)
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    text = json.dumps([settings, stats], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _local_files(value: object, base: Path) -> list[Path]:
    """Files on this disk that a dataset's arguments name."""
    if isinstance(value, str):
        return [p for p in (Path(value), base / value) if p.is_file()]
    parts = list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    return [file for part in parts for file in _local_files(part, base)]
