"""Made corpora: junk (random hex and base64 lines) and a near duplicate of a real corpus. All deterministic."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import textwrap
from collections.abc import Iterator
from pathlib import Path

from evermix.corpus.registry.documents import grouped

LINES_PER_DOCUMENT = 32
HEX_LINES = 48_000  # 65 bytes each: 3.1 MB
BASE64_LINES = 40_000  # 77 bytes each: 3.1 MB
DROPPED, RECASED = 0.03, 0.02  # shares of words touched in a reprint


def hex_noise(_root: Path) -> Iterator[str]:
    """Lines of 64 random hexadecimal digits: 4 bits of entropy per byte, nothing to learn beyond the alphabet."""
    yield from grouped((_digest("hex", i).hex() for i in range(HEX_LINES)), LINES_PER_DOCUMENT)


def base64_noise(_root: Path) -> Iterator[str]:
    """Lines of 76 random base64 characters, as in mail attachments."""
    yield from grouped((_base64_line(i) for i in range(BASE64_LINES)), LINES_PER_DOCUMENT)


def reprint(source: Path) -> Iterator[str]:
    """Every document of a prepared corpus, in its order, re-set to other line lengths with a few words lost or recased.

    A near duplicate that exact deduplication misses.
    """
    with source.open(encoding="utf-8") as file:
        for line in file:
            yield corrupted(json.loads(line)["text"])


def corrupted(text: str) -> str:
    """One document's reprint; depends on the text alone."""
    rng = random.Random(hashlib.sha256(text.encode()).digest())
    width = rng.randrange(56, 92)
    paragraphs = []
    for paragraph in text.split("\n\n"):
        words = [_recased(word, rng) for word in paragraph.split() if rng.random() >= DROPPED]
        paragraphs.append(textwrap.fill(" ".join(words), width, break_long_words=False, break_on_hyphens=False))
    return "\n\n".join(paragraphs)


def _recased(word: str, rng: random.Random) -> str:
    return word.swapcase() if rng.random() < RECASED else word


def _base64_line(i: int) -> str:
    data = _digest("base64", 2 * i) + _digest("base64", 2 * i + 1)
    return base64.b64encode(data[:57]).decode()


def _digest(name: str, i: int) -> bytes:
    return hashlib.sha256(f"evermix {name} noise {i}".encode()).digest()
