"""Joining: rows of several tables that are one run, brought together by run id and never by order, as checked numbers.

Every refusal names file, line, column and value.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations.checks import LARGEST, sum_tolerance
from evermix.observations.columns import Roles, columns_named, is_budget
from evermix.observations.raw import ONE_BUDGET, Fault, RawTable, Row, label, parse, quantity
from evermix.observations.sources import LeftOut, matching

Key = tuple[str, ...]
DROP_RUNS = "--drop-run ID (drop_runs), or all such runs with --drop-bad-runs (drop_bad_runs)"
_FINISHED = frozenset(("finished", "completed", "complete", "success", "succeeded", "done", ""))
_STATES = _FINISHED | {"crashed", "failed", "killed", "running", "preempted", "preempting", "pending", "queued"}
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """One table of a source with the roles of its columns."""

    table: RawTable
    roles: Roles


@dataclass(frozen=True)
class JoinedRun:
    """One run: its id, and its rows in the tables of weights, metrics and, where it is there, standard errors."""

    run_id: str
    weights: Row
    metrics: Row
    errors: Row | None = None


def chosen_rows(
    tables: Sequence[RawTable], ids: str | None, where: Mapping[str, str | float]
) -> tuple[list[RawTable], list[LeftOut]]:
    """The tables with those rows only whose columns hold what `where` says, and the others.

    Raises:
        ObservationError: if no table has such a column, or no row such a value.
    """
    left_out: list[LeftOut] = []
    tables = list(tables)
    for name, wanted in where.items():
        columns = columns_named(tables, name)
        if not any(columns):
            known = list(dict.fromkeys(column for table in tables for column in table.columns))[:12]
            raise ObservationError(
                f"{tables[0].path}: where must name a column of the runs", received=name, hint=f"there are {known}"
            )
        for k, column in enumerate(columns):
            if column is not None:
                tables[k] = _rows_where(tables[k], column, wanted, ids, left_out)
    return tables, left_out


def _rows_where(
    table: RawTable, column: str, wanted: str | float, ids: str | None, left_out: list[LeftOut]
) -> RawTable:
    kept = [row for row in table.rows if _is_chosen(table.cell(row, column), wanted, is_budget(column))]
    if not kept:
        kinds = Counter(label(table.cell(row, column)) for row in table.rows).most_common(12)
        raise ObservationError(
            f"{table.path}: where must leave runs, none has that {column}",
            received=wanted,
            hint="there are " + ", ".join(f"{kind} ({n})" for kind, n in kinds),
        )
    places, used = {row.place for row in kept}, {label(table.cell(row, ids)) for row in kept} if ids else set()
    for row in table.rows:
        if row.place not in places:
            name = label(table.cell(row, ids)) if ids else ""
            reason = f"its {column} is {label(table.cell(row, column))}, and where asks for {wanted}"
            whole = name and name not in used  # an id may stand for several sizes
            left_out.append(
                LeftOut("run", name, reason) if whole else LeftOut("row", f"{table.name}, {row.place}", reason)
            )
    return replace(table, rows=tuple(kept), _parsed={})


def _is_chosen(cell: object, wanted: str | float, budget: bool) -> bool:
    """Equal as numbers, where budgets and sizes are within 1%, or as text."""
    found, asked = quantity(cell), quantity(wanted)
    if found is None or asked is None:
        return label(cell) == label(wanted)
    return math.isclose(found, asked, rel_tol=ONE_BUDGET if budget else 1e-9)


def without_runs(
    tables: Sequence[RawTable], ids: str, patterns: Sequence[str]
) -> tuple[list[RawTable], list[LeftOut], list[str]]:
    """The tables without runs whose ids match, those runs, and the patterns that match none.

    Raises:
        ObservationError: if a table is left without runs.
    """
    names = list(dict.fromkeys(label(table.cell(row, ids)) for table in tables for row in table.rows))
    found = {pattern: matching(pattern, names) for pattern in patterns}
    dropped = {name for matches in found.values() for name in matches}
    kept = []
    for table in tables:
        rows = tuple(row for row in table.rows if label(table.cell(row, ids)) not in dropped)
        if not rows:
            raise ObservationError(f"{table.path}: drop_runs must leave at least one run", received=list(patterns))
        kept.append(replace(table, rows=rows, _parsed={}))
    left_out = [LeftOut("run", name, "asked for with drop_runs") for name in names if name in dropped]
    return kept, left_out, [pattern for pattern, matches in found.items() if not matches]


def join(
    parts: Sequence[Part], ids: str | None, left_out: Sequence[LeftOut] = ()
) -> tuple[list[JoinedRun], list[LeftOut]]:
    """Runs that every table has, in the order of the first, and rows and runs that were left out, here or before.

    The key is the run id, or id and seed where an id repeats and a column of seeds tells its rows apart; a table of
    weights without seeds then holds for all of them.

    Raises:
        ObservationError: if an id is empty, repeats with different values, or no run is in all tables.
    """
    left_out = list(left_out)
    if ids is None:
        (part,) = parts
        finished = _finished_rows(part, None, left_out)
        kept = {row.place for row in finished}
        return [JoinedRun(str(k), r, r) for k, r in enumerate(part.table.rows, start=1) if r.place in kept], left_out
    rows = [_finished_rows(part, ids, left_out) for part in parts]
    seeded = _seeded(parts, rows, ids)
    keyed = [
        _keyed(part, finished, (ids, part.roles.seed) if seed and part.roles.seed else (ids,), left_out)
        for part, finished, seed in zip(parts, rows, seeded, strict=True)
    ]
    return _matched(parts, keyed, left_out), left_out


def _finished_rows(part: Part, ids: str | None, left_out: list[LeftOut]) -> list[Row]:
    """Rows with at least one cell used, of runs that came to their end."""
    table, state = part.table, part.roles.state
    states = {label(table.cell(row, state)).lower() for row in table.rows} if state else set()
    if not states <= _STATES:
        state = None
    positions = [table.columns.index(name) for name in part.roles.used]
    rows = []
    for row in table.rows:
        name = f"{table.name}, {row.place}" if ids is None else label(table.cell(row, ids))
        if all(label(row.cells[j]) == "" for j in positions) and not (ids and name):
            left_out.append(LeftOut("row", f"{table.name}, {row.place}", "every cell is empty"))
        elif state and label(table.cell(row, state)).lower() not in _FINISHED:
            reason = f"its {state} in {table.name} is {label(table.cell(row, state))!r}: not a finished run"
            left_out.append(LeftOut("run", name, reason))
        else:
            rows.append(row)
    if not rows:
        raise ObservationError(f"{table.path}: a table must have at least one finished run")
    return rows


def _seeded(parts: Sequence[Part], rows: Sequence[Sequence[Row]], ids: str) -> list[bool]:
    """Per table, whether its rows are told apart by id and seed."""
    apart = [_seeds_differ(part, finished, ids) for part, finished in zip(parts, rows, strict=True)]
    if not any(apart):
        return [False] * len(parts)
    seeded = [part.roles.seed is not None for part in parts]
    if not all(seeded[1:]):
        bare = parts[seeded.index(False, 1)].table
        raise ObservationError(
            f"{bare.path}: ids that repeat with several seeds elsewhere must have a column of seeds here too",
            hint=f"add the column {parts[apart.index(True)].roles.seed!r}",
        )
    return seeded


def _seeds_differ(part: Part, rows: Sequence[Row], ids: str) -> bool:
    if part.roles.seed is None:
        return False
    seeds: dict[str, set[str]] = {}
    for row in rows:
        seeds.setdefault(label(part.table.cell(row, ids)), set()).add(label(part.table.cell(row, part.roles.seed)))
    return any(len(found) > 1 for found in seeds.values())


def _keyed(part: Part, rows: Sequence[Row], columns: Sequence[str], left_out: list[LeftOut]) -> dict[Key, Row]:
    table = part.table
    found: dict[Key, Row] = {}
    for row in rows:
        key = tuple(label(table.cell(row, column)) for column in columns)
        if "" in key:
            column = columns[key.index("")]
            raise ObservationError(
                f"{table.where(row, column)}: every run must have an id", received=table.cell(row, column)
            )
        if key not in found:
            found[key] = row
            continue
        differing = _differing(part, found[key], row)
        if differing is not None:
            a, b = (table.cell(r, differing) for r in (found[key], row))
            budget = next((name for name in table.columns if is_budget(name)), None)
            way_out = f", or choose runs of one {budget} with where" if budget else ""
            raise ObservationError(
                f"{table.path}: run {'/'.join(key)!r} is in {found[key].place} and in {row.place}, with different "
                f"values of {differing!r}, {a!r} and {b!r}",
                hint=f"remove one, or add a column 'seed' that tells replicates apart{way_out}",
            )
        reason = f"repeats run {'/'.join(key)!r} of {found[key].place} with the same values"
        left_out.append(LeftOut("row", f"{table.name}, {row.place}", reason))
    return found


def _differing(part: Part, first: Row, second: Row) -> str | None:
    """The first used column in which two rows say different things."""
    table = part.table
    k, other = table.rows.index(first), table.rows.index(second)
    for column in part.roles.used:
        a, b = table.parsed(column)[k], table.parsed(column)[other]
        both_missing = isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b)
        if a != b and not both_missing:
            return column
        if not isinstance(a, float) and table.cell(first, column) != table.cell(second, column):
            return column
    return None


def _matched(parts: Sequence[Part], keyed: Sequence[Mapping[Key, Row]], left_out: list[LeftOut]) -> list[JoinedRun]:
    """Runs in the order of the weights, and of the metrics where one row of weights holds for several seeds."""
    weights, metrics = keyed[0], keyed[min(1, len(keyed) - 1)]
    errors = keyed[2] if len(keyed) > 2 else {}
    size = len(next(iter(weights)))
    by_id: dict[Key, list[Key]] = {}
    for key in metrics:
        by_id.setdefault(key[:size], []).append(key)
    runs = [
        JoinedRun("/".join(key), row, metrics[key], errors.get(key))
        for start, row in weights.items()
        for key in by_id.get(start, [])
    ]
    unfinished = {(item.name,) for item in left_out if item.kind == "run"}
    lone = [(key, 0, 1) for key in weights if key not in by_id]
    for j, table in enumerate(keyed[1:], start=1):
        lone += [(key, j, 0) for key in table if key[:size] not in weights]
    left_out += [LeftOut("run", "/".join(k), _only_in(parts, a, b)) for k, a, b in lone if k not in unfinished]
    if not runs:
        examples = " and ".join(f"{_examples(k)} in {part.table.name}" for part, k in zip(parts, keyed, strict=True))
        raise ObservationError(
            f"{parts[0].table.path} and {parts[1].table.name} must have runs in common; the ids are {examples}",
            hint="name the column that both share with id",
        )
    return runs


def _only_in(parts: Sequence[Part], here: int, there: int) -> str:
    return f"it is in {parts[here].table.name} and not in {parts[there].table.name}"


def _examples(keys: Mapping[Key, Row]) -> str:
    return ", ".join(repr("/".join(key)) for key in list(keys)[:3]) + (", ..." if len(keys) > 3 else "")


def numbers(table: RawTable, rows: Sequence[Row], columns: Sequence[str], what: str) -> Floats:
    """Cells as numbers, shape (rows, columns), NaN where missing.

    Raises:
        ObservationError: for a cell that is text, a boolean, or beyond 1e100.
    """
    positions = [table.columns.index(name) for name in columns]
    result = np.empty((len(rows), len(columns)))
    for k, row in enumerate(rows):
        for i, j in enumerate(positions):
            parsed = parse(row.cells[j])
            if isinstance(parsed, Fault):
                raise ObservationError(
                    f"{table.where(row, columns[i])}: a {what} must be a number, not {parsed.reason}",
                    received=row.cells[j],
                    hint=parsed.hint,
                )
            if abs(parsed) > LARGEST:
                raise ObservationError(
                    f"{table.where(row, columns[i])}: a {what} must be a finite number below 1e100",
                    received=row.cells[j],
                    hint=f"leave the run out: {DROP_RUNS}",
                )
            result[k, i] = parsed
    return result


def weights(table: RawTable, rows: Sequence[Row], columns: Sequence[str], percent: bool) -> Floats:
    """Shares, shape (rows, columns), as in the file or divided by 100.

    Raises:
        ObservationError: for a cell that is missing or negative, or a row that does not sum to 1 (100 if `percent`).
    """
    result = numbers(table, rows, columns, "weight")
    bad = np.isnan(result) | (result < 0)
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(
            f"{table.where(rows[k], columns[j])}: a weight must be a number >= 0",
            received=rows[k].cells[table.columns.index(columns[j])],
            hint="write 0 for a domain that a run does not use" if math.isnan(result[k, j]) else None,
        )
    if percent:
        result = result / 100
    sums = result.sum(axis=1)
    for k in np.flatnonzero(np.abs(sums - 1) > sum_tolerance(len(columns))).tolist():
        whole = "100" if percent else "1"
        raise ObservationError(
            f"{table.path}, {rows[k].place}: weights must sum to {whole}",
            received=float(f"{sums[k] * (100 if percent else 1):.6g}"),
            hint=_sum_hint(result, k, columns, percent),
        )
    return result


def _sum_hint(shares: Floats, k: int, columns: Sequence[str], percent: bool) -> str:
    sums, tolerance = shares.sum(axis=1), sum_tolerance(len(columns))
    if not percent and abs(sums[k] / 100 - 1) <= tolerance:
        return "these look like percentages: read with --percent (percent=True), or divide by 100"
    if percent and abs(sums[k] * 100 - 1) <= tolerance:
        return "these look like shares: read without percent"
    for j, column in enumerate(columns):
        if (np.abs(sums - shares[:, j] - 1) <= tolerance).all() and shares[:, j].any():
            return f"without column {column!r} every row does: name the right columns with domains"
    return f"{len(columns)} columns were taken as domains, {columns[0]!r} to {columns[-1]!r}; name others with domains"


def standard_errors(table: RawTable, rows: Sequence[Row], columns: Sequence[str], values: Floats) -> Floats:
    """Standard errors, shape (rows, columns).

    Raises:
        ObservationError: for one that is negative, or missing for a known value though other rows have one.
    """
    result = numbers(table, rows, columns, "standard error")
    lacking = np.isnan(result) & ~np.isnan(values) & ~np.isnan(result).all(axis=0)
    bad = (result < 0) | lacking
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(
            f"{table.where(rows[k], columns[j])}: a standard error must be a number >= 0 where the value is known",
            received=rows[k].cells[table.columns.index(columns[j])],
            hint="leave the whole column out if it is unknown",
        )
    return result


def amounts(table: RawTable, rows: Sequence[Row], column: str) -> Floats:
    """Token budgets or model sizes, shape (rows,); ObservationError for one that is missing or not > 0."""
    result = np.empty(len(rows))
    for k, row in enumerate(rows):
        cell = table.cell(row, column)
        number = quantity(cell)
        if number is None or not 0 < number <= LARGEST:
            raise ObservationError(
                f"{table.where(row, column)}: a budget must be a number > 0, or an amount such as 60M", received=cell
            )
        result[k] = number
    return result
