"""Assembly: the numbers of joined runs as observations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations import matrices
from evermix.observations.findings import Finding, LeftOut
from evermix.observations.joining import JoinedRun, Part
from evermix.observations.naming import short_names
from evermix.observations.options import ReadOptions, chosen, matching
from evermix.observations.raw import RawTable, Row
from evermix.observations.sources import Source
from evermix.observations.table import Observations
from evermix.observations.tokens import domain_set

Floats = npt.NDArray[np.float64]


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
        return matrices.numbers(part.table, [run.metrics for run in self.joined], part.roles.metrics, "metric")

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
        return matrices.weights(part.table, rows, part.roles.weights, self.options.percent)

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
        result[:, positions] = matrices.standard_errors(table, rows, list(columns.values()), values)

    def _amounts(self, kind: str) -> Floats | None:
        weights, metrics = [run.weights for run in self._runs], [run.metrics for run in self._runs]
        for part, rows in ((self._weights, weights), (self._metrics, metrics)):
            column: str | None = getattr(part.roles, kind)
            if column is not None:
                return matrices.amounts(part.table, rows, column)
        return None

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
