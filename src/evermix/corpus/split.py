"""Held-out split by content: identical documents always land on the same side.

A document's key is u(text) = blake2b-64(salt, UTF-8 text) / 2^64 in [0, 1). Documents with u < fraction are held out,
in every domain alike, so that a text shared by two domains is on one side in both. Two rules serve small domains (and
are the only ones by which a text may be held out in one domain and trained on in another):

- *Too little held out.* While the held-out documents of a domain hold fewer than `wanted` tokens, the documents with
  the next smallest keys join them (with all their duplicates).
- *Few or giant documents.* A domain with fewer than 20 distinct documents, or one whose largest document is over a
  fifth of it, is first cut at line ends into pieces of about a fiftieth of the domain (512 to 16,384 bytes); each
  piece is then a document of its own. Pieces of one document may fall on both sides, but no piece does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]
_SALT = b"evermix-heldout"
_MIN_DOCUMENTS = 20
_MAX_SHARE = 0.2
_PIECES = 50
_PIECE_BYTES = (512, 16384)


def content_key(text: str) -> int:
    """64-bit key of a document's text; equal texts have equal keys."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8, key=_SALT).digest(), "big")


def heldout_mask(keys: Keys, n_tokens: npt.NDArray[np.int64], fraction: float, wanted: float) -> npt.NDArray[np.bool_]:
    """Which documents are held out, shape (documents,).

    Args:
        keys: content keys, shape (documents,).
        n_tokens: tokens of each document, shape (documents,).
        fraction: share of documents to hold out, in (0, 1).
        wanted: tokens that the held-out side must have at least, if the domain has two distinct documents.
    """
    limit = np.uint64(int(fraction * 2**64))
    distinct, inverse = np.unique(keys, return_inverse=True)
    held = np.cumsum(np.bincount(inverse, weights=n_tokens, minlength=len(distinct)))
    by_fraction = int(np.searchsorted(distinct, limit, side="left"))
    by_tokens = int(np.searchsorted(held, wanted, side="left")) + 1
    n_held = min(max(by_fraction, by_tokens), max(len(distinct) - 1, 0))
    mask: npt.NDArray[np.bool_] = inverse < n_held
    return mask


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
