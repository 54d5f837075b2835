"""Rows of a chat domain on disk: one conversation each, padded on the right, beside an array of roles."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.corpus.chat import PADDING, ChatEncoder, ChatRow
from evermix.corpus.conversation import Conversation
from evermix.corpus.packing import Integers, TokenisedDocuments, batches
from evermix.corpus.split import content_key
from evermix.errors import CorpusError

_MOST_TOO_LONG = 0.5
_WRITE_ROWS = 4096


@dataclass(frozen=True)
class TokenisedChats:
    """The conversations of a domain that fit a row.

    Attributes:
        documents: their tokens and counts; `n_bytes` counts contents.
        roles: flat file of uint8, beside the tokens.
        n_too_long: conversations left out.
    """

    documents: TokenisedDocuments
    roles: Path
    n_too_long: int


@dataclass(frozen=True)
class ChatShape:
    """What rows are made of: tokens per row, the padding, the type of the ids."""

    length: int
    end_id: int
    dtype: np.dtype[Any]


def tokenise_chats(
    domain: str,
    conversations: Iterable[str],
    encoder: ChatEncoder,
    folder: Path,
    shape: ChatShape,
    report: Callable[[int], None],
) -> TokenisedChats:
    """Write the tokens and roles of the `conversations` (canonical) that fit to flat files in `folder`.

    Raises:
        CorpusError: the template cannot render one, or more than half of them do not fit `shape.length`.
    """
    tokens, roles = folder / "flat.tokens", folder / "flat.roles"
    keys: list[int] = []
    n_bytes: list[int] = []
    n_tokens: list[int] = []
    lengths: list[int] = []
    done = 0
    with tokens.open("wb") as out, roles.open("wb") as beside:
        for batch in batches(conversations):
            read = [Conversation.from_canonical(text) for text in batch]
            for text, conversation, row in zip(batch, read, _encode(domain, read, encoder, len(lengths)), strict=True):
                lengths.append(len(row.ids))
                if len(row.ids) <= shape.length:
                    out.write(row.ids.astype(shape.dtype).tobytes())
                    beside.write(row.roles.tobytes())
                    keys.append(content_key(text))
                    n_tokens.append(len(row.ids))
                    n_bytes.append(conversation.n_bytes)
            done += sum(len(text.encode()) for text in batch)
            report(done)
    _check_lengths(domain, lengths, shape.length)
    documents = TokenisedDocuments(
        tokens, shape.dtype, np.array(keys, np.uint64), np.array(n_tokens, np.int64), np.array(n_bytes, np.int64)
    )
    return TokenisedChats(documents, roles, len(lengths) - len(keys))


def write_rows(chats: TokenisedChats, chosen: Integers, shape: ChatShape, target: Path) -> None:
    """Write the chosen conversations in this order: `target`, (rows, length) ids padded with the end token, and
    `roles_file(target)`, (rows, length) uint8."""
    documents = chats.documents
    starts = np.concatenate([[0], np.cumsum(documents.n_tokens)])
    tokens = np.memmap(documents.file, dtype=documents.dtype, mode="r")
    roles = np.memmap(chats.roles, dtype=np.uint8, mode="r")
    bounds = [(starts[i], starts[i + 1]) for i in chosen]
    _write(target, tokens, bounds, shape.length, shape.end_id)
    _write(roles_file(target), roles, bounds, shape.length, PADDING)


def roles_file(target: Path) -> Path:
    """Where the roles of the rows in `target` lie."""
    return target.with_name(f"{target.stem}_roles.npy")


def _write(file: Path, flat: npt.NDArray[Any], bounds: list[tuple[int, int]], length: int, padding: int) -> None:
    with file.open("wb") as out:
        header = {"descr": np.lib.format.dtype_to_descr(flat.dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(out, {**header, "shape": (len(bounds), length)})
        for first in range(0, len(bounds), _WRITE_ROWS):
            part = bounds[first : first + _WRITE_ROWS]
            rows = np.full((len(part), length), padding, dtype=flat.dtype)
            for row, (start, end) in zip(rows, part, strict=True):
                row[: end - start] = flat[start:end]
            out.write(rows.tobytes())
        out.flush()
        os.fsync(out.fileno())


def _encode(domain: str, batch: list[Conversation], encoder: ChatEncoder, before: int) -> list[ChatRow]:
    try:
        return encoder.encode(batch, before + 1)
    except CorpusError as error:
        raise CorpusError(f"domain '{domain}', {error.rule}", hint=error.hint) from None


def _check_lengths(domain: str, lengths: list[int], length: int) -> None:
    n_too_long = sum(n > length for n in lengths)
    if n_too_long > _MOST_TOO_LONG * len(lengths):
        raise CorpusError(
            f"domain '{domain}': at least half of the conversations must fit corpus.sequence_length = {length} tokens",
            received=f"{n_too_long} of {len(lengths)} longer ones, half of all up to {int(np.median(lengths))} tokens",
            hint=f"raise corpus.sequence_length, to {max(lengths)} for all of them",
        )
