"""Items of a task from JSONL: `{prompt, answer}`, `{prompt, choices, answer}`, and so on by kind; plain, .gz or .zst.

Every fault is told with file, line and field. Fields beyond these and `id` are passed over, but for a scorer's items,
which keep all of them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from evermix.corpus.readers import decode, encodable, read_lines
from evermix.errors import CorpusError, TaskError


@dataclass(frozen=True)
class AnswerItem:
    """A prompt and its right answer. `prompt` may be empty; `place` is `file:line`, for messages."""

    prompt: str
    answer: str
    place: str


@dataclass(frozen=True)
class ChoiceItem:
    """A prompt, at least two different choices, and the index of the right one."""

    prompt: str
    choices: tuple[str, ...]
    gold: int
    place: str


@dataclass(frozen=True)
class ExactItem:
    """A prompt, its right answer, and all answers that count as right, the first of them `answer`."""

    prompt: str
    answers: tuple[str, ...]
    place: str

    @property
    def answer(self) -> str:
        """The one whose likelihood is measured."""
        return self.answers[0]


@dataclass(frozen=True)
class ScorerItem:
    """A prompt and the whole record that a scorer sees; `answer` is its field of that name, None if it has no text."""

    prompt: str
    record: Mapping[str, Any]
    answer: str | None
    place: str


Item = TypeVar("Item", AnswerItem, ChoiceItem, ExactItem, ScorerItem)


def read_answer_items(path: Path, max_items: int | None = None) -> tuple[AnswerItem, ...]:
    """Items `{prompt, answer}` of a JSONL file; at most `max_items`, evenly spaced over the file.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    return _read(path, _answer_item, max_items)


def read_choice_items(path: Path, max_items: int | None = None) -> tuple[ChoiceItem, ...]:
    """Items `{prompt, choices, answer}`, the answer an index from 0 or the text of a choice; see read_answer_items.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    return _read(path, _choice_item, max_items)


def read_exact_items(path: Path, max_items: int | None = None) -> tuple[ExactItem, ...]:
    """Items `{prompt, answer}`, with `answers`, a list of further right answers, if they have one.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    return _read(path, _exact_item, max_items)


def read_scorer_items(path: Path, max_items: int | None = None) -> tuple[ScorerItem, ...]:
    """Items with `prompt` and any fields; either all of them have a text `answer` or none.

    Raises:
        TaskError: the file or one of its lines breaks a rule.
    """
    items = _read(path, _scorer_item, max_items)
    answered = items[0].answer is not None
    for item in items:
        if (item.answer is not None) is not answered:
            raise TaskError(
                f"{item.place}: answer: either every item of a task must have a text answer or none",
                received=_brief(item.record.get("answer", "no answer")),
                hint=f"{items[0].place} has {'one' if answered else 'none'}",
            )
    return items


def _read(path: Path, make: Callable[[Mapping[str, Any], str], Item], max_items: int | None) -> tuple[Item, ...]:
    items: list[Item] = []
    lines_of_ids: dict[object, int] = {}
    for number, record in _records(path):
        place = f"{path}:{number}"
        if "id" in record:
            _check_id(record["id"], place, lines_of_ids, number)
        items.append(make(record, place))
    if not items:
        raise TaskError(f"{path}: a task must have at least one item", hint="write one JSON object per line")
    return tuple(evenly_spaced(items, max_items))


def evenly_spaced(items: Sequence[Any], most: int | None) -> list[Any]:
    """At most `most` of the items, in order, at even distances; all of them if None."""
    if most is None or most >= len(items):
        return list(items)
    return [items[k * len(items) // most] for k in range(most)]


def _records(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """(line number from 1, JSON object) of each line that is not blank."""
    try:
        for number, offset, raw in read_lines(path):
            line = decode(path, raw, offset)
            if line.strip():
                yield number, _parse(line, f"{path}:{number}")
    except CorpusError as error:
        raise TaskError(error.rule, received=error.received, hint="check `file` of the task") from error


def _parse(line: str, place: str) -> Mapping[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise TaskError(f"{place}: an item must be valid JSON ({error})", hint="one JSON object per line") from None
    if not isinstance(record, dict):
        raise TaskError(f"{place}: an item must be a JSON object", received=type(record).__name__)
    return record


def _check_id(value: object, place: str, lines_of_ids: dict[object, int], number: int) -> None:
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise TaskError(f"{place}: id: an id must be a text or an integer", received=value)
    if value in lines_of_ids:
        raise TaskError(f"{place}: id: ids must be unique, line {lines_of_ids[value]} has it too", received=value)
    lines_of_ids[value] = number


def _answer_item(record: Mapping[str, Any], place: str) -> AnswerItem:
    if "choices" in record:
        raise TaskError(f"{place}: choices: an item of kind answer has no choices", hint="set kind: choice")
    return AnswerItem(_text(record, "prompt", place, may_be_empty=True), _text(record, "answer", place), place)


def _exact_item(record: Mapping[str, Any], place: str) -> ExactItem:
    item = _answer_item(record, place)
    further = record.get("answers", [])
    if not isinstance(further, list):
        raise TaskError(f"{place}: answers: must be a list of texts", received=_brief(further))
    texts = [_checked(text, f"{place}: answers[{k}]", False) for k, text in enumerate(further)]
    return ExactItem(item.prompt, (item.answer, *(text for text in texts if text != item.answer)), place)


def _scorer_item(record: Mapping[str, Any], place: str) -> ScorerItem:
    answer = _text(record, "answer", place) if isinstance(record.get("answer"), str) else None
    return ScorerItem(_text(record, "prompt", place, may_be_empty=True), record, answer, place)


def _choice_item(record: Mapping[str, Any], place: str) -> ChoiceItem:
    prompt = _text(record, "prompt", place, may_be_empty=True)
    given = _field(record, "choices", place)
    if not isinstance(given, list) or len(given) < 2:
        raise TaskError(f"{place}: choices: must be a list of at least two texts", received=_brief(given))
    choices = tuple(_checked(choice, f"{place}: choices[{k}]", False) for k, choice in enumerate(given))
    for k, choice in enumerate(choices):
        if choice in choices[:k]:
            raise TaskError(f"{place}: choices[{k}]: choices must differ from each other", received=_brief(choice))
    return ChoiceItem(prompt, choices, _gold(_field(record, "answer", place), choices, place), place)


def _gold(answer: object, choices: tuple[str, ...], place: str) -> int:
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(choices):
            raise TaskError(f"{place}: answer: an index must be from 0 to {len(choices) - 1}", received=answer)
        return answer
    if not isinstance(answer, str) or answer not in choices:
        raise TaskError(
            f"{place}: answer: must be the index of a choice, from 0, or the text of one", received=_brief(answer)
        )
    return choices.index(answer)


def _field(record: Mapping[str, Any], field: str, place: str) -> object:
    if field not in record:
        found = ", ".join(map(str, record)) or "none"
        raise TaskError(f"{place}: {field}: an item must have this field", hint=f"fields found: {found}")
    return record[field]


def _text(record: Mapping[str, Any], field: str, place: str, may_be_empty: bool = False) -> str:
    return _checked(_field(record, field, place), f"{place}: {field}", may_be_empty)


def _checked(value: object, place: str, may_be_empty: bool) -> str:
    """`value` if it is valid Unicode text, and not blank unless it may be."""
    if not isinstance(value, str):
        raise TaskError(f"{place}: must be a text", received=_brief(value))
    if not may_be_empty and not value.strip():
        raise TaskError(f"{place}: must hold more than blanks", received=value)
    try:
        return encodable(value, place)
    except CorpusError as error:
        raise TaskError(error.rule, hint=error.hint) from None


def _brief(value: object) -> object:
    """`value`, or its beginning if it is long, for a message of one line."""
    text = value if isinstance(value, str) else repr(value)
    return value if len(text) <= 80 else text[:80] + "..."
