"""Documents of a HuggingFace dataset, by name or local builder, streamed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from evermix.corpus.readers.jsonl import text_of
from evermix.errors import CorpusError


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
    rows = _load(arguments, label)
    for row, record in enumerate(rows):
        yield f"{label} row {row}", record


def _load(arguments: Mapping[str, Any], label: str) -> Iterator[Mapping[str, object]]:
    try:
        import datasets
    except ModuleNotFoundError:
        raise CorpusError(
            f"{label} needs the package `datasets`", hint="pip install 'evermix[datasets]', or name files instead"
        ) from None
    try:
        yield from datasets.load_dataset(**arguments)
    except (OSError, ValueError, TypeError, datasets.exceptions.DatasetsError) as error:
        reason = " ".join(str(error).split())[:300]
        raise CorpusError(f"{label} must be loadable ({reason})", hint="check its name, split and network") from None
