"""Raw tables: CSV, TSV, JSON lines and Parquet files, plain or gzipped; each cell with the place where people find it.

A cell says a number, nothing, or something that is no number.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

from evermix.errors import ObservationError, to_install
from evermix.wording import amount, composed, is_unicode

NUMBER = re.compile(r"[+-]?(\d+(?:\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MISSING = frozenset(("", "nan", "null", "none", "na", "n/a", "<na>"))
_INFINITE = frozenset(("inf", "infinity", "+inf", "+infinity", "-inf", "-infinity"))
UNNAMED = "(unnamed column {})"
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
MOST_BYTES = 1_000_000_000  # of a table, unzipped
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}", re.ASCII)
_WHOLE = re.compile(r"-?\d+\.0+", re.ASCII)
_FIRST_LINES = 50
_DEEPEST = 20
TOKENS = ("n_tokens", "num_tokens", "tokens", "token_budget", "training_tokens", "train_tokens")
SIZES = ("n_parameters", "num_parameters", "parameters", "n_params", "num_params", "params", "model_size")
ONE_BUDGET = 0.01  # amounts of tokens or parameters so near to each other are one
_LONGEST_NUMBER = 400  # 1e308 in full has 309 digits


@dataclass(frozen=True)
class Fault:
    """Why a cell is no number, with the way out."""

    reason: str
    hint: str | None = None


Parsed = float | Fault


def parse(cell: object) -> Parsed:
    """A number (infinite if it is beyond the range of floats), NaN for a missing cell, or a Fault.

    Text must be a plain decimal number: no thousands separators, units or percent signs. Empty, NaN, null, none and NA
    are missing.
    """
    if cell is None:
        return math.nan
    if isinstance(cell, bool):
        return Fault("a boolean")
    if isinstance(cell, str):
        return _parse_text(cell.strip())
    if isinstance(cell, int | float | Decimal):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return Fault("not a number")


def _parse_text(text: str) -> Parsed:
    if len(text) > _LONGEST_NUMBER:
        return Fault(f"text of {len(text):,} characters")
    if NUMBER.fullmatch(text):
        return float(text)
    folded = text.lower()
    if folded in _MISSING:
        return math.nan
    if folded in _INFINITE:
        return -math.inf if folded[0] == "-" else math.inf
    if folded in ("true", "false"):
        return Fault("a boolean")
    if text.endswith("%") and NUMBER.fullmatch(text[:-1].strip()):
        return Fault("one with a percent sign", "remove the % signs, and read with --percent (percent=True)")
    if re.fullmatch(r"[+-]?[\d.]*,\d+", text, re.ASCII):
        return Fault("one with a comma", "write decimals with a point, without thousands separators, in the whole file")
    return Fault("text")


def quantity(cell: object) -> float | None:
    """A number, or an amount with a unit such as `60M`; NaN for a missing cell, None for anything else."""
    parsed = parse(cell)
    if not isinstance(parsed, Fault):
        return parsed
    try:
        return float(amount(str(cell)))
    except ValueError:
        return None


def label(cell: object) -> str:
    """An id or seed as text: stripped, composed; whole floats without their point; "" if missing."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return composed(str(cell).strip())


@dataclass(frozen=True)
class Row:
    """One row: its place ("line 7" of a text file, "row 3" of a Parquet file) and its cells, one per column."""

    place: str
    cells: tuple[object, ...]


@dataclass(frozen=True, eq=False)
class RawTable:
    """A file's columns and rows.

    Attributes:
        path: the file.
        columns: unique names, stripped; a column without a name is called "(unnamed column 1)".
        rows: in the file's order.
        decimal_commas: whether its numbers were written with commas.

    Raises:
        ObservationError: if two columns share a name, or there are no rows.
    """

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    decimal_commas: bool = False
    _parsed: dict[str, tuple[Parsed, ...]] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        seen: dict[str, int] = {}
        for j, name in enumerate(self.columns, start=1):
            if name in seen:
                raise ObservationError(
                    f"{self.path}: column names must be unique; columns {seen[name]} and {j} share one",
                    received=name,
                    hint="rename or remove one of them",
                )
            seen[name] = j
        if not self.rows:
            raise ObservationError(f"{self.path}: a table must have at least one row of cells below its header")

    @property
    def name(self) -> str:
        """The file's name, for messages about rows."""
        return self.path.name

    def cell(self, row: Row, column: str) -> object:
        """The raw cell."""
        return row.cells[self.columns.index(column)]

    def parsed(self, column: str) -> tuple[Parsed, ...]:
        """What each cell of a column says, one per row."""
        if column not in self._parsed:
            j = self.columns.index(column)
            self._parsed[column] = tuple(parse(row.cells[j]) for row in self.rows)
        return self._parsed[column]

    def holds_numbers(self, column: str) -> bool:
        """Whether at least one cell is a number, finite or not."""
        return any(isinstance(cell, float) and not math.isnan(cell) for cell in self.parsed(column))

    def is_empty(self, column: str) -> bool:
        """Whether every cell is missing."""
        return all(isinstance(cell, float) and math.isnan(cell) for cell in self.parsed(column))

    def is_blank(self, column: str) -> bool:
        """Whether no cell holds anything at all."""
        j = self.columns.index(column)
        return all(label(row.cells[j]) == "" for row in self.rows)

    def where(self, row: Row, column: str) -> str:
        """File, line and column, as an error message begins."""
        return f"{self.path}, {row.place}, column {column!r}"


def named(header: Sequence[str]) -> tuple[str, ...]:
    """Column names, stripped, with a stand-in for each empty one."""
    return tuple(composed(name.strip()) or UNNAMED.format(j) for j, name in enumerate(header, start=1))


def stem_and_suffix(path: Path) -> tuple[str, str]:
    """("ratios", ".csv") of ratios.csv or ratios.csv.gz; the suffix is "" for a file that is no table."""
    name = path.name[:-3] if path.name.endswith(".gz") else path.name
    suffix = Path(name).suffix.lower()
    return (name[: -len(suffix)], suffix) if suffix in SUFFIXES else (name, "")


def read_table(path: Path) -> RawTable:
    """The table in a file.

    Raises:
        ObservationError: naming the file, and the line where there is one, if it cannot be read as what its name says.
    """
    suffix = stem_and_suffix(path)[1]
    if not suffix:
        raise ObservationError(
            f"{path}: a table must be one of {', '.join(SUFFIXES)} (or .gz of it)", received=path.suffix
        )
    content = file_bytes(path)
    if suffix == ".parquet":
        return _parquet(path, content)
    text = decoded(path, content)
    return (
        _csv(path, text, "\t" if suffix == ".tsv" else None) if suffix in (".csv", ".tsv") else _json_lines(path, text)
    )


def file_bytes(path: Path) -> bytes:
    """The bytes of a file, unzipped if its name ends in .gz: of at most a gigabyte, far more than any table of runs."""
    try:
        with gzip.open(path) if path.name.endswith(".gz") else open(path, "rb") as stream:
            content: bytes = stream.read(MOST_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ObservationError(
            f"{path}: the gzip file must be whole ({error})", hint="copy or write it again"
        ) from error
    except OSError as error:
        raise ObservationError(f"{path}: the file must be readable ({error.strerror})") from error
    if len(content) > MOST_BYTES:
        raise ObservationError(
            f"{path}: a table must have at most {MOST_BYTES:,} bytes, unzipped",
            hint="keep one row per run, and the metrics that decide",
        )
    return content


def decoded(path: Path, content: bytes) -> str:
    """The text of UTF-8 bytes, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ObservationError(
            f"{path}, line {line}: a table must be text in UTF-8",
            received=content[error.start : error.start + 4],
            hint="save it as UTF-8 (iconv -f latin1 -t utf-8)",
        ) from error


def _csv(path: Path, text: str, delimiter: str | None) -> RawTable:
    if not text.strip():
        raise ObservationError(f"{path}: a table must have a header line, but the file is empty")
    delimiter = delimiter or _delimiter(text)
    lines = _csv_lines(path, text, delimiter)
    header_line, header = next(lines)
    columns = named(header)
    if len(columns) < 2:
        hint = "separate columns with commas, tabs or semicolons"
        raise ObservationError(
            f"{path}, line {header_line}: a table must have two columns or more", received=header, hint=hint
        )
    rows = []
    for line, cells in lines:
        if len(cells) != len(columns):
            raise ObservationError(
                f"{path}, line {line}: every row must have {len(columns)} cells, as the header has",
                received=len(cells),
                hint="quote cells that hold the separator",
            )
        rows.append(Row(f"line {line}", tuple(cells)))
    rows, commas = _with_points(rows) if delimiter != "," else (rows, False)
    return RawTable(path, columns, tuple(_whole(rows)), commas)


def _delimiter(text: str) -> str:
    """The mark that parts the first lines into the most cells, as many in each; a comma if others do as well."""
    best, most = "", 1
    for mark in ",\t;":
        try:
            reader = csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True)
            widths = [len(cells) for cells in islice(reader, _FIRST_LINES) if any(cell.strip() for cell in cells)]
        except csv.Error:
            continue
        if widths[0] > most and len(set(widths)) == 1:
            best, most = mark, widths[0]
    header = text.lstrip("\r\n").splitlines()[0]
    return best or next((mark for mark in ",\t;" if mark in header), ",")


def _with_points(rows: list[Row]) -> tuple[list[Row], bool]:
    """Rows with decimal commas as points, and whether they had any; as they are where a comma may part thousands."""
    texts = [
        cell.strip() for row in rows for cell in row.cells if isinstance(cell, str) and len(cell) < _LONGEST_NUMBER
    ]
    commas = [text for text in texts if _DECIMAL_COMMA.fullmatch(text)]
    points = any("." in text and NUMBER.fullmatch(text) for text in texts)
    if points or all(_THOUSANDS.fullmatch(text) for text in commas):
        return rows, False
    changed = [
        tuple(
            str(cell).replace(",", ".") if _DECIMAL_COMMA.fullmatch(str(cell).strip()) else cell for cell in row.cells
        )
        for row in rows
    ]
    return [Row(row.place, cells) for row, cells in zip(rows, changed, strict=True)], True


def _whole(rows: list[Row]) -> list[Row]:
    """Columns that hold nothing but 1.0, 2.0, ... as 1, 2, ...: some programs write ids and seeds so."""
    n_columns = len(rows[0].cells) if rows else 0
    whole = {
        j
        for j in range(n_columns)
        if all(not row.cells[j] or _WHOLE.fullmatch(str(row.cells[j]).strip()) for row in rows)
    }
    if not whole:
        return rows
    return [
        Row(row.place, tuple(str(c).partition(".")[0] if j in whole else c for j, c in enumerate(row.cells)))
        for row in rows
    ]


def _csv_lines(path: Path, text: str, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank; a quoted line break counts as the editor counts it."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    start = 1
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield start, cells
            start = reader.line_num + 1
    except csv.Error as error:
        raise ObservationError(
            f"{path}, line {start}: the row must be well-formed CSV ({error})", hint="close and double the quotes"
        ) from error


def _json_lines(path: Path, text: str) -> RawTable:
    records: list[tuple[str, dict[str, object]]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            records.append((f"line {number}", _json_object(path, number, line)))
    if not records:
        raise ObservationError(f"{path}: a table must have at least one line with a JSON object, but the file is empty")
    return _from_records(path, records)


def _json_object(path: Path, number: int, line: str) -> dict[str, object]:
    where = f"{path}, line {number}"
    try:
        value = json.loads(line, object_pairs_hook=lambda pairs: _unique_keys(where, pairs))
    except (ValueError, RecursionError) as error:
        raise ObservationError(
            f"{where}: every line must be one JSON object ({type(error).__name__}: {error})"
        ) from error
    if not isinstance(value, dict):
        raise ObservationError(f"{where}: every line must be one JSON object", received=type(value).__name__)
    if "\\ud" in line.lower() and not is_unicode(json.dumps(value, ensure_ascii=False)):
        raise ObservationError(f"{where}: text must be Unicode, and half a surrogate pair (\\ud...) is none")
    return _flattened(where, value)


def _unique_keys(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ObservationError(f"{where}: keys of a JSON object must be unique", received=twice)
    return record


def _flattened(where: str, record: Mapping[str, object]) -> dict[str, object]:
    """{"config": {"lr": 1}} as {"config.lr": 1}."""
    flat: dict[str, object] = {}
    waiting: list[tuple[str, object, int]] = [(key, value, 1) for key, value in reversed(list(record.items()))]
    while waiting:
        key, value, depth = waiting.pop()
        if isinstance(value, dict):
            if depth > _DEEPEST:
                raise ObservationError(f"{where}: objects must be nested at most {_DEEPEST} deep", received=key[:60])
            waiting += [(f"{key}.{inner}", part, depth + 1) for inner, part in reversed(list(value.items()))]
            continue
        name = composed(key.strip())
        if name in flat:
            raise ObservationError(f"{where}: keys must be unique once joined by points", received=name)
        flat[name] = value
    return flat


def _from_records(path: Path, records: list[tuple[str, dict[str, object]]]) -> RawTable:
    columns = tuple(dict.fromkeys(key for _, record in records for key in record))
    if not columns:
        raise ObservationError(f"{path}: a table must have columns")
    rows = tuple(Row(place, tuple(record.get(key) for key in columns)) for place, record in records)
    return RawTable(path, named(columns), rows)


def _parquet(path: Path, content: bytes) -> RawTable:
    try:
        import pyarrow as arrow
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise ObservationError(f"{path}: Parquet needs pyarrow", hint=to_install("parquet")) from error
    try:
        table = parquet.read_table(io.BytesIO(content))
        names = list(table.column_names)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ObservationError(f"{path}: column names must be unique", received=twice)
        rows = table.to_pylist()
    except (arrow.ArrowException, OSError, ValueError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ObservationError(f"{path}: the file must be whole Parquet ({first_line})") from error
    if not rows:
        raise ObservationError(f"{path}: a table must have at least one row of cells below its header")
    return _from_records(
        path, [(f"row {k}", _flattened(f"{path}, row {k}", row)) for k, row in enumerate(rows, start=1)]
    )
