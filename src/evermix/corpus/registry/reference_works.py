"""Extractors of Debian's reference texts: manual pages, HTML books, WordNet, FOLDOC, Metamath."""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from evermix.corpus.registry.documents import grouped, text_files
from evermix.corpus.registry.markup import html_text, roff_text

_LONGEST_GROUP = 4000  # characters of a group of Metamath statements
_PROOF = re.compile(r"\$=.*?\$\.", re.DOTALL)
_METAMATH_PARAGRAPH = re.compile(r"\n\s*\n")
_INDEX_PAGES = re.compile(r"^(?:bookindex|genindex.*|index|contents|search|py-modindex|changelog)\.html$")


def manual_pages(root: Path) -> Iterator[str]:
    """Each man page as plain text; symbolic links, redirections and mdoc pages are skipped."""
    for path in sorted(root.glob("usr/share/man/**/*.gz")):
        if path.is_file() and not path.is_symlink():
            try:
                page = gzip.decompress(path.read_bytes()).decode("utf-8")
            except UnicodeDecodeError:
                continue
            yield roff_text(page)


def html_book(root: Path) -> Iterator[str]:
    """Each HTML page under the package's documentation as plain text; indexes are skipped."""
    for path, page in text_files(root / "usr/share/doc", (".html",)):
        if not _INDEX_PAGES.match(path.name):
            yield html_text(page)


def wordnet(root: Path) -> Iterator[str]:
    """WordNet synsets as `word, word: gloss` lines."""
    for path in sorted(root.glob("usr/share/wordnet/data.*")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from grouped((_synset(line) for line in lines if not line.startswith("  ") and " | " in line), 25)


def foldoc(root: Path) -> Iterator[str]:
    """Entries of the computing dictionary: head words in column 0, indented body; link braces are dropped."""
    packed = (root / "usr/share/dictd/foldoc.dict.dz").read_bytes()
    yield from grouped(_foldoc_entries(gzip.decompress(packed).decode("utf-8").splitlines()), 6, "\n\n")


def metamath(root: Path) -> Iterator[str]:
    """Comments and statements of set.mm, proofs stripped, grouped to some 4,000 characters."""
    source = (root / "usr/share/metamath/databases/set.mm").read_text(encoding="utf-8")
    group: list[str] = []
    for paragraph in _METAMATH_PARAGRAPH.split(_PROOF.sub("$.", source)):
        group.append(paragraph)
        if sum(map(len, group)) >= _LONGEST_GROUP:
            yield "\n\n".join(group)
            group = []
    yield "\n\n".join(group)


def _synset(line: str) -> str:
    """`offset file type n_words (word id)* ... | gloss`, the word count in hexadecimal."""
    data, gloss = line.split(" | ", 1)
    fields = data.split()
    words = [fields[4 + 2 * i].replace("_", " ") for i in range(int(fields[3], 16))]
    return f"{', '.join(words)}: {gloss.strip()}"


def _foldoc_entries(lines: Iterable[str]) -> Iterator[str]:
    heads: list[str] = []
    body: list[str] = []
    for line in [*lines, "end"]:
        if line and not line[0].isspace() and not line.startswith("{"):
            if body:
                if not heads[0].startswith("00-"):
                    yield re.sub(r"[{}]", "", f"{', '.join(heads)}:\n" + "\n".join(body).strip("\n"))
                heads, body = [], []
            heads.append(line.strip())
        elif heads and (line.strip() or body):
            body.append(line.removeprefix("   "))
