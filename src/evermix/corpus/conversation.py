"""Conversation: one document of a chat domain, as a prompt with its answer or as messages with roles."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from evermix.corpus.readers.bytestream import encodable
from evermix.errors import CorpusError

ROLES = ("system", "user", "assistant", "tool")
_FORMS = 'write {"prompt": ..., "answer": ...} or {"messages": [{"role": ..., "content": ...}, ...]}'


@dataclass(frozen=True)
class Conversation:
    """Messages in order; at least one of them is the assistant's.

    Attributes:
        turns: (role, content) of each message.
    """

    turns: tuple[tuple[str, str], ...]

    @classmethod
    def from_record(cls, record: Mapping[str, object], place: str) -> Conversation:
        """From {"prompt", "answer"} or {"messages"}; other fields are passed over.

        Raises:
            CorpusError: a field is missing or of the wrong kind, a role is unknown, an answer is blank, or there is
                none; the message begins with `place`.
        """
        if "messages" in record:
            return cls(_turns(record["messages"], place))
        missing = [field for field in ("prompt", "answer") if field not in record]
        if missing:
            found = ", ".join(map(str, record)) or "none"
            raise CorpusError(
                f"{place}: a conversation must have the field '{missing[0]}', or 'messages' in its place",
                hint=f"fields found: {found}; {_FORMS}",
            )
        prompt, answer = (_text(record[field], field, place) for field in ("prompt", "answer"))
        return cls((("user", prompt), ("assistant", _not_blank(answer, "answer", place))))

    @classmethod
    def from_canonical(cls, text: str) -> Conversation:
        """The inverse of `canonical`."""
        return cls(tuple((role, content) for role, content in json.loads(text)))

    @property
    def canonical(self) -> str:
        """One spelling for equal conversations, whichever form they were written in: JSON of the turns."""
        return json.dumps(self.turns, ensure_ascii=False, separators=(",", ":"))

    @property
    def messages(self) -> list[dict[str, str]]:
        """[{"role", "content"}, ...], as templates take them."""
        return [{"role": role, "content": content} for role, content in self.turns]

    @property
    def text(self) -> str:
        """The contents alone, parted by blank lines."""
        return "\n\n".join(content for _, content in self.turns)

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the contents."""
        return sum(len(content.encode()) for _, content in self.turns)


def _turns(messages: object, place: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(messages, list) or not messages:
        raise CorpusError(
            f"{place}: messages: must be a list of at least one message", received=_brief(messages), hint=_FORMS
        )
    turns = tuple(_turn(message, f"messages[{k}]", place) for k, message in enumerate(messages))
    if all(role != "assistant" for role, _ in turns):
        raise CorpusError(
            f"{place}: messages: a conversation must have at least one message of the role assistant",
            received=[role for role, _ in turns][:8],
            hint="only what the assistant says is learnt",
        )
    return turns


def _turn(message: object, field: str, place: str) -> tuple[str, str]:
    if not isinstance(message, dict):
        raise CorpusError(f"{place}: {field}: must be an object", received=_brief(message), hint=_FORMS)
    for key in ("role", "content"):
        if key not in message:
            found = ", ".join(map(str, message)) or "none"
            raise CorpusError(f"{place}: {field}: must have the field '{key}'", hint=f"fields found: {found}")
    role = message["role"]
    if role not in ROLES:
        raise CorpusError(f"{place}: {field}.role: must be one of {', '.join(ROLES)}", received=_brief(role))
    content = _text(message["content"], f"{field}.content", place)
    return role, _not_blank(content, f"{field}.content", place) if role == "assistant" else content


def _text(value: object, field: str, place: str) -> str:
    if not isinstance(value, str):
        raise CorpusError(f"{place}: {field}: must be a string", received=_brief(value))
    return encodable(value, f"{place}: {field}")


def _not_blank(answer: str, field: str, place: str) -> str:
    if not answer.strip():
        raise CorpusError(
            f"{place}: {field}: an answer must hold more than blanks", received=answer, hint="leave the record out"
        )
    return answer


def _brief(value: object) -> object:
    """`value`, or the beginning of its spelling if it is long, for a message of one line."""
    text = repr(value)
    return value if len(text) <= 80 else text[:80] + "..."
