"""Columns: which of a table's columns hold ids, weights, metrics, standard errors and budgets, and their short names.

Weights are found by their names or because they sum to 1; `config.weights.web` or `metric/the_pile_web_val_loss` are
called `web`, as people do.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations.raw import SIZES, TOKENS, UNNAMED, Fault, RawTable, label, quantity
from evermix.observations.runs import budgets
from evermix.observations.sources import ERROR_SUFFIXES, LeftOut, ReadOptions, chosen

ID_NAMES = ("run", "run_id", "index", "id", "name")
SEED_NAMES = ("seed", "replicate", "rep", "trial", "repeat")
_TRACKING = ("state", "status", "notes", "user", "tags", "group", "job_type", "sweep", "host", "hostname", "commit")
_TIMES = (
    "created",
    "createdat",
    "created_at",
    "updated",
    "updated_at",
    "runtime",
    "duration",
    "date",
    "time",
    "timestamp",
)
_OTHER = ("runid", "idx", "unnamed: 0", "step", "steps", "epoch", "path", "url")
_BESIDE = frozenset((*ID_NAMES, *SEED_NAMES, *TOKENS, *SIZES, *_TRACKING, *_TIMES, *_OTHER))
_LOSSES = ("loss", "bpb", "ppl", "nll", "perplexity", "bits")
_SCORES = ("acc", "accuracy", "score", "f1", "em")
_HELD_OUT = ("summary", "metric", "metrics", "eval", "val", "valid", "validation", "test", "heldout")
_METRIC_WORDS = frozenset((*_LOSSES, *_SCORES, *_HELD_OUT))
_TRACKED = frozenset(("state", "runtime", "sweep", "_step", "_runtime", "_timestamp"))
Floats = npt.NDArray[np.float64]
_MARKERS = ("domain_weights", "weights", "weight", "mixtures", "mixture", "mix", "ratios", "ratio", "proportions")
_MARKER = re.compile(rf"(?:^|[./:_-])({'|'.join((*_MARKERS, 'proportion', 'shares', 'share'))})[./:_-]", re.IGNORECASE)
_MARKER_AT_END = re.compile(r"[./:_-](weight|ratio|proportion|share)$", re.IGNORECASE)
_DOMAIN_WORDS = frozenset(
    ("weight", "weights", "mixture", "mixtures", "ratio", "ratios", "proportion", "proportions", "train", "domain")
)
_DOMAIN_PARTS = _DOMAIN_WORDS | {"config", "summary", "value", "training", "mix", "share", "shares", "domains", "data"}
_METRIC_PREFIXES = frozenset(("summary", "summary_metrics", "metric", "metrics"))
_DOMAIN_ENDINGS = ("weight", "weights", "ratio", "proportion", "share")
_METRIC_ENDINGS = ("val", "valid", "validation", "loss")
_MARKS = "./_-"
_DOUBTFUL = "_se"  # also a language: loss_fi, loss_se


@dataclass(frozen=True)
class Roles:
    """Columns of one table by what they hold.

    Attributes:
        weights: columns of weights, in the table's order.
        metrics: columns of metrics.
        errors: metric column -> column of its standard errors.
        tokens, parameters, seed, state: column names, or None.
        left_out: columns that are none of these.
    """

    weights: tuple[str, ...]
    metrics: tuple[str, ...]
    errors: dict[str, str]
    tokens: str | None
    parameters: str | None
    seed: str | None
    state: str | None
    left_out: tuple[LeftOut, ...]

    @property
    def used(self) -> tuple[str, ...]:
        """Every column whose cells become numbers of the observations."""
        budgets = (name for name in (self.tokens, self.parameters) if name)
        return (*self.weights, *self.metrics, *self.errors.values(), *budgets)


def id_column(tables: Sequence[RawTable], given: str | None) -> str | None:
    """The column of run ids that all tables have; None if a single table has none.

    Raises:
        ObservationError: if tables have none in common.
    """
    if given is not None:
        for table in tables:
            chosen((given,), table.columns, f"{table.path}: the id column")
        return given
    for wanted in ID_NAMES:
        for column in tables[0].columns:
            everywhere = all(column in table.columns and not table.is_blank(column) for table in tables)
            if column.lower() == wanted and everywhere:
                return column
    if len(tables) == 1:
        return None
    others = " and ".join(table.name for table in tables[1:])
    raise ObservationError(
        f"{tables[0].path} and {others} must share a column of run ids to be joined by",
        hint=f"call it {', '.join(ID_NAMES[:-1])} or {ID_NAMES[-1]}, or name it with id",
    )


def roles(
    table: RawTable, ids: str | None, options: ReadOptions, holds: frozenset[str], elsewhere: tuple[str, ...] = ()
) -> Roles:
    """The role of each column of a table that holds "weights", "metrics", or both.

    Columns of the same names as the weights `elsewhere` are weights again, not metrics, if their rows sum to 1 or 100.

    Raises:
        ObservationError: if a pattern of the options matches no column, or no weights or metrics are found.
    """
    named = frozenset((*options.domains, *options.metrics))
    tokens = _budget(table, options.tokens_column, TOKENS, named)
    parameters = _budget(table, options.parameters_column, SIZES, named)
    special = {name for name in (ids, tokens, parameters) if name}
    free = [name for name in table.columns if name not in special and not _beside(name)]
    both = len(holds) > 1
    weights: list[str] = []
    if "weights" in holds:
        if options.domains:
            weights = chosen(options.domains, table.columns, f"{table.path}: domains")
        else:
            weights = find_weights(table, free, alone=not both)
    metrics: list[str] = []
    errors: dict[str, str] = {}
    if "metrics" in holds:
        again = elsewhere if repeats_weights(table, elsewhere) else ()
        rest = [name for name in free if name not in again and not (both and name in weights)]
        metrics, errors = _metrics(table, rest, options, tracked=both)
        metrics = [name for name in metrics if name not in errors.values()]
    used = {*special, *weights, *metrics, *errors.values()}
    left_out = tuple(LeftOut("column", name, _why(table, name)) for name in table.columns if name not in used)
    return Roles(
        tuple(weights),
        tuple(metrics),
        errors,
        tokens,
        parameters,
        _first(table, SEED_NAMES, named),
        _first(table, ("state",), named),
        left_out,
    )


def _budget(table: RawTable, given: str | None, names: Sequence[str], named: frozenset[str]) -> str | None:
    """The column of token budgets or model sizes; of several the one with most kinds, so that none is overlooked."""
    found = [name for name in table.columns if name == given or (_plain(name) in names and name not in named)]
    for column in found:
        kinds = Counter(label(table.cell(row, column)) for row in table.rows)
        if _plain(column) == "model_size" and len(kinds) > 1 and not known_amounts(table, column):
            first = next(iter(kinds))
            raise ObservationError(
                f"{table.path}: runs of one model size are read at once, column {column!r} holds several",
                received=", ".join(f"{kind} ({n})" for kind, n in kinds.most_common()),
                hint=f"choose one: --where {column}={first}, in Python where={{{column!r}: {first!r}}}",
            )
    usable = [name for name in found if name == given or known_amounts(table, name)]
    usable.sort(key=lambda name: -1 if name == given else names.index(_plain(name)))
    return max(usable, key=lambda name: len(budgets(known_amounts(table, name))), default=None)


def known_amounts(table: RawTable, column: str) -> list[float]:
    """Numbers and amounts in a column."""
    cells = (quantity(table.cell(row, column)) for row in table.rows)
    return [cell for cell in cells if cell is not None and math.isfinite(cell)]


def is_budget(column: str) -> bool:
    """Whether a column is called as those of token budgets or model sizes are."""
    return _plain(column) in (*TOKENS, *SIZES)


def columns_named(tables: Sequence[RawTable], name: str) -> list[str | None]:
    """Per table the column that a name means: its own or that of `config.<name>`, else, where no table has such a one,
    any for the same kind of budget."""
    same_kind = next((kind for kind in (TOKENS, SIZES) if name.lower() in kind), ())
    own = [name if name in table.columns else _first(table, (name.lower(),), frozenset()) for table in tables]
    return own if any(own) else [_first(table, same_kind, frozenset()) for table in tables]


def _first(table: RawTable, names: Iterable[str], named: frozenset[str]) -> str | None:
    """The first column of one of these names, alone or as the last part of `config.<name>`, unless it is `named`."""
    plain = {_plain(column): column for column in reversed(table.columns) if column not in named}
    return next((plain[name] for name in names if name in plain), None)


def _plain(column: str) -> str:
    parts = re.split(r"[./]", column.lower())
    return parts[-1] if len(parts) == 1 or parts[0] in ("config", "summary", "run") else column.lower()


def _beside(column: str) -> bool:
    """Whether the name says that a column holds neither weights nor metrics."""
    unnamed = column.startswith(UNNAMED.split("{")[0])
    return unnamed or _plain(column) in _BESIDE or any(part.startswith("_") for part in re.split(r"[./]", column))


def _words(column: str) -> set[str]:
    return set(re.split(r"[^a-z0-9]+", column.lower()))


def _metrics(table: RawTable, free: list[str], options: ReadOptions, tracked: bool) -> tuple[list[str], dict[str, str]]:
    """Columns of metrics, and of their standard errors."""
    if options.metrics:
        metrics = chosen(options.metrics, table.columns, f"{table.path}: metrics")
        beside = [name for name in (*metrics, *free) if name not in options.metrics]
        return metrics, _standard_errors(table, beside, options, set(metrics))
    numbers = [name for name in free if table.holds_numbers(name) or table.is_empty(name)]
    if tracked and any(_plain(name) in _TRACKED or name.startswith("config") for name in table.columns):
        named = [c for c in numbers if _words(c) & _METRIC_WORDS and not _words(c) & {"train", "config"}]
        numbers = named or [c for c in numbers if not c.lower().startswith("config")]
    errors = _standard_errors(table, numbers, options, set(numbers))
    orphans = {c for c in numbers if _base(c, options.error_suffixes) and c not in errors.values()}
    metrics = [c for c in numbers if c not in orphans]
    if not metrics:
        raise ObservationError(
            f"{table.path}: a table of metrics must have a column of numbers beside the ids and weights",
            hint=_way_out(table, free) or "name the columns with metrics",
        )
    return metrics, errors


def _way_out(table: RawTable, columns: Sequence[str]) -> str | None:
    """What the first cell says that is a number but for its spelling."""
    cells = (cell for column in columns for cell in table.parsed(column))
    return next((cell.hint for cell in cells if isinstance(cell, Fault) and cell.hint), None)


def _standard_errors(
    table: RawTable, columns: Sequence[str], options: ReadOptions, metrics: set[str]
) -> dict[str, str]:
    found: dict[str, str] = {}
    for column in columns:
        base = _base(column, options.error_suffixes)
        if base in metrics and base != column:
            found.setdefault(base, column)
    if options.error_suffixes != ERROR_SUFFIXES:
        return found
    return {**_doubtful_errors(table, columns, metrics - set(found) - set(found.values())), **found}


def _doubtful_errors(table: RawTable, columns: Sequence[str], metrics: set[str]) -> dict[str, str]:
    """Columns `<metric>_se`, if each metric has one that is smaller than the metric; else they are metrics."""
    found = {base: column for column in columns if (base := _base(column, (_DOUBTFUL,))) in metrics and base != column}
    alone = not metrics - set(found) - set(found.values())
    for base, column in found.items():
        value, error = (np.abs(_matrix(table, [name])) for name in (base, column))
        if not alone or np.isnan(error).all() or not np.nanmedian(error) < np.nanmedian(value) / 2:
            return {}
    return found


def _base(column: str, suffixes: Sequence[str]) -> str:
    """`acc` of `acc_stderr`, `acc,none` of `acc_stderr,none`; "" if no suffix is there."""
    for suffix in suffixes:
        if column.endswith(suffix):
            return column[: -len(suffix)]
        if f"{suffix}," in column:
            return column.replace(f"{suffix},", ",")
    return ""


def _why(table: RawTable, name: str) -> str:
    where = f"column of {table.name}"
    if _beside(name):
        return f"{where} that names or describes runs"
    if not table.holds_numbers(name):
        return f"{where} that holds no numbers"
    return f"{where} that is neither a weight nor a metric; name it in domains or metrics if it is"


def find_weights(table: RawTable, columns: Sequence[str], alone: bool) -> list[str]:
    """Columns of weights among `columns`; all with numbers, if the table is said to hold nothing else (`alone`).

    A group of columns marked as weights (`config.weights.web`, `web_ratio`) whose rows sum to 1 or 100 comes first;
    then the only run of neighbouring columns whose rows do.

    Raises:
        ObservationError: if there are none, or several possible ones.
    """
    numbers = [name for name in columns if table.holds_numbers(name)]
    values = _matrix(table, numbers)
    marked = [group for group in _marked(numbers) if len(group) > 1]
    summing = [group for group in marked if _sums(values[:, [numbers.index(c) for c in group]])]
    if summing:
        return max(summing, key=len)
    if alone:
        return _not_empty(table, numbers)
    if len(marked) == 1:
        return marked[0]
    blocks = _blocks(numbers, values)
    if len(blocks) == 1:
        return blocks[0]
    found = "; ".join(f"{block[0]!r} to {block[-1]!r}" for block in blocks) or None
    raise ObservationError(
        f"{table.path}: one group of neighbouring columns must hold weights that sum to 1",
        received=found,
        hint="name the columns with domains, for example 'weights.*'",
    )


def repeats_weights(table: RawTable, weights: Sequence[str]) -> bool:
    """Whether a table has columns of all these names whose rows mostly sum to 1 or 100."""
    return len(weights) > 1 and set(weights) <= set(table.columns) and _sums(_matrix(table, weights))


def _not_empty(table: RawTable, numbers: list[str]) -> list[str]:
    if not numbers:
        raise ObservationError(
            f"{table.path}: a table of weights must have a column of numbers beside the ids",
            hint="one column per domain",
        )
    return numbers


def _matrix(table: RawTable, columns: Sequence[str]) -> Floats:
    """Cells as numbers, shape (rows, columns); NaN where they are none."""
    cells = [[cell if isinstance(cell, float) else np.nan for cell in table.parsed(c)] for c in columns]
    matrix = np.array(cells, dtype=np.float64).reshape(len(columns), len(table.rows)).T
    return np.where(np.isfinite(matrix), matrix, np.nan)


def _marked(columns: Sequence[str]) -> list[list[str]]:
    """Groups of columns that share everything up to a marker, or end in the same marker; no group twice."""
    groups: dict[str, list[str]] = {}
    for column in columns:
        for start in {match.end() for match in _MARKER.finditer(column)}:
            groups.setdefault(column[:start], []).append(column)
        if end := _MARKER_AT_END.search(column):
            groups.setdefault(f"*{end[0]}", []).append(column)
    distinct = {tuple(group): group for group in groups.values()}
    return list(distinct.values())


def _sums(values: Floats) -> bool:
    """Whether most rows sum to about 1 or 100."""
    sums = values.sum(axis=1)
    return bool((_about(sums, 1) | _about(sums, 100)).mean() > 0.5)


def _about(sums: Floats, target: float) -> npt.NDArray[np.bool_]:
    with np.errstate(invalid="ignore", over="ignore"):
        result: npt.NDArray[np.bool_] = np.abs(sums / target - 1) < 0.02
    return result


def _blocks(columns: Sequence[str], values: Floats) -> list[list[str]]:
    """Longest runs of neighbouring non-negative columns in which every row sums to about 1, or to about 100."""
    found: list[tuple[int, int]] = []
    usable = np.array(~np.isnan(values).any(axis=0) & ((values >= 0) & (values <= 101)).all(axis=0), dtype=bool)
    for start in range(len(columns)):
        if usable[start]:
            stop = start
            while stop < len(columns) and usable[stop]:
                stop += 1
            sums = np.cumsum(values[:, start:stop], axis=1)
            whole = np.array(_about(sums, 1).all(axis=0) | _about(sums, 100).all(axis=0), dtype=bool)
            whole[0] = False
            if whole.any():
                found.append((start, start + int(np.flatnonzero(whole)[-1]) + 1))
    kept = [b for b in found if not any(o != b and o[0] <= b[0] and b[1] <= o[1] for o in found)]
    return [list(columns[start:stop]) for start, stop in kept]


def short_names(domains: Sequence[str], metrics: Sequence[str]) -> tuple[list[str], list[str]]:
    """Shorter names of both kinds of columns, or the columns' own where shortening is not safe.

    Off comes what every column of a kind begins with, as far as it consists of words like `config`, `weights`, `train`
    or `metric`; what every one ends with, as far as it is `_weight` or `_val_loss`; and then a prefix such as
    `the_pile_` that all domains and all metrics share. A name is never cut at or after a colon, and never so that
    two become one or one becomes empty.
    """
    shares = _safe(domains, _without_ends(domains, _DOMAIN_PARTS, _DOMAIN_ENDINGS))
    values = _safe(metrics, _without_ends(metrics, _METRIC_PREFIXES, _METRIC_ENDINGS))
    if len(shares) > 1 and len(values) > 1:
        length = len(_common_prefix([*shares, *values]))
        shorter = _safe(shares, [name[length:] for name in shares]), _safe(values, [name[length:] for name in values])
        if length and shorter[0] != shares and shorter[1] != values:
            return shorter
    return shares, values


def _without_ends(names: Sequence[str], words: frozenset[str], endings: tuple[str, ...]) -> list[str]:
    short = list(names)
    while short and (length := _common_word(short, words)):
        short = [name[length:] for name in short]
    trimmed = True
    while trimmed and len(short) > 1:
        trimmed = False
        for ending in endings:
            if all(re.search(rf"[./_-]{ending}$", name) for name in short):
                short, trimmed = [name[: -len(ending) - 1] for name in short], True
    return short


def _common_word(names: Sequence[str], words: frozenset[str]) -> int:
    """Length of the boilerplate word and mark with which all names begin; 0 without one."""
    match = re.match(r"([A-Za-z_]+)[./]", names[0]) or re.match(r"([A-Za-z]+)[_-]", names[0])
    if match is None or match[1].lower() not in words:
        return 0
    if match[0][-1] in "_-" and (len(names) == 1 or match[1].lower() not in _DOMAIN_WORDS | _METRIC_PREFIXES):
        return 0
    return len(match[0]) if all(name.startswith(match[0]) for name in names) else 0


def _common_prefix(names: Sequence[str]) -> str:
    """What all names begin with, up to its last mark, and before any colon."""
    first, last = min(names), max(names)
    length = next((k for k, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    prefix = first[:length].split(":")[0]
    return prefix[: max((prefix.rfind(mark) for mark in _MARKS), default=-1) + 1]


def _safe(names: Sequence[str], short: Sequence[str]) -> list[str]:
    """`short`, or `names` if that loses or confuses something."""
    good = all(name and name == name.strip() and name[0] not in ":" + _MARKS for name in short)
    return list(short) if good and len(set(short)) == len(names) else list(names)
