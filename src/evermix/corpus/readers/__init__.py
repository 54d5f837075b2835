"""One reader per file format; each yields a file's documents as text."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from evermix.corpus.readers.bytestream import COMPRESSED
from evermix.corpus.readers.jsonl import read_jsonl
from evermix.corpus.readers.parquet import read_parquet
from evermix.corpus.readers.plain import Documents, read_plain

Format = Literal["jsonl", "parquet", "text"]
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_of(path: Path) -> Format:
    """Format by file name, below a .gz or .zst ending; anything unknown is plain text."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1], "text") if suffixes else "text"


def read_documents(path: Path, file_format: Format, text_field: str, documents: Documents) -> Iterator[str]:
    """Documents of one file in order.

    Raises:
        CorpusError: the file is damaged, not UTF-8, or lacks the text field; names file and line, row or byte.
    """
    if file_format == "jsonl":
        return read_jsonl(path, text_field)
    if file_format == "parquet":
        return read_parquet(path, text_field)
    return read_plain(path, documents)
