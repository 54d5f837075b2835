"""What a reader may be told about a source; by default it finds all of it by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import yaml

from evermix.errors import ObservationError
from evermix.observations.formats import decoded, file_bytes

_NOT_IN_LAYOUT = ("tokens_file",)


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source. Patterns are names, globs (`eval/*`), or prefixes that end in one of `. / : _ -`.

    Attributes:
        id: column with the run ids, in every table of the source.
        domains: patterns of the columns that hold weights.
        metrics: patterns of the columns that hold metrics.
        error_suffixes: `<metric><suffix>` is the column of a metric's standard errors.
        tokens_column: column with each run's token budget.
        parameters_column: column with each run's model size.
        percent: weights sum to 100.
        maximise: patterns of the metrics (as named in the result or in the file) where higher is better.
        drop: patterns of the metrics to leave out.
        tokens_file: YAML file with each domain's token count; by default tokens.yaml of the folder.
        strip: shorten the names of columns by the prefix and suffix that all of them share.
    """

    id: str | None = None
    domains: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    error_suffixes: tuple[str, ...] = ("_stderr", ".stderr", "/stderr", "_standard_error", "_se")
    tokens_column: str | None = None
    parameters_column: str | None = None
    percent: bool = False
    maximise: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    tokens_file: Path | None = None
    strip: bool = True

    def over(self, layout: ReadOptions) -> ReadOptions:
        """These options where they differ from the defaults, those of the layout elsewhere."""
        default = ReadOptions()
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(layout, **{k: value for k, value in given.items() if value != getattr(default, k)})


def read_layout(path: Path) -> ReadOptions:
    """Options kept beside a table in layout.yaml; ObservationError naming the file and key."""
    try:
        record = yaml.safe_load(decoded(path, file_bytes(path)))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ObservationError(f"{path}: a layout must be valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(record, Mapping):
        raise ObservationError(f"{path}: a layout must be a mapping of options", received=type(record).__name__)
    default = ReadOptions()
    known = [f.name for f in fields(ReadOptions) if f.name not in _NOT_IN_LAYOUT]
    options: dict[str, Any] = {}
    for key, value in record.items():
        if key not in known:
            raise ObservationError(f"{path}: a layout's keys must be among {', '.join(known)}", received=key)
        options[key] = _checked(path, key, value, getattr(default, key))
    return replace(default, **options)


def _checked(path: Path, key: str, value: object, default: object) -> object:
    if isinstance(default, bool):
        if isinstance(value, bool):
            return value
        raise ObservationError(f"{path}: {key} must be true or false", received=value)
    if isinstance(default, tuple):
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            return tuple(value)
        raise ObservationError(f"{path}: {key} must be a list of names or patterns", received=value)
    if isinstance(value, str):
        return value
    raise ObservationError(f"{path}: {key} must be the name of a column", received=value)


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Names that a pattern means: the equal one if there is one, else by glob or by prefix."""
    if pattern in names:
        return [pattern]
    if pattern[-1:] in tuple("./:_-"):
        return [name for name in names if name.startswith(pattern)]
    return [name for name in names if fnmatchcase(name, pattern)]


def chosen(patterns: Sequence[str], names: Sequence[str], what: str) -> list[str]:
    """Names that any pattern means, in the order of `names`; ObservationError if a pattern means none."""
    found: set[str] = set()
    for pattern in patterns:
        matches = matching(pattern, names)
        if not matches:
            known = ", ".join(map(repr, names[:12])) + (", ..." if len(names) > 12 else "")
            raise ObservationError(f"{what} must match at least one name", received=pattern, hint=f"there are {known}")
        found.update(matches)
    return [name for name in names if name in found]
