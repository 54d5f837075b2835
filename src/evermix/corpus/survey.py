"""Survey of a domain: one pass over its text that yields its content fingerprint and counts, kept beside the store.

The survey is keyed by what the file system says (paths, sizes, modification times) and the source's settings, so that a
second run need not read the text again. The fingerprint itself depends on the documents only: moving, renaming within
the same order, or compressing files changes nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from evermix.corpus.source import TextSource, serialised, source_files
from evermix.corpus.split import content_key
from evermix.files import read_record, write_json

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
    if kept.is_file():
        return Survey(**read_record(kept, *Survey.__dataclass_fields__))
    result = _read(source, base, report)
    write_json(kept, asdict(result))
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
    settings: dict[str, Any] = {**asdict(source), "name": None, "version": 1}
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
