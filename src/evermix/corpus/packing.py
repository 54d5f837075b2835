"""Tokenise a domain's documents and pack them into sequences on disk.

Documents go through the tokenizer in order into one flat file; then they are split by content (split.py), each side
is shuffled, joined with an end token after each document, and cut into sequences. The tail shorter than a sequence is
dropped. Files are written sequentially (no writable memory map: on a full disk that would kill the process).
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from evermix.corpus.split import content_key
from evermix.corpus.tokenizer import Integers, TextTokenizer
from evermix.errors import CorpusError

_BATCH_BYTES = 1 << 20
_BATCH_DOCUMENTS = 1024
_WRITE_TOKENS = 1 << 20
_HEADER_BYTES = 128  # numpy pads every header of a two-dimensional integer array to this
_REBUILD = "delete its folder and build the store again"

BYTES = np.dtype(np.uint32)  # of the files that say how many bytes each token stands for


@dataclass(frozen=True)
class TokenisedDocuments:
    """Documents in one flat file of token ids, each followed by the end token.

    Attributes:
        file: the flat file.
        dtype: of the ids in it, uint16 or uint32.
        keys: content keys, shape (documents,).
        n_tokens: tokens of each document with its end token, shape (documents,).
        n_bytes: UTF-8 bytes of each document, shape (documents,).
    """

    file: Path
    dtype: np.dtype[Any]
    keys: npt.NDArray[np.uint64]
    n_tokens: Integers
    n_bytes: Integers


def tokenise(
    documents: Iterable[str], tokenizer: TextTokenizer, file: Path, dtype: np.dtype[Any], report: Callable[[int], None]
) -> TokenisedDocuments:
    """Write the tokens of `documents` to `file`; `report` gets the UTF-8 bytes done after each batch."""
    keys: list[int] = []
    n_tokens: list[int] = []
    n_bytes: list[int] = []
    done = 0
    with file.open("wb") as out:
        for batch in batches(documents):
            for text, ids in zip(batch, tokenizer.encode_batch(batch), strict=True):
                ids.append(tokenizer.end_id)
                out.write(np.array(ids, dtype=dtype).tobytes())
                keys.append(content_key(text))
                n_tokens.append(len(ids))
                n_bytes.append(len(text.encode()))
            done += sum(n_bytes[-len(batch) :])
            report(done)
    return TokenisedDocuments(
        file, dtype, np.array(keys, np.uint64), np.array(n_tokens, np.int64), np.array(n_bytes, np.int64)
    )


def pack(documents: TokenisedDocuments, chosen: Integers, shape: tuple[int, int], target: Path) -> None:
    """Write documents in the order `chosen` as one .npy array.

    Args:
        documents: the flat tokens.
        chosen: positions of documents in packing order, shape (chosen,).
        shape: (sequences, sequence length); together at most the tokens of the chosen documents.
        target: the .npy file.
    """
    _write_pieces((ids for _, ids in _tokens_of(documents, chosen)), documents.dtype, shape, target)


def pack_bytes(
    documents: TokenisedDocuments, chosen: Integers, shape: tuple[int, int], tokenizer: TextTokenizer, target: Path
) -> None:
    """Write the bytes that each token of `pack` stands for, in the same places; the tokens of a whole document sum to
    its bytes."""
    shares = (tokenizer.bytes_of(ids, int(documents.n_bytes[i])) for i, ids in _tokens_of(documents, chosen))
    _write_pieces((each.astype(BYTES) for each in shares), BYTES, shape, target)


def _tokens_of(documents: TokenisedDocuments, chosen: Integers) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """(position, its tokens) of each document, in the order `chosen`."""
    starts = np.concatenate([[0], np.cumsum(documents.n_tokens)])
    flat = np.memmap(documents.file, dtype=documents.dtype, mode="r")
    for i in chosen.tolist():
        yield i, flat[starts[i] : starts[i + 1]]


def _write_pieces(
    pieces: Iterable[npt.NDArray[Any]], dtype: np.dtype[Any], shape: tuple[int, int], target: Path
) -> None:
    """The pieces one after the other as one .npy array; what goes beyond `shape` is dropped."""
    left = shape[0] * shape[1]
    with target.open("wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(out, header)
        pending: list[npt.NDArray[Any]] = []
        held = 0
        for whole in pieces:
            piece = whole[: left - held]
            pending.append(piece)
            held += len(piece)
            if held >= min(left, _WRITE_TOKENS):
                left -= held
                held = _flush(out, pending)
            if left == 0:
                break
        out.flush()
        os.fsync(out.fileno())


def map_sequences(file: Path, dtype: np.dtype[Any], shape: tuple[int, int]) -> npt.NDArray[Any]:
    """A packed .npy file as a read-only memory map, shape (sequences, sequence length).

    The header is not parsed: with thousands of domains maps are opened in mid-training; numpy takes ten times longer.

    Raises:
        CorpusError: if the file is gone or not of the size that `shape` implies.
    """
    n_bytes = shape[0] * shape[1] * dtype.itemsize
    try:
        with file.open("rb") as opened:
            header = os.fstat(opened.fileno()).st_size - n_bytes
            if header != _HEADER_BYTES:
                raise CorpusError("a part of the token store is damaged", received=str(file), hint=_REBUILD)
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        raise CorpusError("a part of the token store is gone", received=str(file), hint=_REBUILD) from None
    return np.frombuffer(mapped, dtype=dtype, offset=header).reshape(shape)


def _flush(out: BinaryIO, pending: list[npt.NDArray[Any]]) -> int:
    """Write and empty `pending`; 0, the tokens then held."""
    out.write(np.concatenate(pending).tobytes())
    pending.clear()
    return 0


def batches(documents: Iterable[str]) -> Iterator[list[str]]:
    """Documents in order, in lists of about 1 MiB and at most 1,024."""
    batch: list[str] = []
    size = 0
    for text in documents:
        batch.append(text)
        size += len(text)
        if size >= _BATCH_BYTES or len(batch) >= _BATCH_DOCUMENTS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
