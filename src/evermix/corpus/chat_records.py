"""Records of conversations as they are published, brought to the two forms that `Conversation` reads.

| form | record |
|---|---|
| messages | `{"messages": [{"role", "content"}, ...]}`, also under `conversations` or `conversation` |
| ShareGPT | `{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}], "system": ...}` |
| Alpaca | `{"instruction", "input", "output"}`, also with `history`; Dolly: `{"instruction", "context", "response"}` |
| pairs | a prompt, question or query, and an answer, completion, response or output |
| prompt and completion | `{"prompt": [messages], "completion": [messages]}` |

`system` or `system_prompt` beside any of them is the first message. All other fields stay as they are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from evermix.errors import CorpusError

LISTS = ("messages", "conversations", "conversation")
PAIRS = (
    ("prompt", "answer"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("instruction", "output"),
    ("instruction", "response"),
    ("instruction", "answer"),
    ("question", "answer"),
    ("question", "response"),
    ("query", "response"),
    ("query", "answer"),
    ("input", "output"),
)
_BESIDE = {"instruction": ("input", "context")}
_SYSTEM = ("system", "system_prompt")
_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
    "function": "tool",
    "function_response": "tool",
    "observation": "tool",
}


def chat_form(record: Mapping[str, object]) -> Literal["list", "pair"] | None:
    """Which kind of conversation a record is: a list of messages, or a prompt with its answer; None: neither."""
    if any(_is_list_of_messages(record.get(key)) for key in LISTS):
        return "list"
    return "pair" if _pair(record) is not None else None


def normal_record(record: Mapping[str, object], place: str) -> Mapping[str, object]:
    """The record with `messages`, or with `prompt` and `answer`; as it is, if it is of no known form.

    Raises:
        CorpusError: a field of its form is of the wrong kind, or the answer blank; names `place` and field.
    """
    key = next((key for key in LISTS if isinstance(record.get(key), list)), None)
    system = next((text for name in _SYSTEM if isinstance(text := record.get(name), str) and text.strip()), None)
    before = [] if system is None else [_message("system", system)]
    if key is not None:
        messages = [_normal_message(message) for message in _list(record[key])]
        return {**record, "messages": messages if _begins_with_system(messages) else before + messages}
    pair = _pair(record)
    if pair is None or (pair == ("prompt", "answer") and not before and isinstance(record["prompt"], str)):
        return record
    return {**record, "messages": before + _of_pair(record, pair, place)}


def _of_pair(record: Mapping[str, object], pair: tuple[str, str], place: str) -> list[object]:
    asked, answered = pair
    if isinstance(record[asked], list):
        ending = record[answered]
        messages = [*_list(record[asked]), *(ending if isinstance(ending, list) else [_message("assistant", ending)])]
        return [_normal_message(message) for message in messages]
    parts = [_text(record[asked], asked, place)]
    parts += [text for key in _BESIDE.get(asked, ()) if (text := _text(record.get(key) or "", key, place)).strip()]
    answer = _text(record[answered], answered, place)
    if not answer.strip():
        raise CorpusError(
            f"{place}: {answered}: an answer must hold more than blanks", received=answer, hint="leave the record out"
        )
    turns = [*_history(record.get("history"), place), ("user", "\n\n".join(parts)), ("assistant", answer)]
    return [_message(role, text) for role, text in turns]


def _history(value: object, place: str) -> list[tuple[str, str]]:
    """Alpaca's earlier rounds: [[prompt, answer], ...]."""
    rounds = _list(value or [])
    if not all(isinstance(entry, list) and len(entry) == 2 for entry in rounds):
        raise CorpusError(f"{place}: history: must be a list of [prompt, answer]")
    texts = [_text(text, "history", place) for entry in rounds for text in _list(entry)]
    return [("assistant" if k % 2 else "user", text) for k, text in enumerate(texts)]


def _normal_message(message: object) -> object:
    """ShareGPT's {"from", "value"} as {"role", "content"}; a called function as `tool_calls`."""
    if not isinstance(message, dict) or "role" in message or "from" not in message:
        return message
    more = {key: value for key, value in message.items() if key not in ("from", "value")}
    role, content = message["from"], message.get("value")
    call = _call(content) if role == "function_call" else None
    if call is not None:
        return {**more, "role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": call}]}
    known = _ROLES.get(role, role) if isinstance(role, str) else role
    return {**more, "role": known, **({"content": content} if "value" in message else {})}


def _call(content: object) -> Any:
    try:
        call = json.loads(content) if isinstance(content, str) else None
    except (ValueError, RecursionError):
        return None
    return call if isinstance(call, dict) and "name" in call else None


def _pair(record: Mapping[str, object]) -> tuple[str, str] | None:
    """The first pair of fields that are both there."""
    kinds = (str, list)
    pairs = (pair for pair in PAIRS if all(isinstance(record.get(key), kinds) for key in pair))
    return next(pairs, None)


def _is_list_of_messages(value: object) -> bool:
    return bool(value) and all(isinstance(m, dict) and ("role" in m or "from" in m) for m in _list(value))


def _begins_with_system(messages: list[object]) -> bool:
    return bool(messages) and isinstance(messages[0], dict) and messages[0].get("role") == "system"


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else [value]


def _message(role: str, content: object) -> object:
    return {"role": role, "content": content}


def _text(value: object, field: str, place: str) -> str:
    if not isinstance(value, str):
        raise CorpusError(f"{place}: {field}: must be a string", received=type(value).__name__)
    return value
