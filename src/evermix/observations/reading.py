"""Reading: from the files of a swarm to observations, with a list of all that was left out and found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from evermix.errors import ObservationError
from evermix.observations.assembly import Assembly
from evermix.observations.columns import id_column, roles
from evermix.observations.findings import Finding, LeftOut
from evermix.observations.formats import read_table
from evermix.observations.inspection import inspect
from evermix.observations.joining import Part, join
from evermix.observations.options import ReadOptions, read_layout
from evermix.observations.raw import RawTable
from evermix.observations.sources import Source, find_source
from evermix.observations.table import Observations


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


def read_observations(source: str | Path | Sequence[str | Path], *, options: ReadOptions | None = None) -> Reading:
    """Read a swarm: runs x domains weights and runs x metrics values, joined by run id.

    Args:
        source: a folder with a pair of tables such as ratios.csv and metrics.csv, joined by their ids, and perhaps
            standard_errors.csv, tokens.yaml and layout.yaml; one table with both; or a pair (ratios, metrics).
            Tables are CSV, TSV, JSON lines or Parquet, plain or gzipped.
        options: what to read otherwise than by default; they precede those of layout.yaml.

    Raises:
        ObservationError: naming file, line, column and value, if the source cannot be read without guessing.
    """
    files = find_source(source)
    given = options or ReadOptions()
    if files.layout is not None:
        given = given.over(read_layout(files.layout))
    tables = _tables(files)
    _check_budgets(tables, given)
    ids = id_column(tables, given.id)
    parts = _parts(tables, ids, given, whole=files.ratios == files.metrics)
    runs, unmatched = join(parts, ids)
    assembly = Assembly(files, parts, runs, given)
    observations, unmeasured = assembly.observations()
    kept, mute, findings = inspect(observations, str(files.metrics))
    columns = [item for part in parts for item in part.roles.left_out]
    about = [assembly.columns_finding(ids, kept), *assembly.rounding_finding()]
    return Reading(kept, (*columns, *unmatched, *unmeasured, *mute), (*about, *findings))


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
