"""Readers of text: plain, JSONL and Parquet files, with gzip or zstandard around them, and HuggingFace datasets.

Each yields documents in order; an error names file and line, row or byte. pyarrow, zstandard and datasets are imported
on use.
"""

from __future__ import annotations

import gzip
import json
import os
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from evermix.errors import CorpusError, to_install
from evermix.wording import HIDDEN, secrets_in, with_secrets

# ---- bytes and lines

COMPRESSED = (".gz", ".zst")
_BLOCK_BYTES = 1 << 20
_BOM = b"\xef\xbb\xbf"


def read_blocks(path: Path) -> Iterator[bytes]:
    """Decompressed content in blocks of about 1 MiB; CorpusError if unreadable, damaged or cut short."""
    reader = {".gz": _gzip_blocks, ".zst": _zstandard_blocks}.get(path.suffix.lower(), _plain_blocks)
    try:
        yield from reader(path)
    except FileNotFoundError:
        raise CorpusError("a data file must exist", received=str(path), hint="check the path in `files`") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise CorpusError(f"file {path} must be readable ({error.strerror or error})") from None


def read_lines(path: Path) -> Iterator[tuple[int, int, bytes]]:
    """(line number from 1, byte offset of its first byte, line without its newline) for each line."""
    number, offset = 1, 0
    pending: list[bytes] = []
    for block in read_blocks(path):
        if b"\n" not in block:
            pending.append(block)
            continue
        *lines, tail = (b"".join(pending) + block).split(b"\n")
        for line in lines:
            yield number, offset, line
            number += 1
            offset += len(line) + 1
        pending = [tail]
    last = b"".join(pending)
    if last:
        yield number, offset, last


def decode(path: Path, raw: bytes, offset: int = 0) -> str:
    """UTF-8 text of `raw`, which begins at byte `offset` of the (decompressed) file; a byte order mark is dropped."""
    skipped = len(_BOM) if offset == 0 and raw.startswith(_BOM) else 0
    try:
        return raw[skipped:].decode("utf-8")
    except UnicodeDecodeError as error:
        place = offset + skipped + error.start
        raise CorpusError(
            f"file {path} must be UTF-8 text, but byte {place} is not",
            received=error.object[error.start : error.start + 1],
            hint="convert the file to UTF-8, or leave it out with a '!pattern' in `files`",
        ) from None


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


def _plain_blocks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _gzip_blocks(path: Path) -> Iterator[bytes]:
    with gzip.open(path, "rb") as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _zstandard_blocks(path: Path) -> Iterator[bytes]:
    import zstandard

    frame = zstandard.ZstdDecompressor().decompressobj()
    fed = False
    for packed in _plain_blocks(path):
        while packed:
            if frame.eof:
                frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                block = frame.decompress(packed)
            except zstandard.ZstdError as error:
                raise _damaged(path, str(error)) from None
            fed, packed = True, frame.unused_data if frame.eof else b""
            if block:
                yield block
    if fed and not frame.eof:
        raise _damaged(path, "it ends in the middle of a frame")


def _damaged(path: Path, reason: str) -> CorpusError:
    return CorpusError(
        f"compressed file {path} must be whole ({reason})", hint="download or compress it again; it may be cut short"
    )


# ---- plain text and JSONL

Documents = Literal["file", "paragraph", "line"]


def read_plain(path: Path, documents: Documents) -> Iterator[str]:
    """Documents of a text file in order."""
    if documents == "file":
        yield decode(path, b"".join(read_blocks(path)))
    elif documents == "line":
        yield from (line for line in _lines(path) if line.strip())
    else:
        yield from _paragraphs(path)


def _lines(path: Path) -> Iterator[str]:
    return (decode(path, raw, offset).removesuffix("\r") for _, offset, raw in read_lines(path))


def _paragraphs(path: Path) -> Iterator[str]:
    paragraph: list[str] = []
    for line in _lines(path):
        if line.strip():
            paragraph.append(line)
        elif paragraph:
            yield "\n".join(paragraph)
            paragraph = []
    if paragraph:
        yield "\n".join(paragraph)


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


# ---- Parquet

_BATCH_ROWS = 1024


def read_parquet(path: Path, text_field: str) -> Iterator[str]:
    """The text column's values in row order; a null or a value that is no string is an error."""
    import pyarrow

    try:
        yield from _rows(path, text_field)
    except FileNotFoundError:
        raise CorpusError("a data file must exist", received=str(path), hint="check the path in `files`") from None
    except UnicodeDecodeError as error:
        raise CorpusError(f"file {path} must hold UTF-8 text in column '{text_field}' ({error})") from None
    except (pyarrow.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CorpusError(f"file {path} must be whole Parquet ({reason})", hint="write or download it again") from None


def _rows(path: Path, text_field: str) -> Iterator[str]:
    import pyarrow.parquet

    with pyarrow.parquet.ParquetFile(path) as file:
        _check_column(file.schema_arrow, text_field, path)
        row = 0
        for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=[text_field]):
            for value in batch.column(0).to_pylist():
                if value is None:
                    raise CorpusError(
                        f"{path} row {row}: text field '{text_field}' must be a string",
                        received="null",
                        hint="drop the rows without text",
                    )
                yield encodable(value, f"{path} row {row}")
                row += 1


def _check_column(schema: Any, text_field: str, path: Path) -> None:
    import pyarrow.types as types

    if text_field not in schema.names:
        raise CorpusError(
            f"{path}: a record must have the text field '{text_field}'",
            hint=f"fields found: {', '.join(schema.names)}; set text_field to one of them",
        )
    kind = schema.field(text_field).type
    kind = kind.value_type if types.is_dictionary(kind) else kind
    if not (types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)):
        raise CorpusError(
            f"{path}: text field '{text_field}' must be a string", received=str(kind), hint="set text_field"
        )


# ---- by format

Format = Literal["jsonl", "parquet", "text"]
_SUFFIXES: dict[str, Format] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}


def format_of(path: Path) -> Format:
    """Format by file name, below a .gz or .zst ending; anything unknown is plain text."""
    suffixes = [s.lower() for s in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSED:
        suffixes.pop()
    return _SUFFIXES.get(suffixes[-1], "text") if suffixes else "text"


def read_documents(path: Path, file_format: Format, text_field: str, documents: Documents) -> Iterator[str]:
    """Documents of one file in order.

    Raises:
        CorpusError: the file is damaged, not UTF-8, or lacks the text field; names file and line, row or byte.
    """
    if file_format == "jsonl":
        return read_jsonl(path, text_field)
    if file_format == "parquet":
        return read_parquet(path, text_field)
    return read_plain(path, documents)


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
