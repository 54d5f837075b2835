"""Observations: measured runs, each a mixture and the metrics that a model trained on it reached."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError

Floats = npt.NDArray[np.float64]
_SUM_TOLERANCE = 1e-3


@dataclass(frozen=True, eq=False)
class Observations:
    """Runs x domains weights beside runs x metrics values; every array is checked, copied and frozen.

    Attributes:
        domains: the set whose order the columns of `weights` follow.
        weights: shape (runs, domains), shares of training tokens. Rows must sum to 1 within 1e-3 (tables are
            often rounded to three decimals) and are then renormalised.
        metrics: unique names of the columns of `values`.
        values: shape (runs, metrics), lower is better, in each metric's unit (losses: nats per token).
        standard_errors: shape (runs, metrics), >= 0, in the unit of `values`; None when unknown.
        run_ids: unique names of the runs; None names them "0", "1", ...

    Raises:
        ObservationError: on wrong shapes, a weight that is NaN, negative or a percentage, a row that does not sum
            to 1, a value that is not finite, a negative standard error, or a repeated metric or run.
    """

    domains: DomainSet
    weights: Floats
    metrics: tuple[str, ...]
    values: Floats
    standard_errors: Floats | None = None
    run_ids: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        weights = _table(self.weights, "weights")
        metrics = tuple(self.metrics)
        n_runs = len(weights)
        run_ids = tuple(str(k) for k in range(n_runs)) if self.run_ids is None else tuple(self.run_ids)
        _check_unique("metric", metrics)
        if len(run_ids) != n_runs:
            raise ObservationError(f"{n_runs} runs must have as many run ids", received=len(run_ids))
        _check_unique("run id", run_ids)
        _check_shape("weights", weights, (n_runs, len(self.domains)))
        _check_weights(self.domains, run_ids, weights)
        values = _checked_values("value", self.values, run_ids, metrics)
        errors = self.standard_errors
        if errors is not None:
            errors = _checked_values("standard error", errors, run_ids, metrics)
            _refuse("standard error", errors < 0, errors, run_ids, metrics, "must be >= 0", None)
            errors.flags.writeable = False
        weights = weights / weights.sum(axis=1, keepdims=True)
        weights.flags.writeable = values.flags.writeable = False
        for name, checked in (("weights", weights), ("values", values), ("standard_errors", errors)):
            object.__setattr__(self, name, checked)
        object.__setattr__(self, "metrics", metrics)
        object.__setattr__(self, "run_ids", run_ids)

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(self.weights)

    @property
    def live_domains(self) -> tuple[str, ...]:
        """Names of the domains that at least one run was trained on; nothing is known about the others."""
        most = self.weights.max(axis=0)
        return tuple(name for name, weight in zip(self.domains.names, most, strict=True) if weight > 0)

    def __len__(self) -> int:
        return self.n_runs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Observations) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_json(self) -> str:
        """One JSON object; floats are written so that they read back exactly."""
        errors = None if self.standard_errors is None else self.standard_errors.tolist()
        record = {
            "domains": [[d.name, d.n_tokens, d.fingerprint] for d in self.domains],
            "weights": self.weights.tolist(),
            "metrics": list(self.metrics),
            "values": self.values.tolist(),
            "standard_errors": errors,
            "run_ids": list(self.run_ids or ()),
        }
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Observations:
        """Inverse of `to_json`; ObservationError if `text` is not such a record."""
        try:
            record = json.loads(text)
            domains = DomainSet(Domain(*row) for row in record["domains"])
            errors = record["standard_errors"]
            fields = (record["weights"], tuple(record["metrics"]), record["values"], tuple(record["run_ids"]))
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise ObservationError(
                "observations must be a JSON record as to_json writes it", received=str(error)
            ) from (error)
        return cls(domains, fields[0], fields[1], fields[2], errors, fields[3])


def _table(array: npt.ArrayLike, name: str) -> Floats:
    try:
        table = np.array(array, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ObservationError(f"{name} must be a rectangular table of numbers", received=str(error)) from error
    if table.ndim != 2 or len(table) == 0:
        raise ObservationError(f"{name} must be a table with at least one run", received=table.shape)
    return table


def _check_shape(name: str, array: Floats, shape: tuple[int, int]) -> None:
    if array.shape != shape:
        raise ObservationError(f"{name} must have the shape {shape}", received=array.shape)


def _check_unique(kind: str, names: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ObservationError(f"every {kind} must be unique", received=name, hint="drop or rename one of them")
        seen.add(name)


def _checked_values(kind: str, array: npt.ArrayLike, run_ids: Sequence[str], metrics: Sequence[str]) -> Floats:
    table = _table(array, f"{kind}s")
    _check_shape(f"{kind}s", table, (len(run_ids), len(metrics)))
    hint = "leave that run or that metric out"
    _refuse(kind, ~np.isfinite(table), table, run_ids, metrics, "must be a finite number", hint)
    return table


def _refuse(
    kind: str, bad: npt.NDArray[np.bool_], table: Floats, runs: Sequence[str], columns: Sequence[str], *rule: str | None
) -> None:
    """Raise for the first cell where `bad`; `rule` is the rule and the hint."""
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(
            f"{kind} of run '{runs[k]}', '{columns[j]}' {rule[0]}", received=float(table[k, j]), hint=rule[1]
        )


def _check_weights(domains: DomainSet, run_ids: Sequence[str], weights: Floats) -> None:
    bad = ~np.isfinite(weights) | (weights < 0)
    _refuse("weight", bad, weights, run_ids, domains.names, "must be a number >= 0", None)
    sums = weights.sum(axis=1)
    for run_id, total in zip(run_ids, sums, strict=True):
        if abs(total - 1) > _SUM_TOLERANCE:
            hint = "divide percentages by 100" if abs(total - 100) < 1 else "give shares of the run's tokens"
            raise ObservationError(f"weights of run '{run_id}' must sum to 1", received=float(total), hint=hint)
