"""Observations as a folder of plain files that any tool can read, and that read back equal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from evermix.errors import ObservationError
from evermix.files import write_atomically

if TYPE_CHECKING:
    from evermix.observations.table import Floats, Observations


def write_folder(observations: Observations, folder: Path) -> None:
    """Write ratios.csv, metrics.csv and layout.yaml, standard_errors.csv and tokens.yaml where known."""
    taken = {*observations.domains.names, *observations.metrics}
    ids, tokens, parameters = (_unused(name, taken) for name in ("run", "n_tokens", "n_parameters"))
    runs = observations.run_ids or ()
    amounts = {tokens: observations.n_tokens, parameters: observations.n_parameters}
    budgets = {name: column for name, column in amounts.items() if column is not None}
    ratios = [
        [*row, *(float(column[k]) for column in budgets.values())]
        for k, row in enumerate(observations.weights.tolist())
    ]
    layout = {
        "id": ids,
        "domains": list(observations.domains.names),
        "metrics": list(observations.metrics),
        "tokens_column": tokens if tokens in budgets else None,
        "parameters_column": parameters if parameters in budgets else None,
        "maximise": sorted(observations.maximised),
        "strip": False,
    }
    counts = {d.name: d.n_tokens for d in observations.domains if d.n_tokens is not None}
    files = {
        "ratios.csv": _csv([ids, *observations.domains.names, *budgets], runs, ratios),
        "metrics.csv": _csv([ids, *observations.metrics], runs, observations.values.tolist()),
        "standard_errors.csv": _errors_csv(ids, observations),
        "tokens.yaml": _yaml({"token_counts": counts}) if counts else None,
        "layout.yaml": _yaml({key: value for key, value in layout.items() if value is not None}),
    }
    try:
        for name, text in files.items():
            if text is None:
                (folder / name).unlink(missing_ok=True)
            else:
                write_atomically(folder / name, text)
    except UnicodeEncodeError as error:
        raise ObservationError(
            "names must be valid Unicode to be written", received=error.object[error.start]
        ) from error
    except OSError as error:
        raise ObservationError(f"{folder}: observations could not be written ({error.strerror})") from error


def _unused(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    return name


def _csv(header: Sequence[str], run_ids: Sequence[str], rows: list[list[float]]) -> str:
    """Floats by repr, which reads back exactly; NaN as an empty cell."""
    lines = [[_quoted(name) for name in header]]
    for run_id, row in zip(run_ids, rows, strict=True):
        lines.append([_quoted(run_id), *("" if cell != cell else repr(cell) for cell in row)])
    return "".join(",".join(line) + "\n" for line in lines)


def _quoted(name: str) -> str:
    """The name as a CSV cell; the stdlib's writer leaves a lone carriage return bare, which ends a row."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',;\t"\r\n') else name


def _errors_csv(ids: str, observations: Observations) -> str | None:
    errors: Floats | None = observations.standard_errors
    if errors is None:
        return None
    return _csv([ids, *observations.metrics], observations.run_ids or (), errors.tolist())


def _yaml(value: object) -> str:
    """YAML that reads back equal: the dumper folds unusual line breaks such as U+0085 unless everything is escaped."""
    text = str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
    return text if yaml.safe_load(text) == value else str(yaml.safe_dump(value, sort_keys=False))
