"""Observations: measured runs, each a mixture and the metrics that a model trained on it reached.

They are kept as a folder of plain files that any tool can read, or as JSON; both read back equal.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, ObservationError, known_names
from evermix.files import write_atomically
from evermix.notebook import html_table
from evermix.observations.checks import (
    as_amounts,
    as_table,
    check_names,
    check_standard_errors,
    check_values,
    check_weights,
)
from evermix.observations.raw import ONE_BUDGET, SIZES, TOKENS, quantity
from evermix.observations.runs import (
    Orientation,
    Runs,
    budgets,
    canonical_order,
    groups_of_equal_rows,
    pooled_deviation,
)
from evermix.wording import as_amount

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_ROUNDING = 1e-12
_SHOWN_RUNS, _SHOWN_COLUMNS = 10, 8  # in a notebook


@dataclass(frozen=True, eq=False)
class Observations:
    """Runs x domains weights beside runs x metrics values; every array is checked, copied and frozen.

    Attributes:
        domains: the set whose order the columns of `weights` follow.
        weights: shape (runs, domains), shares of training tokens. Rows must sum to 1 within 5e-4 per domain (at
            least 1e-3, at most 1e-2: tables are often rounded to three decimals) and are then renormalised.
        metrics: unique names of the columns of `values`.
        values: shape (runs, metrics), in each metric's unit (losses: nats per token); NaN is a missing cell.
        standard_errors: shape (runs, metrics), >= 0, in the unit of `values`; None when unknown. A metric without
            any has a column of NaN; elsewhere NaN is allowed only where the value is missing.
        run_ids: unique names of the runs; None names them "0", "1", ...
        n_tokens: shape (runs,), tokens that each run was trained on, > 0; None when unknown.
        n_parameters: shape (runs,), parameters of each run's model, > 0; None when unknown.
        maximised: the metrics where higher is better.

    Raises:
        ObservationError: on wrong shapes, a weight that is NaN, negative or a percentage, a row that does not sum
            to 1, an infinite value, a negative standard error, a repeated or blank name, an unknown maximised metric.
    """

    domains: DomainSet
    weights: Floats
    metrics: tuple[str, ...]
    values: Floats
    standard_errors: Floats | None = None
    run_ids: tuple[str, ...] | None = None
    n_tokens: Floats | None = None
    n_parameters: Floats | None = None
    maximised: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        weights = as_table(self.weights, "weights")
        n_runs, metrics = len(weights), tuple(self.metrics)
        run_ids = tuple(str(k) for k in range(n_runs)) if self.run_ids is None else tuple(self.run_ids)
        check_names("metric", metrics)
        if len(run_ids) != n_runs:
            raise ObservationError(f"{n_runs} runs must have as many run ids", received=len(run_ids))
        check_names("run id", run_ids)
        weights = as_table(weights, "weights", (n_runs, len(self.domains)))
        check_weights(self.domains, run_ids, weights)
        values = as_table(self.values, "values", (n_runs, len(metrics)))
        check_values(values, run_ids, metrics)
        errors = None
        if self.standard_errors is not None:
            errors = as_table(self.standard_errors, "standard errors", values.shape)
            check_standard_errors(errors, values, run_ids, metrics)
            errors.flags.writeable = False
        unknown = sorted(set(self.maximised) - set(metrics))
        if unknown:
            raise ObservationError("a maximised metric must be one of the metrics", received=unknown[0])
        weights = _renormalised(weights)
        weights.flags.writeable = values.flags.writeable = False
        checked = {
            "weights": weights,
            "metrics": metrics,
            "values": values,
            "standard_errors": errors,
            "run_ids": run_ids,
            "n_tokens": as_amounts(self.n_tokens, "n_tokens", n_runs),
            "n_parameters": as_amounts(self.n_parameters, "n_parameters", n_runs),
            "maximised": frozenset(self.maximised),
        }
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    def _repr_html_(self) -> str:
        counted = (f"{self.n_runs:,} runs", f"{len(self.domains):,} domains", f"{len(self.metrics):,} metrics")
        shares = [[f"{share:.1%}" for share in row] for row in self.weights[:_SHOWN_RUNS, :_SHOWN_COLUMNS]]
        values = [[f"{value:.4g}" for value in row] for row in self.values[:_SHOWN_RUNS, :_SHOWN_COLUMNS]]
        rows = [[run, *p, *y] for run, p, y in zip(self.run_ids or (), shares, values, strict=False)]
        columns = ["run", *self.domains.names[:_SHOWN_COLUMNS], *self.metrics[:_SHOWN_COLUMNS]]
        return html_table(f"Observations: {', '.join(counted)}; the first of each", columns, rows)

    @property
    def n_runs(self) -> int:
        """Number of runs."""
        return len(self.weights)

    @property
    def sampled_domains(self) -> tuple[str, ...]:
        """Names of the domains that at least one run was trained on; nothing is known about the others."""
        most = self.weights.max(axis=0)
        return tuple(name for name, weight in zip(self.domains.names, most, strict=True) if weight > 0)

    @cached_property
    def orientation(self) -> Orientation:
        """How these runs' metrics become costs. It depends on the runs: to compare parts, orient them by the whole."""
        return Orientation.of(self.values, self.metrics, self.maximised)

    @cached_property
    def costs(self) -> Floats:
        """The values as costs, > 0 and lower is better, shape (runs, metrics); NaN where missing."""
        costs = self.orientation.cost(self.values)
        costs.flags.writeable = False
        return costs

    @cached_property
    def replicates(self) -> tuple[Ints, ...]:
        """Positions of runs of one mixture (and one budget and model size), for each mixture with two runs or more."""
        amounts = [np.log(a)[:, None] for a in (self.n_tokens, self.n_parameters) if a is not None]
        return groups_of_equal_rows(np.hstack([self.weights, *amounts]))

    @cached_property
    def noise_from_replicates(self) -> Floats:
        """Pooled standard deviation within `replicates`, shape (metrics,), in each metric's unit; NaN without any."""
        return pooled_deviation(self.values, self.replicates)

    @cached_property
    def sigma(self) -> Floats | None:
        """What laws take as `sigma`: standard errors > 0, shape (runs, metrics), NaN where the value is missing.

        A standard error of 0 (an accuracy of 0 or 1 has such) counts as the least positive one of its metric. A metric
        without any has one constant: its noise between replicates, else its standard deviation over runs.
        """
        if self.standard_errors is None:
            return None
        columns = [self._sigma_of(i) for i in range(len(self.metrics))]
        return np.where(np.isnan(self.values), np.nan, np.stack(columns, axis=1))

    @cached_property
    def runs(self) -> Runs:
        """Mixtures, `costs` and `sigma`, as laws are fitted to them."""
        return Runs(self.weights, self.costs, self.sigma)

    def _sigma_of(self, i: int) -> Floats:
        assert self.standard_errors is not None
        errors = self.standard_errors[:, i]
        positive = errors[errors > 0]
        if len(positive):
            return np.where(errors > 0, errors, positive.min())
        known = self.values[~np.isnan(self.values[:, i]), i]
        noise, spread = float(self.noise_from_replicates[i]), float(known.std()) if len(known) else 0.0
        constant = noise if noise > 0 else spread if spread > 0 else 1.0
        return np.full(self.n_runs, constant)

    def subset(
        self, runs: npt.ArrayLike | Sequence[str] | None = None, metrics: Sequence[str] | None = None
    ) -> Observations:
        """The same with some runs (positions, a mask, or run ids) and metrics (names) only, in the order given.

        Raises:
            ObservationError: if a run or metric is unknown or asked for twice, or none is left.
        """
        rows = np.arange(self.n_runs) if runs is None else self._positions(runs)
        names = self.metrics if metrics is None else tuple(metrics)
        columns = [_position("metric", name, self.metrics) for name in names]
        ids = self.run_ids or ()

        def cells(table: Floats | None) -> Any:
            return None if table is None else table[rows][:, columns]

        return Observations(
            domains=self.domains,
            weights=self.weights[rows],
            metrics=names,
            values=cells(self.values),
            standard_errors=cells(self.standard_errors),
            run_ids=tuple(ids[k] for k in rows),
            n_tokens=None if self.n_tokens is None else self.n_tokens[rows],
            n_parameters=None if self.n_parameters is None else self.n_parameters[rows],
            maximised=self.maximised & set(names),
        )

    def where(self, chosen: Mapping[str, str | float]) -> Observations:
        """The runs of one token budget or one model size: `observations.where({"model_size": "60M"})`.

        Args:
            chosen: n_tokens, model_size, or another name that columns of these have -> amount, with units as in a
                recipe; runs within 1% of it are meant. Other columns are known to `read_observations` only.

        Raises:
            ObservationError: if the runs do not tell such an amount, or none has it.
        """
        kept = np.ones(self.n_runs, dtype=bool)
        for name, wanted in chosen.items():
            kinds = {**dict.fromkeys(TOKENS, self.n_tokens), **dict.fromkeys(SIZES, self.n_parameters)}
            amounts, asked = kinds.get(name.lower()), quantity(wanted)
            if amounts is None or asked is None:
                told = [
                    kind for kind, known in (("n_tokens", TOKENS), ("model_size", SIZES)) if kinds[known[0]] is not None
                ]
                raise ObservationError(
                    "where must choose among what every run tells, by an amount",
                    received=f"{name}={wanted}",
                    hint=f"that is: {', '.join(told) or 'neither n_tokens nor model_size'}",
                )
            kept &= np.abs(amounts / asked - 1) <= ONE_BUDGET
            if not kept.any():
                raise ObservationError(
                    f"where must leave runs, none has that {name}",
                    received=wanted,
                    hint=f"there are {_listed(amounts)}",
                )
        return self if kept.all() else self.subset(runs=kept)

    def check_one_budget(self) -> None:
        """ObservationError if the runs are of several model sizes or token budgets: no law here knows of them."""
        for name, what, amounts in (
            ("model_size", "model size", self.n_parameters),
            ("n_tokens", "token budget", self.n_tokens),
        ):
            kinds = [] if amounts is None else budgets(amounts)
            if amounts is not None and len(kinds) > 1:
                most = as_amount(max(kinds, key=lambda kind: kind[1])[0])
                raise ObservationError(
                    f"a law is fitted to runs of one {what}, or their losses differ by more than the mixture",
                    received=_listed(amounts),
                    hint=f"choose one: --where {name}={most}, in Python where={{{name!r}: {most!r}}}",
                )

    def in_canonical_order(self) -> Observations:
        """The same runs in an order that only their content decides, whatever order they were measured or told in.

        Folds and resamples go by row, and sums depend on the order of their terms, so a law is fitted to runs in this
        order: by mixture, then values, standard errors, budgets and sizes, with columns taken by name; at last by id.
        """
        by_domain = np.argsort(np.array(self.domains.names))
        by_metric = np.argsort(np.array(self.metrics))
        errors = () if self.standard_errors is None else (self.standard_errors[:, by_metric],)
        amounts = (column[:, None] for column in (self.n_tokens, self.n_parameters) if column is not None)
        tables = (self.weights[:, by_domain], self.values[:, by_metric], *errors, *amounts)
        order = canonical_order(np.hstack(tables), self.run_ids or ())
        return self if (np.diff(order) == 1).all() else self.subset(runs=order)

    def _positions(self, runs: npt.ArrayLike | Sequence[str]) -> Ints:
        chosen = np.asarray(runs)
        if chosen.dtype.kind in "US":
            return np.array([_position("run", str(name), self.run_ids or ()) for name in chosen], dtype=np.intp)
        rows = np.arange(self.n_runs)
        try:
            picked: Ints = rows[chosen] if chosen.size else rows[:0]
        except IndexError as error:
            raise ObservationError(f"runs must be positions below {self.n_runs}", received=str(error)) from error
        return picked

    def __len__(self) -> int:
        return self.n_runs

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Observations) and self.to_json() == other.to_json()

    def __hash__(self) -> int:
        return hash(self.to_json())

    def to_csv(self, folder: str | Path) -> None:
        """Write ratios.csv, metrics.csv, tokens.yaml (standard_errors.csv) and layout.yaml, each atomically.

        `read_observations(folder)` gives equal observations back, except for what readers leave out, constant metrics,
        and for sizes that are counted in rows, which the folder has no file for.

        Raises:
            ObservationError: if a name cannot be written as UTF-8, or the folder not at all.
        """
        _write_folder(self, Path(folder))

    def to_json(self) -> str:
        """One JSON object; floats are written so that they read back exactly, missing cells as null."""
        record = {
            "domains": [d.as_row for d in self.domains],
            "weights": self.weights.tolist(),
            "metrics": list(self.metrics),
            "values": _nulls_for_nan(self.values),
            "standard_errors": _nulls_for_nan(self.standard_errors),
            "run_ids": list(self.run_ids or ()),
            "n_tokens": None if self.n_tokens is None else self.n_tokens.tolist(),
            "n_parameters": None if self.n_parameters is None else self.n_parameters.tolist(),
            "maximised": sorted(self.maximised),
        }
        return json.dumps(record, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Observations:
        """Inverse of `to_json`; ObservationError if `text` is not such a record."""
        try:
            record = json.loads(text)
            domains = DomainSet(Domain(*row) for row in record["domains"])
            fields = {
                "metrics": tuple(record["metrics"]),
                "values": record["values"],
                "standard_errors": record["standard_errors"],
                "run_ids": tuple(record["run_ids"]),
                "n_tokens": record.get("n_tokens"),
                "n_parameters": record.get("n_parameters"),
                "maximised": frozenset(record.get("maximised", ())),
            }
            weights = record["weights"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, DomainError) as error:
            raise ObservationError(
                "observations must be a JSON record as to_json writes it", received=str(error)
            ) from error
        return cls(domains, weights, **fields)


def _listed(amounts: Floats) -> str:
    """`20M (4 runs), 60M (8 runs)`."""
    return ", ".join(f"{as_amount(kind)} ({n} run{'s' if n > 1 else ''})" for kind, n in budgets(amounts))


def _renormalised(weights: Floats) -> Floats:
    """Rows divided by their sums; those that sum to 1 but for rounding stay as they are, so that copies are exact."""
    sums = weights.sum(axis=1, keepdims=True)
    result: Floats = np.where(np.abs(sums - 1) > _ROUNDING, weights / sums, weights) + 0.0
    return result


def _nulls_for_nan(table: Floats | None) -> list[list[float | None]] | None:
    if table is None:
        return None
    return [[None if cell != cell else cell for cell in row] for row in table.tolist()]


def _position(kind: str, name: str, names: Sequence[str]) -> int:
    if name not in names:
        raise ObservationError(
            f"a {kind} must be one of the observations'", received=name, hint=known_names(name, names)
        )
    return names.index(name)


def _write_folder(observations: Observations, folder: Path) -> None:
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
    errors = observations.standard_errors
    if errors is None:
        return None
    return _csv([ids, *observations.metrics], observations.run_ids or (), errors.tolist())


def _yaml(value: object) -> str:
    """YAML that reads back equal: the dumper folds unusual line breaks such as U+0085 unless everything is escaped."""
    text = str(yaml.safe_dump(value, allow_unicode=True, sort_keys=False))
    return text if yaml.safe_load(text) == value else str(yaml.safe_dump(value, sort_keys=False))
