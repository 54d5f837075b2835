"""ChatTemplate: how the messages of a conversation become one text, and what of it is learnt.

Learnt is what the template writes for an answer: content, tool calls, reasoning, whatever the message holds.
A template that marks answers with {% generation %} says so itself. Of any other, answer k is found by rendering

    U = the conversation up to and with answer k            P = the conversation before it, as the model is asked
    V = U with a mark, which occurs nowhere else, as the only content of answer k

The answer begins where P ends, if the template writes something to ask by; else where U and V part, with the blanks
before. It ends where U begins to end as V does after the mark. In the whole rendering T it lies where it lies in U; if
T does not begin like U (templates that drop the reasoning of earlier answers), where T and T with the mark differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evermix.corpus.conversation import Messages, calls_of
from evermix.corpus.tokenizer import checkpoint_file, checkpoint_record, declared_tokens
from evermix.errors import CorpusError

PRIVATE_USE = range(0xE000, 0xF8FF)  # characters without meaning, for marks
_CONFIG = "tokenizer_config.json"
_FILES = {"default": "chat_template.jinja", "tool_use": "additional_chat_templates/tool_use.jinja"}
_HINT = "set corpus.chat_template to `plain`, or to a template that renders these messages"
_GENERATION = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # a tag that transformers adds


SpanKind = Literal["read", "answer", "after", "beyond", "end"]


class Span(NamedTuple):
    """A part of a rendered conversation.

    `read`: what the template and the other messages say; `answer`: what it writes for a message of the assistant;
    `after`: what it writes after any answer, up to the next message; `beyond`: the same, and what of the next message
    cannot be told from it; `end`: the place of an end token (no text).
    """

    kind: SpanKind
    text: str
    is_learnt: bool = False


@dataclass(frozen=True)
class ChatTemplate:
    """A Jinja template, or none.

    Attributes:
        source: the Jinja source; None is the plain template: an answer follows what stands before it exactly as both
            are written, and is followed by the end token; any other message but the first is preceded by a blank line.
        variables: (name, value) of what the source may use beside the messages, such as `bos_token`.
        tool_source: the source for conversations with tools, if there is another.

    Raises:
        CorpusError: if a source is no Jinja.
    """

    source: str | None = None
    variables: tuple[tuple[str, str], ...] = ()
    tool_source: str | None = None

    def __post_init__(self) -> None:
        for source in filter(None, (self.source, self.tool_source)):
            from jinja2 import TemplateSyntaxError
            from jinja2.ext import loopcontrols
            from jinja2.sandbox import ImmutableSandboxedEnvironment

            try:
                ImmutableSandboxedEnvironment(extensions=[loopcontrols]).parse(_GENERATION.sub("", source))
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
        named = _named(checkpoint_record(checkpoint, _CONFIG).get("chat_template"))
        for name, path in (
            ("default", "chat_template.jinja"),
            ("tool_use", "additional_chat_templates/tool_use.jinja"),
        ):
            file = checkpoint_file(checkpoint, path)
            if file:
                named[name] = _read(file)
        variables = tuple(declared_tokens(checkpoint).items())
        return cls(named["default"], variables, named.get("tool_use")) if "default" in named else None

    @classmethod
    def from_path(cls, path: Path) -> ChatTemplate:
        """The template of a checkpoint folder, or that in a Jinja file.

        Raises:
            CorpusError: if there is none.
        """
        if path.is_file() and path.name != _CONFIG:
            return cls(_read(path), tuple(declared_tokens(path.parent).items()))
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
        """SHA-256 of sources and variables, first 16 hex digits."""
        made_of = [self.source, self.variables, *filter(None, [self.tool_source])]
        return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()[:16]

    def render(self, messages: Messages, generate: bool, tools: Messages = ()) -> str:
        """The text of `messages`.

        Args:
            messages: [{"role", "content", ...}, ...], as templates take them.
            generate: whether an answer is asked for; the text then ends where it begins.
            tools: schemas of what the assistant may call.

        Raises:
            CorpusError: if the template refuses the messages.
        """
        if self.source is None:
            return "".join(span.text for span in _plain_spans(messages, tools, ()))
        return self._rendered(messages, generate, tools)[0]

    def spans(
        self, messages: Messages, tools: Messages = (), unlearnt: Collection[int] = (), generate: bool = False
    ) -> list[Span]:
        """The same text in parts; the plain template's have an `end` after each answer.

        Args:
            messages: as templates take them.
            tools: schemas of what the assistant may call.
            unlearnt: positions of the answers that are not learnt.
            generate: whether an answer is asked for at the end.

        Raises:
            CorpusError: if the template refuses the messages, or renders an answer not at all, twice, in pieces, or
                without its tool calls.
        """
        if self.source is None:
            return _plain_spans(messages, tools, unlearnt)
        text, marked = self._rendered(messages, generate, tools)
        positions = [k for k, message in enumerate(messages) if message["role"] == "assistant"]
        if marked is not None:
            places = [_Place(start, end, end) for start, end in marked]
            said = "".join(text[start:end] for start, end in marked)
            for k in positions:
                _check_calls(messages[k], said)
            return _cut(text, places, self._marked_learnt(len(places), messages, tools, positions, unlearnt))
        asks = "add_generation_prompt" in self._source(tools)
        search = _Search(text, messages, lambda part, asked: self._rendered(part, asked, tools)[0], asks, generate)
        places = [search.place(k) for k in positions]
        for k, place in zip(positions, places, strict=True):
            if k not in unlearnt:
                _check_calls(messages[k], text[place.start : place.end])
        return _cut(text, places, [k not in unlearnt for k in positions])

    def _marked_learnt(
        self, n_marked: int, messages: Messages, tools: Messages, positions: Sequence[int], unlearnt: Collection[int]
    ) -> list[bool]:
        """Whether each part that the template marks belongs to an answer that is learnt."""
        learnt = [k not in unlearnt for k in positions]
        if all(learnt) or not any(learnt) or n_marked == len(learnt):
            return learnt if n_marked == len(learnt) else [any(learnt)] * n_marked
        upto = [len(self._rendered(messages[: k + 1], False, tools)[1] or ()) for k in positions]
        counts = [n - before for n, before in zip(upto, [0, *upto], strict=False)]
        if min(counts) < 0 or upto[-1] != n_marked:
            rule = "with answers of weight 0 a chat template must mark as many parts, however a conversation goes on"
            raise CorpusError(rule, received=f"{n_marked} marks, {upto[-1]} up to the last answer", hint=_HINT)
        return [is_learnt for is_learnt, n in zip(learnt, counts, strict=True) for _ in range(n)]

    def _source(self, tools: Messages) -> str:
        return (self.tool_source if tools else None) or self.source or ""

    def _rendered(
        self, messages: Messages, generate: bool, tools: Messages
    ) -> tuple[str, list[tuple[int, int]] | None]:
        """The text, and where the parts lie that the template marks as the assistant's; None if it marks nothing."""
        from jinja2 import TemplateError
        from transformers.utils.chat_template_utils import render_jinja_template

        source = self._source(tools)
        marks = _GENERATION.search(source) is not None
        try:
            rendered, places = render_jinja_template(
                [[dict(message) for message in messages]],
                tools=[dict(tool) for tool in tools] or None,
                chat_template=source,
                add_generation_prompt=generate,
                return_assistant_tokens_mask=marks,
                **dict(self.variables),
            )
        except (TemplateError, TypeError, ValueError) as error:
            if any(message.get("content", "") is None for message in messages):  # not every template knows null
                contents = [message.get("content") or "" for message in messages]
                filled = [{**m, "content": text} for m, text in zip(messages, contents, strict=True)]
                return self._rendered(filled, generate, tools)
            reason = " ".join(str(error).split())[:200]
            raise CorpusError(f"a chat template must render the messages ({reason})", hint=_HINT) from None
        return str(rendered[0]), [(start, end) for start, end in places[0]] if marks else None


class _Place(NamedTuple):
    """Where an answer lies in a rendering: from `start` to `end`; to `after`, if known, what follows every answer."""

    start: int
    end: int
    after: int | None


class _Alone(NamedTuple):
    """An answer at the end of a conversation.

    `opening` is what the template writes at its beginning for every such answer, `tail` what it writes after it, and
    `header` what it is asked for by.
    """

    answer: str
    opening: str
    tail: str
    header: str


@dataclass(frozen=True)
class _Search:
    """Finds the answers of a rendering; see the module.

    Attributes:
        text: the whole rendering.
        messages: what is rendered.
        render: (messages, generate) -> text.
        asks: whether the template writes something to ask for an answer by.
        is_asked: whether it is written at the end of `text`.
    """

    text: str
    messages: Messages
    render: Callable[[Messages, bool], str]
    asks: bool
    is_asked: bool

    def place(self, k: int) -> _Place:
        """Of the answer that is message k."""
        before = self.messages[:k]
        is_last = k == len(self.messages) - 1 and not self.is_asked
        try:
            own = self.text if is_last else self.render(self.messages[: k + 1], False)
            head, tail = self._around(before)
        except CorpusError:
            return self._in_whole(k, None)  # the template wants more than the beginning, or refuses all
        parted = _common(own, head)
        end = len(own) - len(tail) if own[parted:].endswith(tail) else len(own.rstrip())
        start, header = self._start(own, before, parted)
        start = min(start, end)
        if self.text.startswith(own[:end]):
            return _Place(start, end, self._after(end, own[end:]))
        return self._in_whole(k, _Alone(own[start:end], own[start:parted], own[end:], header))

    def _start(self, own: str, before: Messages, parted: int) -> tuple[int, str]:
        """Where the answer at the end of `own` begins, and by what it is asked for.

        Args:
            own: the conversation up to and with the answer.
            before: its messages before the answer.
            parted: where the answer departs from any other.
        """
        try:
            asked, unasked = self.render(before, True), self.render(before, False)
        except CorpusError:
            return parted, ""
        header = asked.removeprefix(unasked) if self.asks and asked.startswith(unasked) else ""
        if own.startswith(asked):
            gap = own[len(asked) : parted]
            return len(asked) if self.asks or not gap.strip() else parted, header
        alike = min(_common(own, asked), parted)
        return alike if self.asks and alike >= len(unasked) else parted, header

    def _in_whole(self, k: int, alone: _Alone | None) -> _Place:
        """Of answer k, which is written otherwise than where the conversation ends with it, or cannot end with it.

        What is written otherwise may only leave out: all of it stands in the answer alone too, in this order.
        """
        head, rest = self._around(self.messages[:k], self.messages[k + 1 :])
        if self.text.endswith(rest):
            parted, end = _common(self.text, head), len(self.text) - len(rest)
            if alone is None:
                return _Place(min(parted, end), end, None)
            starts = []
            if alone.header and alone.header in self.text[:parted]:
                starts.append(self.text[:parted].rindex(alone.header) + len(alone.header))
            opened = self.text[:parted].endswith(alone.opening)
            starts.append(parted - len(alone.opening) if opened else parted)
            for start in starts:
                if start <= end and _is_within(self.text[start:end], alone.answer):
                    return _Place(start, end, self._after(end, alone.tail))
        raise CorpusError("a chat template must render every answer in one piece", hint=_HINT)

    def _after(self, end: int, tail: str) -> int | None:
        """Where the text ends that follows an answer; None if it is another than `tail`."""
        return end + len(tail) if self.text.startswith(tail, end) else None

    def _around(self, before: Messages, after: Messages = ()) -> tuple[str, str]:
        """What the template writes before and after an answer's content."""
        mark = self._mark
        text = self.render([*before, {"role": "assistant", "content": mark}, *after], False)
        if text.count(mark) != 1:
            raise CorpusError("a chat template must render every answer once and in one piece", hint=_HINT)
        head, _, tail = text.partition(mark)
        return head, tail

    @cached_property
    def _mark(self) -> str:
        """Three private-use characters, of which none occurs in messages or text."""
        taken = self.text + json.dumps([dict(message) for message in self.messages], ensure_ascii=False)
        return next(chr(code) for code in PRIVATE_USE if chr(code) not in taken) * 3


def _common(one: str, other: str) -> int:
    """Length of the longest common beginning."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _is_within(part: str, whole: str) -> bool:
    """Whether the characters of `part` stand in `whole`, in this order."""
    rest = iter(whole)
    return all(character in rest for character in part)


def _cut(text: str, places: Sequence[_Place], learnt: Sequence[bool]) -> list[Span]:
    """Spans of a rendering whose answers lie at `places`; parts that touch each other are one."""
    spans: list[Span] = []
    done = 0
    starts = [place.start for place in places] + [len(text)]
    for place, is_learnt, following in zip(places, learnt, starts[1:], strict=True):
        if not done <= place.start <= place.end <= following:
            raise CorpusError("a chat template must render the answers one after the other", hint=_HINT)
        after = following if place.after is None else min(place.after, following)
        answer = Span("answer", text[place.start : place.end], is_learnt)
        if spans and place.start == done and spans[-1].kind == "answer" and spans[-1].is_learnt == is_learnt:
            spans[-1] = answer._replace(text=spans[-1].text + answer.text)
        else:
            spans += [Span("read", text[done : place.start]), answer]
        kind: SpanKind = "beyond" if place.after is None else "after"
        spans += [Span(kind, text[place.end : after], is_learnt)] if after > place.end else []
        done = after
    return [*spans, Span("read", text[done:])]


def _check_calls(message: Mapping[str, Any], answer: str) -> None:
    for call in calls_of(dict(message), "a conversation"):
        called = call.get("function", call)
        name = called.get("name") if isinstance(called, dict) else None
        if isinstance(name, str) and name not in answer:
            rule = "a chat template must write the tool calls of an answer"
            raise CorpusError(rule, received=name, hint=_CALLS_HINT)


_CALLS_HINT = "set corpus.chat_template to a template that writes tools and their calls"
_UNWRITTEN = ("tool_calls", "function_call", "reasoning_content", "reasoning", "thinking")


def _plain_spans(messages: Messages, tools: Messages, unlearnt: Collection[int]) -> list[Span]:
    unwritten = next((field for message in messages for field in _UNWRITTEN if message.get(field)), None)
    if tools or unwritten:
        raise CorpusError("chat template plain writes contents only", received=unwritten or "tools", hint=_CALLS_HINT)
    spans: list[Span] = []
    for k, message in enumerate(messages):
        if message["role"] == "assistant":
            spans += [Span("answer", message["content"], k not in unlearnt), Span("end", "", k not in unlearnt)]
        else:
            spans += [Span("read", "\n\n" if k else ""), Span("read", message["content"])]
    return spans


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise CorpusError("a chat template must be UTF-8 text", received=str(file)) from None


def _named(value: object) -> dict[str, str]:
    """Name -> template of a tokenizer's configuration: one text, the default, or a list of named ones."""
    if isinstance(value, str):
        return {"default": value}
    entries = value if isinstance(value, list) else []
    named = {entry.get("name"): entry.get("template") for entry in entries if isinstance(entry, dict)}
    return {name: text for name, text in named.items() if isinstance(name, str) and isinstance(text, str)}
