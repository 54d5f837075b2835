"""Readers of text: plain, JSON and Parquet files, also compressed, and HuggingFace datasets.

Each yields documents in order; an error names file and line, row or byte. pyarrow and datasets are imported on use.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any, Literal

from evermix.corpus.blocks import COMPRESSED, check_size, compression, decode, read_blocks, read_lines, read_whole
from evermix.errors import CorpusError, to_install
from evermix.wording import HIDDEN, secrets_in, with_secrets

# ---- by format

Format = Literal["jsonl", "parquet", "text"]
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".jsonlines": "jsonl",
    ".jl": "jsonl",
    ".ndjson": "jsonl",
    ".ldjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".parq": "parquet",
    ".pq": "parquet",
}
_SHARD = re.compile(r"[-._][0-9]+(-of-[0-9]+)?$")
_RECORD = re.compile(r'\s*\[?\s*\{\s*"(?:[^"\\]|\\.)*"\s*:')


def bare_name(path: Path) -> str:
    """Name without what compressing and cutting into shards adds: `a.jsonl` of `a.jsonl-00000-of-00002.gz`."""
    name = path.name
    while True:
        suffix = Path(name).suffix
        shorter = name.removesuffix(suffix) if suffix.lower() in COMPRESSED else _SHARD.sub("", name)
        if shorter in ("", name):
            return name
        name = shorter


def format_of(path: Path) -> Format:
    """Format by file name, below the endings of compression and shards; anything unknown is plain text."""
    return _SUFFIXES.get(Path(bare_name(path)).suffix.lower(), "text")


def is_julia(path: Path) -> bool:
    """Whether the name may also be that of source code: `.jl` is both JSON lines and Julia."""
    return Path(bare_name(path)).suffix == ".jl"


def found_format(path: Path) -> Format:
    """Format by file name, and where that does not say enough by content.

    Raises:
        CorpusError: the name says nothing and the content looks like JSON lines; or the file cannot be read.
    """
    by_name = format_of(path)
    if by_name != "text" and not is_julia(path):
        return by_name
    beginning = next(read_blocks(path), b"")
    if by_name != "text":
        return by_name if looks_like_records(beginning) else "text"
    if beginning.startswith(b"PAR1"):
        return "parquet"
    if looks_like_records(beginning):
        raise CorpusError(
            f"file {path} must be plain text by its name, but its lines look like JSON",
            hint="set `format: jsonl` for this domain, or `format: text` to learn them as they are",
        )
    return "text"


def looks_like_records(beginning: bytes) -> bool:
    """Whether the first lines of a file are JSON objects, one a line, or an array of them."""
    lines = (line for line in beginning.removeprefix(b"\xef\xbb\xbf").splitlines() if line.strip())
    first = list(islice(lines, 3))
    if first and first[0].strip() == b"[":
        first = [b" ".join(first[:3])]
    return bool(first) and all(_RECORD.match(line.decode("utf-8", "replace")) for line in first)


def read_documents(
    path: Path, file_format: Format | Literal["auto"], text_field: str, documents: Documents
) -> Iterator[str]:
    """Documents of one file in order; `auto` goes by its name and content (`found_format`).

    Raises:
        CorpusError: the file is damaged, not UTF-8, or lacks the text field; names file and line, row or byte.
    """
    if file_format == "auto":
        file_format = found_format(path)
    if file_format == "text":
        yield from read_plain(path, documents)
    elif file_format == "jsonl":
        yield from (text_of(record, text_field, place) for place, record in read_records(path))
    else:
        yield from (text_of(row, text_field, place) for place, row in read_parquet(path, text_field))


def read_objects(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(place, record) of each record of a JSON or Parquet file, with all of its fields."""
    is_parquet = format_of(path) == "parquet" or next(read_blocks(path), b"").startswith(b"PAR1")
    return read_parquet(path) if is_parquet else read_records(path)


def encodable(text: str, place: str) -> str:
    """`text` itself; CorpusError if it holds lone surrogates, which no UTF-8 text can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise CorpusError(
            f"{place}: the text must be valid Unicode, but character {error.start} is a lone surrogate",
            hint="repair or remove this record",
        ) from None
    return text


# ---- plain text

Documents = Literal["file", "paragraph", "line"]


def read_plain(path: Path, documents: Documents) -> Iterator[str]:
    """Documents of a text file in order."""
    if documents == "file":
        yield decode(path, read_whole(path, "set `documents: paragraph` or `line`"))
    elif documents == "line":
        yield from (line for _, line in _lines(path) if line.strip())
    else:
        yield from _paragraphs(path)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    return ((number, decode(path, raw, offset)) for number, offset, raw in read_lines(path))


def _paragraphs(path: Path) -> Iterator[str]:
    paragraph: list[str] = []
    size = 0
    for number, line in _lines(path):
        if line.strip():
            paragraph.append(line)
            size += len(line)
            check_size(size, f"{path}:{number}", "a paragraph", "set `documents: line`")
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph, size = [], 0
    if paragraph:
        yield "\n".join(paragraph)


# ---- JSON

_BETWEEN = re.compile(r"\s*([\[,\]])\s*(\])?")  # elements, and the end
_ONE_A_LINE = "write one JSON object per line, or an array of objects"


def read_records(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(`file:line`, object) of each line that is not blank; or, of an array, (`file record k`, object), k from 1.

    Raises:
        CorpusError: the file is damaged or not UTF-8, or a line or element is no JSON object, has a key twice, or is
            beyond `MOST_RECORD_BYTES`.
    """
    first = True
    for number, line in _lines(path):
        if not line.strip():
            continue
        if first and line.lstrip().startswith("["):
            yield from _elements(path)
            return
        first = False
        place = f"{path}:{number}"
        try:
            value = _DECODER.decode(line)
        except (ValueError, RecursionError) as error:
            raise _no_json(place, error) from None
        yield place, _object(value, place)


def _elements(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The elements of an array, parsed as they are read: each time that twice as much text lies there as in vain."""
    text, tried, number, expected = "", 0, 0, "["
    for line in chain((line for _, line in _lines(path)), [None]):
        text += f"{line}\n" if line is not None else ""
        if len(text) < 2 * tried and line is not None:
            continue
        check_size(len(text), f"{path} record {number + 1}", "a record", "cut it into several records")
        at, fault = 0, "the array does not end"
        while match := _BETWEEN.match(text, at):
            place = f"{path} record {number + 1}"
            if (match[1] == "]" and expected == ",") or (match[2] and expected == "["):
                expected, at = "]", match.end()
                continue
            if match[1] != expected or match[2] or expected == "]":
                raise _no_json(place, f"{match[0].strip()!r} where {expected!r} should be")
            try:
                value, end = _DECODER.raw_decode(text, match.end())
            except (json.JSONDecodeError, RecursionError) as error:
                fault = str(error)
                break
            except ValueError as error:
                raise _no_json(place, error) from None
            yield place, _object(value, place)
            number, at, expected = number + 1, end, ","
        text, tried = text[at:], len(text) - at
    if expected != "]" or text.strip():
        raise _no_json(f"{path} record {number + 1}", fault)


def _object(value: object, place: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise CorpusError(f"{place} must be a JSON object", received=type(value).__name__, hint=_ONE_A_LINE)
    return value


def _no_json(place: str, error: object) -> CorpusError:
    return CorpusError(f"{place} must be valid JSON ({error})", hint=_ONE_A_LINE)


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object; ValueError if a key is there twice, for which of the values is meant?"""
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"key {next(key for key in keys if keys.count(key) > 1)!r} is given twice")
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_once)


# ---- fields of records


def text_of(record: Mapping[str, object], text_field: str, place: str) -> str:
    """Field `text_field` of a record, `doc.text` within `doc`; CorpusError if it is missing or no string."""
    value: object = record
    for part in [text_field] if text_field in record else text_field.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise _no_field(text_field, [name for name, _ in leaves(record)], place)
        value = value[part]
    if not isinstance(value, str):
        raise CorpusError(
            f"{place}: text field '{text_field}' must be a string", received=type(value).__name__, hint="set text_field"
        )
    check_size(len(value), place, "a document", "cut it into several records")
    return encodable(value, place)


_DEEPEST = 8


def leaves(record: Mapping[str, object], within: str = "") -> Iterator[tuple[str, object]]:
    """(name, value) of each field that is no object, `doc.text` for those within objects."""
    for name, value in record.items():
        if isinstance(value, Mapping) and value and within.count(".") < _DEEPEST:
            yield from leaves(value, f"{within}{name}.")
        else:
            yield f"{within}{name}", value


def _no_field(text_field: str, found: list[str], place: str) -> CorpusError:
    names = ", ".join(found[:20]) + (f" and {len(found) - 20} more" if len(found) > 20 else "") or "none"
    way = "set `format: chat`" if {"messages", "conversations"} & set(found) else "set text_field to one of them"
    return CorpusError(
        f"{place}: a record must have the text field '{text_field}'", hint=f"fields found: {names}; {way}"
    )


# ---- Parquet

_BATCH_ROWS = 1024
_BATCH_BYTES = 1 << 26


def read_parquet(path: Path, text_field: str | None = None) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(`file row k`, row) in order, k from 0: all fields, or only the one that `text_field` names, if it is text.

    Raises:
        CorpusError: the file is damaged, or has no such field, or it is no string.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        with _plain_file(path) as opened, pyarrow.parquet.ParquetFile(opened) as file:
            column = None if text_field is None else _text_column(file.schema_arrow, text_field, path)
            rows = 0
            for batch in file.iter_batches(_rows_at_once(file.metadata), columns=column):
                for row in batch.to_pylist():
                    yield f"{path} row {rows}", row
                    rows += 1
    except FileNotFoundError:
        raise CorpusError("a data file must exist", received=str(path), hint="check the path in `files`") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"file {path} must hold UTF-8 text in its columns ({error})") from None
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"file {path} must be whole Parquet ({reason})", hint="write or download it again") from None


@contextmanager
def _plain_file(path: Path) -> Iterator[Path | IO[bytes]]:
    """The file itself, or its decompressed content: Parquet is read from its end."""
    if compression(path) is None:
        yield path
        return
    with tempfile.TemporaryFile() as file:
        for block in read_blocks(path):
            file.write(block)
        file.seek(0)
        yield file


def _rows_at_once(metadata: Any) -> int:
    """Rows of about 64 MiB, by the mean size of a row."""
    groups = [metadata.row_group(k) for k in range(metadata.num_row_groups)]
    size = max((group.total_byte_size / max(group.num_rows, 1) for group in groups), default=1)
    return max(1, min(_BATCH_ROWS, int(_BATCH_BYTES / max(size, 1))))


def _text_column(schema: Any, text_field: str, path: Path) -> list[str]:
    """The column to read for `text_field`."""
    import pyarrow.types as types

    kind = schema
    for part in [text_field] if text_field in schema.names else text_field.split("."):
        if not (kind is schema or types.is_struct(kind)) or kind.get_field_index(part) < 0:
            raise _no_field(text_field, list(_columns(schema)), str(path))
        kind = kind.field(part).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise CorpusError(
            f"{path}: text field '{text_field}' must be a string", received=str(kind), hint="set text_field"
        )
    return [text_field]


def _columns(fields: Any, within: str = "") -> Iterator[str]:
    import pyarrow.types as types

    for field in fields:
        if types.is_struct(field.type):
            yield from _columns(field.type, f"{within}{field.name}.")
        else:
            yield f"{within}{field.name}"


# ---- HuggingFace datasets


def read_dataset(spec: Mapping[str, Any], text_field: str) -> Iterator[str]:
    """The text of each row; `text_field` is the column that holds it.

    Raises:
        CorpusError: the dataset cannot be loaded, or a row has no such text; names dataset and row.
    """
    for place, record in read_rows(spec):
        yield text_of(record, text_field, place)


def read_rows(spec: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, object]]]:
    """(dataset and row, record) of each row.

    Args:
        spec: arguments of `datasets.load_dataset`: at least `path`; `split` is "train" and `streaming` True unless set.

    Raises:
        CorpusError: the dataset cannot be loaded; names it.
    """
    label = f"dataset {spec.get('path')}"
    arguments = {"split": "train", "streaming": True, **spec}
    if "path" not in arguments or arguments.get("trust_remote_code"):
        raise CorpusError(
            "a dataset must name its `path` and run no remote code", received=dict(spec), hint="dataset: {path: NAME}"
        )
    try:
        arguments = with_secrets(arguments, os.environ)
    except ValueError as error:
        raise CorpusError(f"{label} must have what it needs: its {error}") from error
    rows = _load(arguments, label)
    for row, record in enumerate(rows):
        yield f"{label} row {row}", record


def _load(arguments: Mapping[str, Any], label: str) -> Iterator[Mapping[str, object]]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise CorpusError(
            f"{label} needs the package `datasets`", hint=f"{to_install('datasets')}; or name files instead"
        ) from None
    try:
        yield from datasets.load_dataset(**arguments)
    except (OSError, ValueError, TypeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())
        for secret in secrets_in(arguments):
            reason = reason.replace(secret, HIDDEN)
        reason = reason[:300]
        raise CorpusError(f"{label} must be loadable ({reason})", hint="check its name, split and network") from None
