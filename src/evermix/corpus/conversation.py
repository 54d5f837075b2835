"""Conversation: one document of a chat domain: messages, the tools that they may call, and how a record becomes one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from evermix.corpus.readers import encodable
from evermix.errors import CorpusError

ROLES = ("system", "user", "assistant", "tool")
_FORMS = 'write {"prompt": ..., "answer": ...} or {"messages": [{"role": ..., "content": ...}, ...]}'

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Conversation:
    """Messages in order; at least one of them is the assistant's and learnt.

    Attributes:
        turns: (role, content) of each message; an answer that only calls tools may have None.
        fields: what else each message holds, such as `tool_calls`, as a JSON object, or ""; () where none holds more.
        unlearnt: positions of the messages that are never learnt (`weight: 0`).
        tools: what the assistant may call, as a JSON list of schemas, or "".
    """

    turns: tuple[tuple[str, str | None], ...]
    fields: tuple[str, ...] = ()
    unlearnt: tuple[int, ...] = ()
    tools: str = ""

    @classmethod
    def from_record(cls, record: Mapping[str, object], place: str) -> Conversation:
        """From {"prompt", "answer"} or {"messages"}, and "tools"; other fields of the record are passed over.

        Raises:
            CorpusError: a field is missing or of the wrong kind, a role is unknown, an answer is blank, or there is
                none to learn; the message begins with `place`.
        """
        tools = _tools(record.get("tools"), place)
        if "messages" in record:
            return _from_messages(record["messages"], tools, place)
        missing = [field for field in ("prompt", "answer") if field not in record]
        if missing:
            found = ", ".join(map(str, record)) or "none"
            raise CorpusError(
                f"{place}: a conversation must have the field '{missing[0]}', or 'messages' in its place",
                hint=f"fields found: {found}; {_FORMS}",
            )
        prompt, answer = (_text(record[field], field, place) for field in ("prompt", "answer"))
        return cls((("user", prompt), ("assistant", _not_blank(answer, "answer", place))), tools=tools)

    @classmethod
    def from_canonical(cls, text: str) -> Conversation:
        """The inverse of `canonical`."""
        value = json.loads(text)
        whole = value if isinstance(value, dict) else {"turns": value}
        turns = tuple((role, content) for role, content in whole["turns"])
        more = {key: tuple(whole[key]) for key in ("fields", "unlearnt") if key in whole}
        return cls(turns, **more, tools=whole.get("tools", ""))

    @property
    def canonical(self) -> str:
        """One spelling for equal conversations, whichever form they were written in: JSON of the turns, or of all."""
        more = {key: value for key in ("fields", "unlearnt", "tools") if (value := getattr(self, key))}
        whole = {"turns": self.turns, **more} if more else self.turns
        return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))

    @property
    def messages(self) -> list[dict[str, Any]]:
        """[{"role", "content", ...}, ...], as templates take them."""
        fields = self.fields or ("",) * len(self.turns)
        return [
            {"role": role, "content": content, **(json.loads(more) if more else {})}
            for (role, content), more in zip(self.turns, fields, strict=True)
        ]

    @property
    def tool_schemas(self) -> list[dict[str, Any]]:
        """`tools`, as templates take them."""
        schemas: list[dict[str, Any]] = json.loads(self.tools) if self.tools else []
        return schemas

    @property
    def text(self) -> str:
        """The contents alone, parted by blank lines."""
        return "\n\n".join(content for _, content in self.turns if content is not None)

    @property
    def n_bytes(self) -> int:
        """UTF-8 bytes of the contents."""
        return sum(len(content.encode()) for _, content in self.turns if content is not None)


def _from_messages(messages: object, tools: str, place: str) -> Conversation:
    if not isinstance(messages, list) or not messages:
        raise CorpusError(
            f"{place}: messages: must be a list of at least one message", received=_brief(messages), hint=_FORMS
        )
    read = [_message(message, f"messages[{k}]", place) for k, message in enumerate(messages)]
    if not any(message.role == "assistant" and message.is_learnt for message in read):
        raise CorpusError(
            f"{place}: messages: a conversation must have at least one message of the role assistant to learn",
            received=[message.role for message in read][:8],
            hint="only what the assistant says with a weight of 1 is learnt: leave the record out",
        )
    fields = tuple(message.fields for message in read)
    unlearnt = tuple(k for k, message in enumerate(read) if message.role == "assistant" and not message.is_learnt)
    turns = tuple((message.role, message.content) for message in read)
    return Conversation(turns, fields if any(fields) else (), unlearnt, tools)


class _Message(NamedTuple):
    role: str
    content: str | None
    fields: str
    is_learnt: bool


def _message(message: object, field: str, place: str) -> _Message:
    if not isinstance(message, dict):
        raise CorpusError(f"{place}: {field}: must be an object", received=_brief(message), hint=_FORMS)
    more = {key: value for key, value in message.items() if value is not None and key not in _OWN}
    found = ", ".join(map(str, message)) or "none"
    if "role" not in message:
        raise CorpusError(f"{place}: {field}: must have the field 'role'", hint=f"fields found: {found}")
    role = message["role"]
    if role not in ROLES:
        raise CorpusError(f"{place}: {field}.role: must be one of {', '.join(ROLES)}", received=_brief(role))
    calls = calls_of(more, f"{place}: {field}")
    if calls and role != "assistant":
        raise CorpusError(f"{place}: {field}.tool_calls: must be an assistant's", received=role)
    weight = message.get("weight")
    if weight not in (None, 0, 1):
        raise CorpusError(f"{place}: {field}.weight: must be 0 (not learnt) or 1", received=_brief(weight))
    content = message.get("content")
    if content is None and not calls:
        if "content" not in message:
            raise CorpusError(f"{place}: {field}: must have the field 'content'", hint=f"fields found: {found}")
        hint = "content may be null beside tool_calls only; a content of parts must be joined to one text"
        raise CorpusError(f"{place}: {field}.content: must be a string", received=None, hint=hint)
    text = None if content is None else _text(content, f"{field}.content", place)
    if role == "assistant" and text is not None and not calls and weight != 0:
        _not_blank(text, f"{field}.content", place)
    return _Message(role, text, _json(more, f"{place}: {field}") if more else "", weight != 0)


_OWN = ("role", "content", "weight")


def calls_of(fields: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """The tools that a message calls; an empty list of them is taken out of `fields`."""
    calls = fields.get("tool_calls", [])
    if not isinstance(calls, list) or not all(isinstance(call, dict) for call in calls):
        raise CorpusError(f"{place}.tool_calls: must be a list of objects", received=_brief(calls))
    if not calls:
        fields.pop("tool_calls", None)
    legacy = fields.get("function_call")
    return [*calls, legacy] if isinstance(legacy, dict) else calls


def _tools(value: object, place: str) -> str:
    """`tools` of a record as JSON; a string is taken for JSON already."""
    if isinstance(value, str):
        try:
            value = json.loads(value or "[]")
        except (ValueError, RecursionError):
            raise CorpusError(f"{place}: tools: must be a JSON list", received=_brief(value)) from None
    if value is not None and not (isinstance(value, list) and all(isinstance(tool, dict) for tool in value)):
        raise CorpusError(f"{place}: tools: must be a list of objects, one per tool", received=_brief(value))
    return _json(value, f"{place}: tools") if value else ""


def _json(value: object, place: str) -> str:
    """JSON in the order of the keys; what JSON has no word for is written as text."""
    return encodable(json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str), place)


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
