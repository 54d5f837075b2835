"""Plain text: a file, a paragraph (ended by a blank line) or a line is one document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from evermix.corpus.readers.bytestream import decode, read_blocks, read_lines

Documents = Literal["file", "paragraph", "line"]


def read_plain(path: Path, documents: Documents) -> Iterator[str]:
    """Documents of a text file in order."""
    if documents == "file":
        yield decode(path, b"".join(read_blocks(path)))
    elif documents == "line":
        yield from (line for line in _lines(path) if line.strip())
    else:
        yield from _paragraphs(path)


def _lines(path: Path) -> Iterator[str]:
    return (decode(path, raw, offset).removesuffix("\r") for _, offset, raw in read_lines(path))


def _paragraphs(path: Path) -> Iterator[str]:
    paragraph: list[str] = []
    for line in _lines(path):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)
