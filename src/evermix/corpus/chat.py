"""Chat rows: conversations as token ids with the role of each token: read, or learnt.

Learnt are the answers, with all that the template writes for them, and the token that ends each. What a template
writes is encoded with its special tokens recognised; contents and tool calls are data, in which the spelling of a
special token is ordinary text. Texts are cut where an answer begins and where it ends, so that a prompt has the same
tokens in training as it has when the model is asked.

Exact for byte-level BPE. A tokenizer that puts a blank before every text does so at every cut.

On disk a row is one conversation, padded on the right, beside an array of roles.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.corpus.chat_template import PRIVATE_USE, ChatTemplate, Span
from evermix.corpus.conversation import Conversation, Messages
from evermix.corpus.packing import BYTES, TokenisedDocuments, batches
from evermix.corpus.split import content_key
from evermix.corpus.tokenizer import Integers, TextTokenizer
from evermix.errors import CorpusError

PADDING, CONTEXT, TARGET = 0, 1, 2


@dataclass(frozen=True)
class ChatRow:
    """One conversation up to its last learnt token.

    Attributes:
        ids: token ids, shape (tokens,).
        roles: CONTEXT or TARGET for each, shape (tokens,).
        n_bytes: UTF-8 bytes that each stands for, shape (tokens,); special tokens of the template have none. Those of
            an answer sum to its own.
    """

    ids: Integers
    roles: npt.NDArray[np.uint8]
    n_bytes: Integers


@dataclass(frozen=True)
class _Piece:
    """A text to encode, or the id of a special token, and its role."""

    content: str | int
    role: int


@dataclass(frozen=True)
class ChatEncoder:
    """Encodes conversations by one template and one tokenizer."""

    tokenizer: TextTokenizer
    template: ChatTemplate

    def encode(self, conversations: Sequence[Conversation], first: int = 1) -> list[ChatRow]:
        """One row per conversation.

        Raises:
            CorpusError: if the template cannot render one; names its number, counted from `first`.
        """
        pieces = []
        for k, conversation in enumerate(conversations, first):
            messages, tools = conversation.messages, conversation.tool_schemas
            try:
                pieces.append(self._up_to_the_last_learnt(self._pieces(messages, tools, conversation.unlearnt)))
            except CorpusError as error:
                raise CorpusError(f"conversation {k}: {error.rule}", received=error.received, hint=error.hint) from None
        return self._encoded(pieces)

    def prompt(self, messages: Messages, tools: Messages = ()) -> list[int]:
        """Ids of `messages` up to where the next answer begins, as `encode` has them before an answer.

        Raises:
            CorpusError: if the template cannot render the messages.
        """
        pieces = self._pieces(messages, tools, range(len(messages)), generate=True)
        return [int(i) for i in self._encoded([pieces])[0].ids]

    @cached_property
    def _special(self) -> tuple[re.Pattern[str], dict[str, int]]:
        """Pattern of the special tokens, the longest first, with the blanks that they swallow; ids by text."""
        added = [(i, t) for i, t in self.tokenizer.backend.get_added_tokens_decoder().items() if t.special]
        added.sort(key=lambda entry: -len(entry[1].content))
        blanks = (r"", r"\s*")
        patterns = [blanks[t.lstrip] + re.escape(t.content) + blanks[t.rstrip] for _, t in added]
        return re.compile(f"({'|'.join(patterns) or '(?!)'})"), {t.content: i for i, t in added}

    def _pieces(
        self, messages: Messages, tools: Messages, unlearnt: Collection[int], generate: bool = False
    ) -> list[_Piece]:
        """Pieces in order; a last answer that the template leaves without an end token gets one, unless `generate`.

        Special tokens that contents spell are exchanged for marks while the template is rendered. Where that would
        change what it writes (it looks for them in contents), they are taken for its own, as transformers does.
        """
        spelled = self._spelled(messages, tools)
        back = {mark: token for token, mark in spelled.items()}
        spans = self.template.spans(_exchanged(messages, spelled), _exchanged(tools, spelled), unlearnt, generate)
        if spelled:
            written = _exchanged("".join(span.text for span in spans), back)
            if written != self.template.render(messages, generate, tools):
                spans, back = self.template.spans(messages, tools, unlearnt, generate), {}
        return [
            piece if isinstance(piece.content, int) else _Piece(_exchanged(piece.content, back), piece.role)
            for piece in self._joined(spans, generate)
        ]

    def _joined(self, spans: Iterable[Span], generate: bool) -> list[_Piece]:
        """Pieces of the spans: what is read is one piece up to the next special token or answer."""
        pieces: list[_Piece] = []
        read: list[str] = []
        is_open = False  # a learnt answer whose end token has not come yet

        def flush() -> None:
            pieces.append(_Piece("".join(read), CONTEXT))
            read.clear()

        def take(parts: Sequence[str]) -> None:
            for k, part in enumerate(parts):
                if k % 2 == 0:
                    read.append(part)
                else:
                    flush()
                    pieces.append(_Piece(self._id_of(part), CONTEXT))

        for span in spans:
            parts = self._special[0].split(span.text)
            role = TARGET if span.is_learnt else CONTEXT
            if span.kind == "read":
                take(parts)
                is_open = is_open and not span.text
            elif span.kind == "answer":
                flush()
                pieces += [_Piece(self._id_of(part) if k % 2 else part, role) for k, part in enumerate(parts)]
                is_open = span.is_learnt and not (len(parts) > 1 and not parts[-1].strip())
            elif span.kind in ("after", "beyond"):
                known = span.kind == "after"
                ends = [k for k in range(1, len(parts), 2) if k == 1 or (known and not any(parts[2:k:2]))]
                n = ends[-1] + 1 if ends else 0  # the special tokens that follow each other, or the first one
                pieces += [_Piece(self._id_of(part) if k % 2 else part, role) for k, part in enumerate(parts[:n])]
                take(parts[n:])
                is_open = is_open and not ends
            else:
                pieces.append(_Piece(self.tokenizer.end_id, role))
                is_open = False
        if is_open and not generate:
            pieces.append(_Piece(self.tokenizer.end_id, TARGET))
        else:
            flush()
        return pieces

    def _spelled(self, messages: Messages, tools: Messages) -> dict[str, str]:
        """A mark for each special token that the messages or tools spell."""
        told = json.dumps([list(map(dict, messages)), list(map(dict, tools))], ensure_ascii=False)
        if not self._special[0].search(told):
            return {}
        mark = next(chr(code) for code in PRIVATE_USE if chr(code) not in told)
        return {token: f"{mark}{i}{mark}" for token, i in self._special[1].items() if token in told}

    def _id_of(self, part: str) -> int:
        ids = self._special[1]
        return ids[part] if part in ids else ids[part.strip()]

    @staticmethod
    def _up_to_the_last_learnt(pieces: list[_Piece]) -> list[_Piece]:
        last = max(k for k, piece in enumerate(pieces) if piece.role == TARGET)
        return pieces[: last + 1]

    def _encoded(self, rows: Sequence[Sequence[_Piece]]) -> list[ChatRow]:
        texts = [piece.content for row in rows for piece in row if isinstance(piece.content, str)]
        encoded = iter(self.tokenizer.encode_batch(texts))
        made = []
        for row in rows:
            parts = [[p.content] if isinstance(p.content, int) else next(encoded) for p in row]
            ids = np.array([i for part in parts for i in part], dtype=np.int64)
            lengths = [len(part) for part in parts]
            roles = np.repeat(np.array([p.role for p in row], np.uint8), lengths)
            made.append(ChatRow(ids, roles, self._bytes(row, ids, lengths)))
        return made

    def _bytes(self, row: Sequence[_Piece], ids: Integers, lengths: Sequence[int]) -> Integers:
        """Bytes of each token: pieces of one role that follow each other share theirs."""
        shares: list[Integers] = []
        start = 0
        for _, group in itertools.groupby(zip(row, lengths, strict=True), key=lambda pair: pair[0].role):
            pieces = list(group)
            end = start + sum(length for _, length in pieces)
            n_bytes = sum(len(p.content.encode()) for p, _ in pieces if isinstance(p.content, str))
            if end > start:
                shares.append(self.tokenizer.bytes_of(ids[start:end], n_bytes))
            start = end
        return np.concatenate([np.zeros(0, dtype=np.int64), *shares])


def _exchanged(value: Any, table: Mapping[str, str]) -> Any:
    """A text, or all texts in a JSON value, with the keys of `table` exchanged for its values, the longest first."""
    if not table:
        return value
    if isinstance(value, str):
        pattern = "|".join(map(re.escape, sorted(table, key=len, reverse=True)))
        return re.sub(pattern, lambda found: table[found[0]], value)
    if isinstance(value, Mapping):
        return {key: _exchanged(part, table) for key, part in value.items()}
    return [_exchanged(part, table) for part in value] if isinstance(value, (list, tuple)) else value


# ---- rows on disk

_MOST_TOO_LONG = 0.5
_WRITE_ROWS = 4096


@dataclass(frozen=True)
class TokenisedChats:
    """The conversations of a domain that fit a row.

    Attributes:
        documents: their tokens and counts; `n_bytes` counts contents.
        roles: flat file of uint8, beside the tokens.
        token_bytes: flat file of `BYTES`, beside the tokens.
        n_too_long: conversations left out.
    """

    documents: TokenisedDocuments
    roles: Path
    token_bytes: Path
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
    """Write tokens, roles and bytes of the `conversations` (canonical) that fit to flat files in `folder`.

    Raises:
        CorpusError: the template cannot render one, or more than half of them do not fit `shape.length`.
    """
    tokens, roles, token_bytes = (folder / f"flat.{kind}" for kind in ("tokens", "roles", "bytes"))
    keys: list[int] = []
    n_bytes: list[int] = []
    n_tokens: list[int] = []
    lengths: list[int] = []
    done = 0
    with tokens.open("wb") as out, roles.open("wb") as beside, token_bytes.open("wb") as counted:
        for batch in batches(conversations):
            read = [Conversation.from_canonical(text) for text in batch]
            for text, conversation, row in zip(batch, read, _encode(domain, read, encoder, len(lengths)), strict=True):
                lengths.append(len(row.ids))
                if len(row.ids) <= shape.length:
                    out.write(row.ids.astype(shape.dtype).tobytes())
                    beside.write(row.roles.tobytes())
                    counted.write(row.n_bytes.astype(BYTES).tobytes())
                    keys.append(content_key(text))
                    n_tokens.append(len(row.ids))
                    n_bytes.append(conversation.n_bytes)
            done += sum(len(text.encode()) for text in batch)
            report(done)
    _check_lengths(domain, lengths, shape.length)
    documents = TokenisedDocuments(
        tokens, shape.dtype, np.array(keys, np.uint64), np.array(n_tokens, np.int64), np.array(n_bytes, np.int64)
    )
    return TokenisedChats(documents, roles, token_bytes, len(lengths) - len(keys))


def write_rows(chats: TokenisedChats, chosen: Integers, shape: ChatShape, target: Path, *, with_bytes: bool) -> None:
    """Write the chosen conversations in this order: `target`, (rows, length) ids padded with the end token, beside it
    `<stem>_roles.npy`, uint8, and with `with_bytes` `<stem>_bytes.npy`, `BYTES`, of the same shape."""
    documents = chats.documents
    starts = np.concatenate([[0], np.cumsum(documents.n_tokens)])
    bounds = [(starts[i], starts[i + 1]) for i in chosen]
    kinds: list[tuple[Path, np.dtype[Any], int, str]] = [
        (documents.file, documents.dtype, shape.end_id, ""),
        (chats.roles, np.dtype(np.uint8), PADDING, "_roles"),
        (chats.token_bytes, BYTES, 0, "_bytes"),
    ]
    for file, dtype, padding, ending in kinds if with_bytes else kinds[:2]:
        flat = np.memmap(file, dtype=dtype, mode="r")
        _write(target.with_stem(target.stem + ending), flat, bounds, shape.length, padding)


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
        raise CorpusError(f"domain '{domain}', {error.rule}", received=error.received, hint=error.hint) from None


def _check_lengths(domain: str, lengths: list[int], length: int) -> None:
    n_too_long = sum(n > length for n in lengths)
    if n_too_long > _MOST_TOO_LONG * len(lengths):
        raise CorpusError(
            f"domain '{domain}': at least half of the conversations must fit corpus.sequence_length = {length} tokens",
            received=f"{n_too_long} of {len(lengths)} longer ones, half of all up to {int(np.median(lengths))} tokens",
            hint=f"raise corpus.sequence_length, to {max(lengths)} for all of them",
        )
