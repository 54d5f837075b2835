"""Questions with one right answer, made of corpora of pairs: conversations for `format: chat`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path

Question = dict[str, str]


def spelling(source: Path) -> Iterator[Question]:
    """Misspellings that have one correction only."""
    return _asked(source, "Correct the spelling: {}", lambda right: "," not in right)


def pronunciation(source: Path) -> Iterator[Question]:
    """Words and their phonemes in the alphabet of the CMU dictionary."""
    return _asked(source, "Pronounce: {}", lambda right: True)


def translation(source: Path) -> Iterator[Question]:
    """German words and short phrases in English."""
    return _asked(source, "Translate to English: {}", lambda right: True)


def _asked(source: Path, prompt: str, is_kept: Callable[[str], bool]) -> Iterator[Question]:
    """One question per `key: value` line of a prepared corpus, the first of each key, in an order by hash."""
    found: dict[str, str] = {}
    with source.open(encoding="utf-8") as file:
        for document in file:
            for line in json.loads(document)["text"].splitlines():
                key, _, value = line.partition(": ")
                if key and value and is_kept(value):
                    found.setdefault(key, value)
    for key in sorted(found, key=lambda key: hashlib.sha256(key.encode()).digest()):
        yield {"prompt": prompt.format(key), "answer": found[key]}
