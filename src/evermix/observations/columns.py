"""Columns: which of a table's columns hold ids, weights, metrics, standard errors and budgets."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from evermix.errors import ObservationError
from evermix.observations.findings import LeftOut
from evermix.observations.options import ReadOptions, chosen
from evermix.observations.raw import UNNAMED, RawTable
from evermix.observations.weight_groups import find_weights, repeats_weights

ID_NAMES = ("run", "run_id", "index", "id", "name")
SEED_NAMES = ("seed", "replicate", "rep", "trial", "repeat")
_TOKENS = ("n_tokens", "num_tokens", "tokens", "token_budget", "training_tokens", "train_tokens")
_PARAMETERS = ("n_parameters", "num_parameters", "parameters", "n_params", "num_params", "params", "model_size")
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
_BESIDE = frozenset((*ID_NAMES, *SEED_NAMES, *_TOKENS, *_PARAMETERS, *_TRACKING, *_TIMES, *_OTHER))
_LOSSES = ("loss", "bpb", "ppl", "nll", "perplexity", "bits")
_SCORES = ("acc", "accuracy", "score", "f1", "em")
_HELD_OUT = ("summary", "metric", "metrics", "eval", "val", "valid", "validation", "test", "heldout")
_METRIC_WORDS = frozenset((*_LOSSES, *_SCORES, *_HELD_OUT))
_TRACKED = frozenset(("state", "runtime", "sweep", "_step", "_runtime", "_timestamp"))


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
    tokens = _budget(table, options.tokens_column, _TOKENS, named)
    parameters = _budget(table, options.parameters_column, _PARAMETERS, named)
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
    if given is not None:
        return given if given in table.columns else None
    found = _first(table, names, named)
    return found if found is not None and table.holds_numbers(found) else None


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
        return metrics, _standard_errors(beside, options, set(metrics))
    numbers = [name for name in free if table.holds_numbers(name) or table.is_empty(name)]
    if tracked and any(_plain(name) in _TRACKED or name.startswith("config") for name in table.columns):
        named = [c for c in numbers if _words(c) & _METRIC_WORDS and not _words(c) & {"train", "config"}]
        numbers = named or [c for c in numbers if not c.lower().startswith("config")]
    errors = _standard_errors(numbers, options, set(numbers))
    orphans = {c for c in numbers if _base(c, options.error_suffixes[:-1]) and c not in errors.values()}
    metrics = [c for c in numbers if c not in orphans]
    if not metrics:
        raise ObservationError(
            f"{table.path}: a table of metrics must have a column of numbers beside the ids and weights",
            hint="name the columns with metrics",
        )
    return metrics, errors


def _standard_errors(columns: Sequence[str], options: ReadOptions, metrics: set[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for column in columns:
        base = _base(column, options.error_suffixes)
        if base in metrics and base != column:
            found.setdefault(base, column)
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
