"""Reading: from the files of a swarm to observations, with a list of all that was left out and found.

The numbers of joined runs are assembled, metrics that say nothing are left out, and what a reader should know is found.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations.columns import id_column, known_amounts, roles, short_names
from evermix.observations.joining import (
    JoinedRun,
    Part,
    amounts,
    chosen_rows,
    join,
    numbers,
    standard_errors,
    weights,
    without_runs,
)
from evermix.observations.raw import RawTable, Row, read_table
from evermix.observations.runs import budgets, groups_of_equal_rows
from evermix.observations.sources import (
    Finding,
    LeftOut,
    ReadOptions,
    Source,
    chosen,
    domain_set,
    find_source,
    matching,
    read_layout,
)
from evermix.observations.table import Observations

_HIGHER_IS_BETTER = frozenset(("acc", "accuracy", "f1", "em", "bleu", "rouge", "mcc", "auc", "winrate"))
Floats = npt.NDArray[np.float64]
_ROUNDING = 1e-12  # values closer than this, relative to their size, are one value


def inspect(observations: Observations, where: str) -> tuple[Observations, list[LeftOut], list[Finding]]:
    """Observations without metrics that no law can learn and runs that are then without any; left out; findings.

    Args:
        observations: as read.
        where: the source, for messages.

    Raises:
        ObservationError: if no metric remains.
    """
    observations, left_out = without_mute_metrics(observations, f"{where}: ")
    return observations, left_out, _findings(observations)


def without_mute_metrics(observations: Observations, where: str = "") -> tuple[Observations, list[LeftOut]]:
    """Observations without metrics that no law can learn and runs that are then without any; left out.

    Args:
        where: begins the message.

    Raises:
        ObservationError: if no metric remains.
    """
    left_out: list[LeftOut] = []
    while True:
        reasons = _mute_metrics(observations)
        kept = [name for name in observations.metrics if name not in reasons]
        left_out += [LeftOut("metric", name, reason) for name, reason in reasons.items()]
        if not kept:
            raise ObservationError(
                f"{where}at least one metric must differ between runs, of {observations.n_runs} that were read",
                received="; ".join(f"{name}: {reason}" for name, reason in list(reasons.items())[:5]),
                hint="look at what scores them; runs of other mixtures, or longer ones, may tell them apart",
            )
        observations = observations.subset(metrics=kept)
        measured = ~np.isnan(observations.values).all(axis=1)
        if measured.all():
            return observations, left_out
        ids = np.array(observations.run_ids, dtype=object)[~measured]
        left_out += [LeftOut("run", str(name), "it has no metric at all but those left out") for name in ids]
        observations = observations.subset(runs=measured)


def _mute_metrics(observations: Observations) -> dict[str, str]:
    reasons: dict[str, str] = {}
    for i, name in enumerate(observations.metrics):
        column = observations.values[:, i]
        known = column[~np.isnan(column)]
        if not len(known):
            reasons[name] = "it has no value in any run"
        elif len(known) == 1:
            reasons[name] = "it has a value in one run only"
        elif np.ptp(known) <= _ROUNDING * np.abs(known).max():
            reasons[name] = f"it is {known[0]:.6g} in every run: no law can learn from a constant"
    return reasons


def _findings(observations: Observations) -> list[Finding]:
    found = [
        *_missing_cells(observations),
        *_never_sampled(observations),
        *_too_few_runs(observations),
        *_replicates(observations),
    ]
    doubtful = [
        name
        for name in observations.metrics
        if name not in observations.maximised and _HIGHER_IS_BETTER & set(re.split(r"[^a-z0-9]+", name.lower()))
    ]
    if doubtful:
        detail = f"{', '.join(doubtful)}: taken as lower is better; if higher is better, name them in maximise"
        found.append(Finding("direction", detail))
    return found


def _missing_cells(observations: Observations) -> list[Finding]:
    missing = np.isnan(observations.values).sum(axis=0)
    if not missing.any():
        return []
    each = ", ".join(f"{observations.metrics[i]} {missing[i]}" for i in np.flatnonzero(missing)[:8])
    more = ", ..." if (missing > 0).sum() > 8 else ""
    return [
        Finding("missing cells", f"{missing.sum()} of {observations.values.size} cells have no value: {each}{more}")
    ]


def _never_sampled(observations: Observations) -> list[Finding]:
    sampled = set(observations.sampled_domains)
    unsampled = [name for name in observations.domains.names if name not in sampled]
    if not unsampled:
        return []
    return [Finding("never sampled", f"no run was trained on {', '.join(unsampled)}: nothing is known of them")]


def _too_few_runs(observations: Observations) -> list[Finding]:
    n_sampled = len(observations.sampled_domains)
    repeated = sum(len(group) - 1 for group in groups_of_equal_rows(observations.weights))
    distinct = observations.n_runs - repeated
    if distinct >= n_sampled + 1:
        return []
    detail = (
        f"{distinct} distinct mixtures for {n_sampled} sampled domains: a law with one coefficient per domain has "
        f"{n_sampled + 1} parameters and needs {n_sampled + 1 - distinct} more"
    )
    return [Finding("too few runs", detail)]


def _replicates(observations: Observations) -> list[Finding]:
    groups = observations.replicates
    if not groups:
        return []
    detail = f"mixtures run more than once: {len(groups)}, with {sum(map(len, groups))} runs; they tell the noise"
    return [Finding("replicates", detail)]


@dataclass(frozen=True)
class Assembly:
    """Joined runs on their way to observations.

    Attributes:
        files: where they come from.
        parts: the tables of weights and of metrics, which may be one, and that of standard errors if there is one.
        joined: runs with their rows.
        options: how to read them.
    """

    files: Source
    parts: Sequence[Part]
    joined: Sequence[JoinedRun]
    options: ReadOptions

    @property
    def _weights(self) -> Part:
        return self.parts[0]

    @property
    def _metrics(self) -> Part:
        return self.parts[0] if self.files.ratios == self.files.metrics else self.parts[1]

    @property
    def _errors(self) -> Part | None:
        return self.parts[-1] if self.files.errors else None

    @cached_property
    def _all_values(self) -> Floats:
        part = self._metrics
        return numbers(part.table, [run.metrics for run in self.joined], part.roles.metrics, "metric")

    @cached_property
    def _runs(self) -> list[JoinedRun]:
        """Runs with a metric."""
        measured = np.array(~np.isnan(self._all_values).all(axis=1), dtype=bool)
        runs = [run for run, good in zip(self.joined, measured, strict=True) if good]
        if not runs:
            raise ObservationError(f"{self._metrics.table.path}: at least one run must have a metric")
        return runs

    @cached_property
    def _values(self) -> Floats:
        return self._all_values[~np.isnan(self._all_values).all(axis=1)]

    @cached_property
    def _shares(self) -> Floats:
        part = self._weights
        rows = [run.weights for run in self._runs]
        return weights(part.table, rows, part.roles.weights, self.options.percent)

    @cached_property
    def _names(self) -> tuple[list[str], list[str]]:
        """Names of domains and metrics."""
        domains, metrics = self._weights.roles.weights, self._metrics.roles.metrics
        return short_names(domains, metrics) if self.options.strip else (list(domains), list(metrics))

    def observations(self) -> tuple[Observations, list[LeftOut]]:
        """The runs that have a metric, without the metrics to drop; and what was left out."""
        kept = {run.run_id for run in self._runs}
        left_out = [
            LeftOut("run", run.run_id, "it has no metric at all") for run in self.joined if run.run_id not in kept
        ]
        columns, (names, metrics) = self._weights.roles.weights, self._names
        tokens = self.options.tokens_file or self.files.tokens
        domains, uncounted = domain_set(names, columns, tokens, self._weights.table.path)
        observations = Observations(
            domains=domains,
            weights=self._shares,
            metrics=tuple(metrics),
            values=self._values,
            standard_errors=self._standard_errors(),
            run_ids=tuple(run.run_id for run in self._runs),
            n_tokens=self._amounts("tokens"),
            n_parameters=self._amounts("parameters"),
            maximised=frozenset(self._chosen(self.options.maximise, "maximise")),
        )
        dropped = self._chosen(self.options.drop, "drop")
        left_out += [*uncounted, *(LeftOut("metric", name, "asked for with drop") for name in dropped)]
        if len(dropped) == len(metrics):
            raise ObservationError("drop must leave at least one metric", received=", ".join(self.options.drop))
        return observations.subset(metrics=[name for name in metrics if name not in dropped]), left_out

    @property
    def fault(self) -> str:
        """Why the numbers of these runs cannot be read; "" if they can."""
        try:
            if np.isnan(self._all_values).all():
                return ""
            _ = self._shares, self._standard_errors(), self._amounts("tokens"), self._amounts("parameters")
        except ObservationError as error:
            return f"{error.rule}, got {error.received!r}" if error.received is not None else error.rule
        return ""

    def _chosen(self, patterns: Sequence[str], option: str) -> list[str]:
        """Metrics that patterns mean, by their names here or else in the file."""
        metrics, columns = self._names[1], self._metrics.roles.metrics
        found: set[str] = set()
        for pattern in patterns:
            in_file = [metrics[columns.index(name)] for name in matching(pattern, columns)]
            found.update(
                matching(pattern, metrics)
                or in_file
                or chosen((pattern,), metrics, f"{self._metrics.table.path}: {option}")
            )
        return [name for name in metrics if name in found]

    def _standard_errors(self) -> Floats | None:
        """From columns beside the metrics, and from a table of their own, which goes first."""
        part = self._metrics
        result = np.full(self._values.shape, np.nan)
        self._fill(result, part.table, part.roles.errors, [run.metrics for run in self._runs])
        if self._errors is not None:
            table = self._errors.table
            blank = Row("no row", tuple(None for _ in table.columns))
            rows = [run.errors or replace(blank, place=f"run {run.run_id!r}") for run in self._runs]
            self._fill(result, table, {name: name for name in self._errors.roles.metrics}, rows)
        return None if np.isnan(result).all() else result

    def _fill(self, result: Floats, table: RawTable, columns: Mapping[str, str], rows: Sequence[Row]) -> None:
        """Standard errors of the metric columns that are keys of `columns`."""
        positions = [self._metrics.roles.metrics.index(metric) for metric in columns]
        values = self._values[:, positions]
        result[:, positions] = standard_errors(table, rows, list(columns.values()), values)

    def _amounts(self, kind: str) -> Floats | None:
        """Of the table whose column holds more kinds: one that is alike in all runs says nothing about the other."""
        found: Floats | None = None
        for part, rows in (
            (self._weights, [run.weights for run in self._runs]),
            (self._metrics, [run.metrics for run in self._runs]),
        ):
            column: str | None = getattr(part.roles, kind)
            if column is not None and (found is None or len(budgets(known_amounts(part.table, column))) > 1):
                found = amounts(part.table, rows, column)
        return found

    def columns_finding(self, ids: str | None, kept: Observations) -> Finding:
        """What the columns were taken for."""
        weights, metrics = self._weights, self._metrics
        pieces = [
            "no column of run ids, runs are named by their order" if ids is None else f"run ids from {ids!r}",
            f"{len(kept.domains)} domains ({_some(kept.domains.names)}) from {weights.table.name}",
            f"{len(kept.metrics)} metrics ({_some(kept.metrics)}) from {metrics.table.name}",
        ]
        if metrics.roles.errors:
            pieces.append(f"standard errors from {_some(tuple(metrics.roles.errors.values()))}")
        for kind in ("tokens", "parameters"):
            column = getattr(weights.roles, kind) or getattr(metrics.roles, kind)
            pieces += [f"{kind} of each run from {column!r}"] if column else []
        return Finding("columns", "; ".join(pieces))

    def rounding_finding(self) -> list[Finding]:
        """A finding if some rows of weights sum to 1 only roughly."""
        off = np.abs(self._shares.sum(axis=1) - 1)
        n_off = int((off > 1e-6).sum())
        if not n_off:
            return []
        detail = f"weights of {n_off} of {len(off)} runs sum to 1 only within {off.max():.2g}, and were renormalised"
        return [Finding("rounded weights", detail)]


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]}, {names[1]}, ..., {names[-1]}"


@dataclass(frozen=True)
class Reading:
    """What a source holds.

    Attributes:
        observations: the runs that can be used.
        left_out: every run, metric, column and row of the source that is not in them, with the reason.
        findings: what is in them and should be known.
    """

    observations: Observations
    left_out: tuple[LeftOut, ...]
    findings: tuple[Finding, ...]


def read_observations(
    source: str | Path | Sequence[str | Path],
    *,
    options: ReadOptions | None = None,
    where: Mapping[str, str | float] | None = None,
) -> Reading:
    """Read a swarm: runs x domains weights and runs x metrics values, joined by run id.

        reading = em.read_observations("swarm")
        reading.observations, reading.left_out

    Args:
        source: a folder with a pair of tables such as ratios.csv and metrics.csv, joined by their ids, and perhaps
            standard_errors.csv, tokens.yaml and layout.yaml; one table with both; or a pair (ratios, metrics).
            Tables are CSV, TSV, JSON lines or Parquet, plain or gzipped.
        options: what to read otherwise than by default; they precede those of layout.yaml.
        where: which runs to read, column -> value, `{"model_size": "60M"}`; beside that of the options.

    Raises:
        ObservationError: naming file, line, column and value, if the source cannot be read without guessing.
    """
    files = find_source(source)
    given = options or ReadOptions()
    if files.layout is not None:
        given = given.over(read_layout(files.layout))
    tables = _tables(files)
    ids = id_column(tables, given.id)
    tables, unasked = chosen_rows(tables, ids, {**given.where, **(where or {})})
    undesired, patterns = list[LeftOut](), list(given.drop_runs)
    if ids is not None and patterns:
        tables, undesired, patterns = without_runs(tables, ids, patterns)
    _check_budgets(tables, given)
    parts = _parts(tables, ids, given, whole=files.ratios == files.metrics)
    runs, unmatched = join(parts, ids, [*unasked, *undesired])
    runs, bad = _good_runs(Assembly(files, parts, runs, given), patterns)
    assembly = Assembly(files, parts, runs, given)
    observations, unmeasured = assembly.observations()
    kept, mute, findings = inspect(observations, str(files.metrics))
    columns = [item for part in parts for item in part.roles.left_out]
    about = [assembly.columns_finding(ids, kept), *assembly.rounding_finding()]
    about += [
        Finding("decimal commas", f"{table.name}: numbers are read with decimal commas, 0,5 as 0.5")
        for table in tables
        if table.decimal_commas
    ]
    return Reading(kept, (*columns, *unmatched, *bad, *unmeasured, *mute), (*about, *findings))


def _good_runs(read: Assembly, patterns: Sequence[str]) -> tuple[list[JoinedRun], list[LeftOut]]:
    """Runs that match none of `patterns` and, where bad ones are to be dropped, whose every cell can be read."""
    where = f"{read.files.metrics}: drop_runs"
    names = set(chosen(patterns, [run.run_id for run in read.joined], where)) if patterns else set()
    reasons = dict.fromkeys(names, "asked for with drop_runs")
    if read.options.drop_bad_runs:
        faults = {run.run_id: replace(read, joined=[run]).fault for run in read.joined if run.run_id not in names}
        reasons |= {name: fault for name, fault in faults.items() if fault}
    if len(reasons) == len(read.joined):
        raise ObservationError(
            f"{where} and drop_bad_runs must leave at least one run, but {next(iter(reasons.values()))}"
        )
    kept = [run for run in read.joined if run.run_id not in reasons]
    return kept, [LeftOut("run", run.run_id, reasons[run.run_id]) for run in read.joined if run.run_id in reasons]


def _tables(files: Source) -> list[RawTable]:
    """Tables of weights, metrics (unless it is the same) and standard errors (if there is one)."""
    paths = list(dict.fromkeys((files.ratios, files.metrics)))
    return [read_table(path) for path in (*paths, *([files.errors] if files.errors else []))]


def _check_budgets(tables: Sequence[RawTable], options: ReadOptions) -> None:
    for option in ("tokens_column", "parameters_column"):
        name = getattr(options, option)
        if name is not None and not any(name in table.columns for table in tables):
            raise ObservationError(f"{tables[0].path}: {option} must name a column", received=name)


def _parts(tables: Sequence[RawTable], ids: str | None, options: ReadOptions, whole: bool) -> list[Part]:
    weights, metrics = frozenset(("weights",)), frozenset(("metrics",))
    if whole:
        parts = [Part(tables[0], roles(tables[0], ids, options, weights | metrics))]
    else:
        parts = [Part(tables[0], roles(tables[0], ids, options, weights))]
        parts.append(Part(tables[1], roles(tables[1], ids, options, metrics, parts[0].roles.weights)))
    if len(tables) > len(parts):
        wanted = tuple(name for name in parts[-1].roles.metrics if name in tables[-1].columns)
        if not wanted:
            raise ObservationError(f"{tables[-1].path}: standard errors must have columns named as the metrics are")
        parts.append(Part(tables[-1], roles(tables[-1], ids, replace(options, metrics=wanted), metrics)))
    return parts
