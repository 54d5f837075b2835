"""From raw text to documents: clean UTF-8, no exact duplicates, in an order in which any prefix is a sample."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

LONGEST_DOCUMENT = 8_000  # characters; longer ones are cut at blank lines, so that held-out splits are not lumpy
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufeff\ufffe\uffff\ud800-\udfff]")
_TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
_BLANK_RUN = re.compile(r"\n{4,}")


def clean(text: str) -> str:
    """NFC text with \\n line ends, without control characters, trailing blanks or long runs of blank lines."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _TRAILING.sub("", _CONTROL.sub("", text))
    return _BLANK_RUN.sub("\n\n\n", text).strip("\n")


def split_long(text: str, longest: int = LONGEST_DOCUMENT) -> Iterator[str]:
    """Cuts text of more than `longest` characters after blank lines, or after lines where there is none in reach."""
    while len(text) > longest:
        cut = text.rfind("\n\n", longest // 2, longest)
        if cut < 0:
            cut = text.rfind("\n", longest // 2, longest)
        cut = longest if cut < 0 else cut
        yield text[:cut]
        text = text[cut:].lstrip("\n")
    yield text


def tidy_documents(documents: Iterable[str]) -> list[str]:
    """Cleans, cuts, drops empty texts and exact duplicates, and orders by content hash.

    The order is independent of file systems and mixes a source's parts, so a corpus that is cut to its first bytes is
    a sample of the whole.
    """
    kept: dict[bytes, str] = {}
    for document in documents:
        for part in split_long(clean(document)):
            if part.strip():
                kept.setdefault(hashlib.sha256(part.encode()).digest(), part)
    return [kept[digest] for digest in sorted(kept)]


def grouped(items: Iterable[str], size: int, separator: str = "\n") -> Iterator[str]:
    """Joins each `size` consecutive items into one document."""
    iterator = iter(items)
    while group := list(islice(iterator, size)):
        yield separator.join(group)


def text_files(root: Path, suffixes: Iterable[str]) -> Iterator[tuple[Path, str]]:
    """UTF-8 files under `root` with one of the suffixes, sorted; symbolic links and other encodings are skipped."""
    wanted = set(suffixes)
    for path in sorted(root.rglob("*")):
        if path.suffix in wanted and path.is_file() and not path.is_symlink():
            try:
                yield path, path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
