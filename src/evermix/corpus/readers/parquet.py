"""Parquet: one column of text, streamed in batches."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evermix.corpus.readers.bytestream import encodable
from evermix.errors import CorpusError

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
