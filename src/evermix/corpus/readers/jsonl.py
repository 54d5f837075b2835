"""JSON lines: one object per line, its text under one field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

from evermix.corpus.readers.bytestream import decode, encodable, read_lines
from evermix.errors import CorpusError


def read_jsonl(path: Path, text_field: str) -> Iterator[str]:
    """The text of each record; blank lines are passed over."""
    for place, record in read_records(path):
        yield text_of(record, text_field, place)


def read_records(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(`file:line`, record) of each line that is not blank.

    Raises:
        CorpusError: the file is damaged or not UTF-8, or a line is no JSON object.
    """
    for number, offset, raw in read_lines(path):
        line = decode(path, raw, offset)
        if line.strip():
            place = f"{path}:{number}"
            yield place, _parse(line, place)


def text_of(record: Mapping[str, object], text_field: str, place: str) -> str:
    """Field `text_field` of a record; CorpusError if it is missing or no string."""
    if text_field not in record:
        found = ", ".join(map(str, record)) or "none"
        raise CorpusError(
            f"{place}: a record must have the text field '{text_field}'",
            hint=f"fields found: {found}; set text_field to one of them",
        )
    value = record[text_field]
    if not isinstance(value, str):
        raise CorpusError(
            f"{place}: text field '{text_field}' must be a string", received=type(value).__name__, hint="set text_field"
        )
    return encodable(value, place)


def _parse(line: str, place: str) -> Mapping[str, object]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise CorpusError(f"{place} must be valid JSON ({error})", hint="write one JSON object per line") from None
    if not isinstance(record, dict):
        raise CorpusError(
            f"{place} must be a JSON object", received=type(record).__name__, hint="write one JSON object per line"
        )
    return record
