"""Sources: which files hold a swarm, what a reader may be told about them, and what it has to say beside the numbers.

By default a reader finds everything by itself: weights, metrics, token counts (tokens.yaml) and options (layout.yaml).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, ObservationError
from evermix.observations.raw import decoded, file_bytes, stem_and_suffix
from evermix.wording import amount, composed
from evermix.yaml_text import YamlTextError, yaml_data, yaml_node

T = TypeVar("T")
Kind = Literal["run", "metric", "column", "row", "rule"]
_NOT_IN_LAYOUT = ("tokens_file",)
_RATIOS = ("ratios", "ratio", "mixtures", "mixture", "weights")
_METRICS = ("metrics", "metric", "losses", "loss")
_ERRORS = ("standard_errors",)
_KEY = "token_counts"
ERROR_SUFFIXES = ("_stderr", ".stderr", "/stderr", "_standard_error")
_MOST = 1e18


@dataclass(frozen=True)
class LeftOut:
    """Something of the source that is not in the observations, and why.

    Attributes:
        kind: "run", "metric", "column", "row", or "rule" of a recipe.
        name: the run id, the metric's or column's name, or file and line of the row.
        reason: why it was left out.
    """

    kind: Kind
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} is left out: {self.reason}"


@dataclass(frozen=True)
class Finding:
    """Something that is in the observations and deserves to be known.

    Attributes:
        rule: which check found it, as in the documentation's table: "missing cells", "too few runs", ...
        detail: names and numbers.
    """

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"


@dataclass(frozen=True)
class ReadOptions:
    """How to read a source. Patterns are names, globs (`eval/*`), or prefixes that end in one of `. / : _ -`.

    Attributes:
        id: column with the run ids, in every table of the source.
        domains: patterns of the columns that hold weights.
        metrics: patterns of the columns that hold metrics.
        error_suffixes: `<metric><suffix>` is the column of a metric's standard errors; by default also `_se`, but only
            where every metric has one and none is of a metric's own size, since `loss_se` may be a metric too.
        tokens_column: column with each run's token budget.
        parameters_column: column with each run's model size.
        percent: weights sum to 100.
        maximise: patterns of the metrics (as named in the result or in the file) where higher is better.
        drop: patterns of the metrics to leave out.
        drop_runs: patterns of the ids of runs to leave out.
        drop_bad_runs: leave out every run with a cell that cannot be read, instead of refusing the table.
        tokens_file: YAML file with each domain's token count; by default tokens.yaml of the folder.
        strip: shorten the names of columns by the prefix and suffix that all of them share.
        where: column -> the value that a run must have there, `{"model_size": "60M"}`; amounts with units as in a
            recipe. Budgets and sizes count as equal within 1%, and may be called by any name that is known for them.
    """

    id: str | None = None
    domains: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    error_suffixes: tuple[str, ...] = ERROR_SUFFIXES
    tokens_column: str | None = None
    parameters_column: str | None = None
    percent: bool = False
    maximise: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    drop_runs: tuple[str, ...] = ()
    drop_bad_runs: bool = False
    tokens_file: Path | None = None
    strip: bool = True
    where: Mapping[str, str | float] = field(default_factory=dict)

    def over(self, layout: ReadOptions) -> ReadOptions:
        """These options where they differ from the defaults, those of the layout elsewhere."""
        default = ReadOptions()
        given = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(layout, **{k: value for k, value in given.items() if value != getattr(default, k)})


def read_layout(path: Path) -> ReadOptions:
    """Options kept beside a table in layout.yaml; ObservationError naming the file and key."""
    record = _yaml(path, lambda text: yaml_data(yaml_node(text)))
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
    if isinstance(default, Mapping):
        if isinstance(value, Mapping) and all(isinstance(part, str | int | float) for part in value.values()):
            return {str(name): part for name, part in value.items()}
        raise ObservationError(f"{path}: {key} must be a mapping, column: value", received=value)
    if isinstance(value, str):
        return value
    raise ObservationError(f"{path}: {key} must be the name of a column", received=value)


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Names that a pattern means: the equal one if there is one, else by glob or by prefix."""
    pattern = composed(pattern)
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


@dataclass(frozen=True)
class Source:
    """The files of one swarm; `ratios` and `metrics` are the same file where one holds both.

    Attributes:
        ratios, metrics: tables of weights and of metrics.
        errors: table of standard errors, or None.
        tokens: YAML file with token counts, or None.
        layout: YAML file with read options, or None.
    """

    ratios: Path
    metrics: Path
    errors: Path | None = None
    tokens: Path | None = None
    layout: Path | None = None


def find_source(source: str | Path | Sequence[str | Path]) -> Source:
    """The files that `source` means: a folder, one file, or a pair (ratios, metrics).

    Raises:
        ObservationError: if there are none, or several that could be meant.
    """
    if not isinstance(source, str | Path):
        paths = [Path(part) for part in source]
        if len(paths) != 2:
            raise ObservationError("a source of several files must be a pair (ratios, metrics)", received=len(paths))
        return Source(paths[0], paths[1])
    path = Path(source)
    if path.is_dir():
        return _in_folder(path)
    if not path.exists():
        raise ObservationError(f"{path}: a source must be a file or folder that exists", hint="check the path")
    return Source(path, path)


def _in_folder(folder: Path) -> Source:
    tables = sorted(path for path in folder.iterdir() if path.is_file() and stem_and_suffix(path)[1])
    ratios, metrics = _by_prefix(tables, _RATIOS), _by_prefix(tables, _METRICS)
    pairs = sorted(ratios.keys() & metrics.keys())
    beside = {"tokens": _first(folder, "tokens.yaml", "tokens.yml"), "layout": _first(folder, "layout.yaml")}
    if len(pairs) == 1:
        (prefix,) = pairs
        errors = _by_prefix(tables, _ERRORS).get(prefix)
        files = [_only(found) for found in (ratios[prefix], metrics[prefix], errors) if found]
        return Source(files[0], files[1], files[2] if errors else None, **beside)
    if pairs:
        named = "; ".join(f"({_only(ratios[p]).name}, {_only(metrics[p]).name})" for p in pairs)
        raise ObservationError(
            f"{folder}: a folder must hold one pair of tables, this one has {len(pairs)}: {named}",
            hint=f"choose one, as a pair of files ({_only(ratios[pairs[0]])}, {_only(metrics[pairs[0]])})",
        )
    if len(tables) == 1 and not ratios and not metrics:
        return Source(tables[0], tables[0], **beside)
    if bool(ratios) != bool(metrics) and len(ratios or metrics) == 1:
        ((prefix, paths),) = (ratios or metrics).items()
        missing, content = ("metrics", "metrics") if ratios else ("ratios", "shares of domains")
        others = [path.name for path in tables if path not in paths]
        raise ObservationError(
            f"{folder / (prefix + missing)}.csv is missing; {_only(paths).name} is there",
            received=", ".join(others) or None,
            hint=f"write it: a row per run with the id that it has in {_only(paths).name}, and its {content}",
        )
    raise ObservationError(
        f"{folder}: a folder must hold a pair such as ratios.csv and metrics.csv, or one table with both",
        received=", ".join(path.name for path in tables) or "no table",
        hint="name the files so, or give the pair (ratios, metrics)",
    )


def _by_prefix(tables: Sequence[Path], words: Sequence[str]) -> dict[str, list[Path]]:
    """Tables called `<prefix><word>`: {"": [ratios.csv]}, {"train_": [train_mixture.csv]}."""
    found: dict[str, list[Path]] = {}
    for path in tables:
        stem = stem_and_suffix(path)[0].lower()
        for word in words:
            prefix = stem[: -len(word)]
            if stem.endswith(word) and (not prefix or prefix[-1] in "_-."):
                found.setdefault(prefix, []).append(path)
                break
    return found


def _only(paths: Sequence[Path]) -> Path:
    if len(paths) > 1:
        raise ObservationError(
            f"{paths[0].parent}: one file must hold each table, not several",
            received=", ".join(path.name for path in paths),
            hint="give the pair (ratios, metrics) that is meant",
        )
    return paths[0]


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_file()), None)


def domain_set(
    names: Sequence[str], columns: Sequence[str], tokens: Path | None, where: Path
) -> tuple[DomainSet, list[LeftOut]]:
    """Domains in the order of their columns, with counts if a file of them is given.

    Args:
        names: the domains' names.
        columns: their names in the table of weights; counts may be under either.
        tokens: the file of counts, `token_counts: {web: 1200}` or just `{web: 1200}`, or None.
        where: the table of weights, for messages.

    Raises:
        ObservationError: if a name is not that of a domain, or a domain has no count while others have.
    """
    counts: dict[str, int] = {}
    left_out: list[LeftOut] = []
    if tokens is not None:
        counts, left_out = read_token_counts(tokens)
    by_name = {}
    known = ", ".join(map(repr, list(counts)[:12]))
    for name, column in zip(names, columns, strict=True):
        key = name if name in counts else column
        if tokens is not None and key not in counts:
            raise ObservationError(
                f"{tokens}: every domain of {where.name} must have a token count, one has none",
                received=name,
                hint=f"add it; counts are given for {known}",
            )
        by_name[name] = counts.pop(key, None)
    reason = "token count of a domain that is not in the table of weights"
    left_out += [LeftOut("row", f"{tokens.name if tokens else ''}: {name}", reason) for name in counts]
    try:
        return DomainSet(Domain(name, n_tokens) for name, n_tokens in by_name.items()), left_out
    except DomainError as error:
        raise ObservationError(f"{where}: {error.rule}", received=error.received, hint=error.hint) from error


def read_token_counts(path: Path) -> tuple[dict[str, int], list[LeftOut]]:
    """Name -> tokens of a YAML file, and what else the file has; ObservationError naming file, line and key."""
    root = _yaml(path, lambda text: yaml_node(text, names=False))
    entries = _entries(path, root)
    left_out = []
    if _KEY in entries:
        reason = f"only {_KEY} is read from {path.name}"
        left_out = [LeftOut("row", f"{path.name}: {key}", reason) for key in entries if key != _KEY]
        entries = _entries(path, entries[_KEY])
    return {key: _count(path, key, node) for key, node in entries.items()}, left_out


def _yaml(path: Path, read: Callable[[str], T]) -> T:
    try:
        return read(decoded(path, file_bytes(path)))
    except YamlTextError as fault:
        line = "" if fault.line is None else f", line {fault.line}"
        raise ObservationError(f"{path}{line}: {fault.rule}", hint=fault.hint) from fault


def _entries(path: Path, node: yaml.Node | None) -> dict[str, yaml.Node]:
    line = 1 if node is None else node.start_mark.line + 1
    if not isinstance(node, yaml.MappingNode) or not node.value:
        raise ObservationError(f"{path}, line {line}: token counts must be a mapping of names to numbers")
    entries: dict[str, yaml.Node] = {}
    for key, value in node.value:
        line = key.start_mark.line + 1
        name = composed(key.value.strip()) if isinstance(key, yaml.ScalarNode) else ""
        if not name or name in entries:
            raise ObservationError(f"{path}, line {line}: names must be unique and not empty", received=str(name))
        entries[name] = value
    return entries


def _count(path: Path, name: str, node: yaml.Node) -> int:
    where = f"{path}, line {node.start_mark.line + 1}: the token count of {name!r}"
    if not isinstance(node, yaml.ScalarNode):
        raise ObservationError(f"{where} must be a number", received="a nested value")
    try:
        number = amount(node.value)
    except ValueError as error:
        raise ObservationError(f"{where} {error}", received=node.value) from error
    if number > _MOST:
        raise ObservationError(f"{where} must be at most {_MOST:g}", received=node.value)
    return number
