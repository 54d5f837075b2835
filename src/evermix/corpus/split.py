"""Three-way split by content into train, decision and test: identical documents always land on the same side.

Text that decides never judges: mixtures are decided by decision text, and what comes of them is scored on test text. A
document's key is 64 bits of a hash of its text:

    u(text) = blake2b-64(salt, UTF-8 text) / 2^64 in [0, 1)       held out if u < fraction
    v(text) = the lower 32 bits of the same hash / 2^32           of what is held out: decision if v < 1/2, else test

in every domain alike, so that a text shared by two domains is on one side in both. Three rules serve small domains (and
are the only ones by which a text may be on one side in one domain and on another in another):

- *Too little held out.* While what is held out of a domain cannot be divided in the order of v so that decision and
  test have `wanted` tokens each, the documents with the next smallest u are held out too (with all their duplicates).
- *Too little on one side.* Where v < 1/2 gives decision or test fewer than `wanted` tokens, the documents whose v is
  next to the border join it: the smallest of test join decision, or the greatest of decision join test.
- *Few or giant documents.* A domain with fewer than 20 distinct documents, or one whose largest document is over a
  fifth of it, is first cut at line ends into pieces of about a fiftieth of the domain (512 to 16,384 bytes); each
  piece is then a document of its own. Pieces of one document may fall on all sides, but no piece does.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
Mask = npt.NDArray[np.bool_]
Side = Literal["decision", "test"]
"""Of held-out text: what decides, or what judges."""
Split = Literal["train", "decision", "test"]

_SALT = b"evermix-heldout"
_LOWER = np.uint64(2**32 - 1)
_MIN_DOCUMENTS = 20
_MAX_SHARE = 0.2
_PIECES = 50
_PIECE_BYTES = (512, 16384)


def content_key(text: str) -> int:
    """64-bit key of a document's text; equal texts have equal keys."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=_SALT).digest(), "big")


def split_masks(keys: Keys, n_tokens: npt.NDArray[np.int64], fraction: float, wanted: float) -> dict[Split, Mask]:
    """Which documents are on which side: one mask each, shape (documents,); every document is on one side.

    Args:
        keys: content keys, shape (documents,).
        n_tokens: tokens of each document, shape (documents,).
        fraction: share of documents to hold out, for decision and test together, in (0, 1).
        wanted: tokens, > 0, that decision and test must have at least each; where the domain has too few, all but one
            distinct document are held out, and divided as evenly as their order allows.
    """
    held = heldout_mask(keys, n_tokens, fraction, wanted)
    decision = np.zeros_like(held)
    decision[held] = decision_mask(keys[held], n_tokens[held], wanted)
    return {"train": ~held, "decision": decision, "test": held & ~decision}


def spread(n: int, most: int | None) -> npt.NDArray[np.int64]:
    """Positions of at most `most` of n sequences, evenly spread, in order; all of them when None.

    Sequences follow each other in documents: the first few are of one document, and like nothing else in their domain.
    """
    if most is None or most >= n:
        return np.arange(n)
    found: npt.NDArray[np.int64] = (2 * np.arange(most) + 1) * n // (2 * most)
    return found


def heldout_mask(keys: Keys, n_tokens: npt.NDArray[np.int64], fraction: float, wanted: float) -> Mask:
    """Which documents are held out, enough for both sides, shape (documents,); arguments as of `split_masks`."""
    distinct, inverse, tokens = _distinct(keys, n_tokens)
    order = _by_second_key(distinct)
    most = max(len(distinct) - 1, 0)

    def is_enough(n_held: int) -> bool:
        least, greatest = _borders(tokens[order[order < n_held]], wanted)
        return least <= greatest

    limit = np.uint64(int(fraction * 2**64))
    n_held = min(int(np.searchsorted(distinct, limit, side="left")), most)
    if not is_enough(n_held):
        n_held = bisect_left(range(most), True, lo=n_held, key=is_enough)
    mask: Mask = inverse < n_held
    return mask


def decision_mask(keys: Keys, n_tokens: npt.NDArray[np.int64], wanted: float) -> Mask:
    """Which of the held-out documents decide, shape (documents,); the others are test text.

    Args:
        keys, n_tokens: of the held-out documents, shape (documents,).
        wanted: as of `split_masks`.
    """
    distinct, inverse, tokens = _distinct(keys, n_tokens)
    order = _by_second_key(distinct)
    least, greatest = _borders(tokens[order], wanted)
    if least > greatest:
        least = greatest = _most_even(tokens[order])
    n_half = int(np.searchsorted(distinct[order] & _LOWER, np.uint64(2**31), side="left"))
    place = np.empty(len(distinct), dtype=np.int64)
    place[order] = np.arange(len(distinct))
    mask: Mask = place[inverse] < min(max(n_half, least), greatest)
    return mask


def _distinct(
    keys: Keys, n_tokens: npt.NDArray[np.int64]
) -> tuple[Keys, npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Distinct keys in order, (distinct,); the position of each document's, (documents,); their tokens, (distinct,)."""
    distinct, inverse = np.unique(keys, return_inverse=True)
    return distinct, inverse, np.bincount(inverse, weights=n_tokens, minlength=len(distinct)).astype(np.float64)


def _by_second_key(distinct: Keys) -> npt.NDArray[np.int64]:
    """Positions in the order of v, ties in that of u, shape (distinct,)."""
    return np.argsort(distinct & _LOWER, kind="stable")


def _borders(tokens: npt.NDArray[np.float64], wanted: float) -> tuple[int, int]:
    """The least and the greatest number of documents, the first ones, that may decide: on either side of them are
    `wanted` tokens. There is no such number where the first is over the second."""
    needed = (int(np.searchsorted(np.cumsum(t), wanted, side="left")) + 1 for t in (tokens, tokens[::-1]))
    least, of_test = needed
    return least, len(tokens) - of_test


def _most_even(tokens: npt.NDArray[np.float64]) -> int:
    """Of how many documents, the first ones, the tokens are nearest to those of the others; one of one."""
    if not len(tokens):
        return 0
    before = np.cumsum(tokens)
    return int(np.argmax(np.minimum(before, before[-1] - before))) + 1


def piece_bytes(n_distinct: int, largest_bytes: int, n_bytes: int) -> int | None:
    """Bytes of the pieces that a domain's documents are cut into, or None if they stay whole (see the module)."""
    if n_distinct >= _MIN_DOCUMENTS and largest_bytes <= _MAX_SHARE * n_bytes:
        return None
    low, high = _PIECE_BYTES
    return min(max(n_bytes // _PIECES, low), high)


def cut(text: str, limit_bytes: int) -> Iterator[str]:
    """Pieces of `text` of at most `limit_bytes`, cut after a newline where there is one; joined they are `text`."""
    raw = text.encode()
    start = 0
    while len(raw) - start > limit_bytes:
        end = raw.rfind(b"\n", start, start + limit_bytes) + 1
        if end <= start:
            end = start + limit_bytes
            while end > start + 1 and raw[end] & 0xC0 == 0x80:  # never inside a character
                end -= 1
        yield raw[start:end].decode()
        start = end
    if start < len(raw):
        yield raw[start:].decode()
