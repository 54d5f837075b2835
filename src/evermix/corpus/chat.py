"""Chat rows: conversations as token ids with the role of each token: read, or learnt.

Learnt are the answers and the token that ends each. What a template writes is encoded with its special tokens
recognised; contents are data, in which the spelling of a special token is ordinary text. Texts are cut where an answer
begins and where it ends, so that a prompt has the same tokens in training as it has when the model is asked.

Exact for byte-level BPE. A tokenizer that puts a blank before every text does so at every cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.corpus.chat_template import ChatTemplate, Messages, Span
from evermix.corpus.conversation import Conversation
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import CorpusError

PADDING, CONTEXT, TARGET = 0, 1, 2


@dataclass(frozen=True)
class ChatRow:
    """One conversation up to its last learnt token.

    Attributes:
        ids: token ids, shape (tokens,).
        roles: CONTEXT or TARGET for each, shape (tokens,).
    """

    ids: npt.NDArray[np.int64]
    roles: npt.NDArray[np.uint8]


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
            try:
                pieces.append(self._up_to_the_last_learnt(self._pieces(self.template.spans(conversation.messages))))
            except CorpusError as error:
                raise CorpusError(f"conversation {k}: {error.rule}", hint=error.hint) from None
        return self._encoded(pieces)

    def prompt(self, messages: Messages) -> list[int]:
        """Ids of `messages` up to where the next answer begins, as `encode` has them before an answer.

        Raises:
            CorpusError: if the template cannot render the messages.
        """
        spans = self.template.spans(messages, generate=True)
        return [int(i) for i in self._encoded([self._pieces(spans, is_whole=False)])[0].ids]

    @cached_property
    def _special(self) -> tuple[re.Pattern[str], dict[str, int]]:
        """Pattern of the special tokens, the longest first, with the blanks that they swallow; ids by text."""
        added = [(i, t) for i, t in self.tokenizer.backend.get_added_tokens_decoder().items() if t.special]
        added.sort(key=lambda entry: -len(entry[1].content))
        blanks = (r"", r"\s*")
        patterns = [blanks[t.lstrip] + re.escape(t.content) + blanks[t.rstrip] for _, t in added]
        return re.compile(f"({'|'.join(patterns) or '(?!)'})"), {t.content: i for i, t in added}

    def _pieces(self, spans: Iterable[Span], is_whole: bool = True) -> list[_Piece]:
        """Pieces in order; `is_whole` adds an end token to a last answer that the template leaves without one."""
        pieces: list[_Piece] = []
        read: list[str] = []
        is_open = False  # an answer whose end token has not come yet

        def flush(role: int = CONTEXT) -> None:
            pieces.append(_Piece("".join(read), role))
            read.clear()

        for span in spans:
            if span.kind == "template":
                for k, part in enumerate(self._special[0].split(span.text)):
                    if k % 2 == 0:
                        read.append(part)
                        continue
                    role = TARGET if is_open else CONTEXT
                    flush(role)
                    pieces.append(_Piece(self._id_of(part), role))
                    is_open = False
            elif span.kind == "content":
                read.append(span.text)
                is_open = False
            elif span.kind == "answer":
                flush()
                pieces.append(_Piece(span.text, TARGET))
                is_open = True
            else:
                pieces.append(_Piece(self.tokenizer.end_id, TARGET))
                is_open = False
        if is_open and is_whole:
            pieces.append(_Piece(self.tokenizer.end_id, TARGET))
        else:
            flush()
        return pieces

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
            roles = np.repeat(np.array([p.role for p in row], np.uint8), [len(part) for part in parts])
            made.append(ChatRow(ids, roles))
        return made
