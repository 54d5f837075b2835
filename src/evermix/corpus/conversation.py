"""Conversation: one document of a chat domain; ChatTemplate: how its messages become one text, and whose each part is.

The parts are found by rendering the conversation twice, once with each content between marks that occur nowhere else.
The marked rendering without its marks must be the plain one, else the template looks into contents and is refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal, NamedTuple

from evermix.corpus.readers import encodable
from evermix.corpus.tokenizer import checkpoint_file, checkpoint_record, declared_tokens
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


# ---- templates

_PRIVATE_USE = range(0xE000, 0xF8FF)
_CONFIG = "tokenizer_config.json"
_HINT = "set corpus.chat_template to `plain`, or to a template that renders these messages"

Messages = Sequence[Mapping[str, str]]


class Span(NamedTuple):
    """A part of a rendered conversation.

    `template`: written by the template; `content`: a message that is read; `answer`: a message of the assistant;
    `end`: the place of an end token (no text).
    """

    kind: Literal["template", "content", "answer", "end"]
    text: str


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, or none.

    Attributes:
        source: the Jinja source; None is the plain template: an answer follows what stands before it exactly as both
            are written, and is followed by the end token; any other message but the first is preceded by a blank line.
        variables: (name, value) of what the source may use beside the messages, such as `bos_token`.

    Raises:
        CorpusError: if the source is no Jinja.
    """

    source: str | None = None
    variables: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.source is not None:
            from jinja2 import TemplateSyntaxError
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment

            text = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", self.source)  # a tag that transformers adds
            try:
                ImmutableSandboxedEnvironment(extensions=[loopcontrols]).parse(text)
            except TemplateSyntaxError as error:
                raise CorpusError(f"a chat template must be valid Jinja (line {error.lineno}: {error})") from None

    @classmethod
    def plain(cls) -> ChatTemplate:
        """Prompts and answers as they are written."""
        return cls()

    @classmethod
    def from_checkpoint(cls, checkpoint: str | Path) -> ChatTemplate | None:
        """The template in `chat_template.jinja`, else in `tokenizer_config.json`; None if the checkpoint has none.

        Args:
            checkpoint: a folder or a hub name.

        Raises:
            CorpusError: if it is no Jinja.
            TokenizerError: if a JSON file is damaged.
        """
        file = checkpoint_file(checkpoint, "chat_template.jinja")
        source = _read(file) if file else _named_default(checkpoint_record(checkpoint, _CONFIG).get("chat_template"))
        return None if source is None else cls(source, _variables(checkpoint))

    @classmethod
    def from_path(cls, path: Path) -> ChatTemplate:
        """The template of a checkpoint folder, or that in a Jinja file.

        Raises:
            CorpusError: if there is none.
        """
        if path.is_file() and path.name != _CONFIG:
            return cls(_read(path), _variables(path.parent))
        folder = path.parent if path.is_file() else path
        found = cls.from_checkpoint(folder) if folder.is_dir() else None
        if found is None:
            raise CorpusError(
                "corpus.chat_template must be auto, plain, a Jinja file, or the folder of a checkpoint that has one",
                received=str(path),
            )
        return found

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of source and variables, first 16 hex digits."""
        return hashlib.sha256(json.dumps([self.source, self.variables]).encode()).hexdigest()[:16]

    def render(self, messages: Messages, generate: bool) -> str:
        """The text of `messages`, [{"role", "content"}, ...]; with `generate` it ends where the next answer begins.

        Raises:
            CorpusError: if the template refuses the messages.
        """
        if self.source is None:
            return "".join(span.text for span in _plain_spans(messages))
        return self._rendered(messages, generate)

    def spans(self, messages: Messages, generate: bool = False) -> list[Span]:
        """The same text in parts; the plain template's have an `end` after each answer.

        Raises:
            CorpusError: if the template refuses the messages, or renders an answer not at all, twice, or in pieces.
        """
        if self.source is None:
            return _plain_spans(messages)
        plain = self._rendered(messages, generate)
        mark = _unused_mark(plain)
        for marked in (_marked_around, _marked_within):
            texts = [{**m, "content": marked(m["content"], k, mark)} for k, m in enumerate(messages)]
            spans = _split(self._rendered(texts, generate), messages, mark)
            if spans is not None and "".join(span.text for span in spans) == plain:
                return spans
        raise CorpusError("a chat template must render every answer once and no content in pieces", hint=_HINT)

    def _rendered(self, messages: Messages, generate: bool) -> str:
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        chat = [dict(message) for message in messages]
        try:
            rendered, _ = render_jinja_template(
                [chat], chat_template=self.source, add_generation_prompt=generate, **dict(self.variables)
            )
        except (TemplateError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CorpusError(f"a chat template must render the messages ({reason})", hint=_HINT) from None
        return str(rendered[0])


def _plain_spans(messages: Messages) -> list[Span]:
    spans: list[Span] = []
    for k, message in enumerate(messages):
        if message["role"] == "assistant":
            spans += [Span("answer", message["content"]), Span("end", "")]
        else:
            spans += [Span("template", "\n\n" if k else ""), Span("content", message["content"])]
    return spans


def _unused_mark(text: str) -> str:
    """A private-use character that `text` does not hold."""
    return next(chr(code) for code in _PRIVATE_USE if chr(code) not in text)


def _marked_around(content: str, k: int, mark: str) -> str:
    return f"{mark}{k}{mark}{content}{mark}"


def _marked_within(content: str, k: int, mark: str) -> str:
    """Marks inside the outer blanks, for templates that trim contents."""
    core = content.strip()
    start = len(content) - len(content.lstrip())
    return f"{content[:start]}{mark}{k}{mark}{core}{mark}{content[start + len(core) :]}"


def _split(text: str, messages: Messages, mark: str) -> list[Span] | None:
    """Spans of a marked rendering; None if marks are torn, a content comes twice, or an answer is left out."""
    parts = re.split(f"{mark}([0-9]+){mark}([^{mark}]*){mark}", text)
    keys = parts[1::3]
    answers = {str(k) for k, message in enumerate(messages) if message["role"] == "assistant"}
    if any(mark in part for part in parts) or len(set(keys)) != len(keys) or not answers <= set(keys):
        return None
    spans = [Span("template", parts[0])]
    for key, content, after in zip(keys, parts[2::3], parts[3::3], strict=True):
        is_answer = messages[int(key)]["role"] == "assistant"
        spans += [Span("answer" if is_answer else "content", content), Span("template", after)]
    return spans


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CorpusError("a chat template must be UTF-8 text", received=str(file)) from None


def _named_default(value: object) -> str | None:
    """The template of a tokenizer's configuration: one text, or a list of named ones."""
    if isinstance(value, list):
        named = {entry.get("name"): entry.get("template") for entry in value if isinstance(entry, dict)}
        value = named.get("default")
    return value if isinstance(value, str) else None


def _variables(checkpoint: str | Path) -> tuple[tuple[str, str], ...]:
    """(name, text) of the special tokens that the checkpoint declares."""
    return tuple(declared_tokens(checkpoint).items())
