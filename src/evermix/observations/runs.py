"""Runs: mixtures and the costs measured on them, as laws, designs and solvers take them.

Metrics of any unit and direction are oriented into costs, positive and lower is better; runs of one mixture tell the
noise.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.observations.raw import ONE_BUDGET

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]
_SAME = 1e-9
FEWEST_HOLDERS = 3  # runs that must hold a domain, so that what it does can be told from those runs' noise


@dataclass(frozen=True, eq=False)
class Runs:
    """What a law is fitted to; every array is checked, copied and frozen.

    Attributes:
        mixtures: shape (runs, domains), shares >= 0; each row sums to 1 within 1e-3.
        values: shape (runs, metrics), > 0, lower is better (costs: losses in nats per token, bits per byte, or a
            metric turned into such, see `Observations.runs`); NaN is a missing cell.
        sigma: standard errors, shape (runs, metrics), > 0, NaN where the value is missing; None when unknown. Only
            their ratios within a metric count.
        counts: how often each run counts, shape (runs,), >= 0; a run of count 2 is that run given twice. None for
            once each.

    Raises:
        ObservationError: naming the run and the column, by position.
    """

    mixtures: Floats
    values: Floats
    sigma: Floats | None = None
    counts: Floats | None = None

    def __post_init__(self) -> None:
        mixtures, values = np.array(self.mixtures, dtype=np.float64), np.array(self.values, dtype=np.float64)
        if mixtures.ndim != 2 or values.ndim != 2 or len(mixtures) != len(values) or not len(mixtures):
            shapes = f"{mixtures.shape} and {values.shape}"
            raise ObservationError(
                "runs must be P (runs, domains) and Y (runs, metrics) of the same runs", received=shapes
            )
        wrong = ~np.isfinite(mixtures) | (mixtures < 0)
        _refuse(wrong, mixtures, "weight of run {} in domain {} must be a number >= 0")
        off = np.abs(mixtures.sum(axis=1) - 1)
        if off.max() > 1e-3:
            worst = int(off.argmax())
            raise ObservationError(f"weights of run {worst} must sum to 1", received=float(mixtures[worst].sum()))
        _refuse(np.isinf(values) | (values <= 0), values, "value of run {} in metric {} must be a number > 0")
        counts = None if self.counts is None else _checked_counts(self.counts, len(values))
        sigma = None if self.sigma is None else _checked_errors(self.sigma, values)
        for name, array in {"mixtures": mixtures, "values": values, "sigma": sigma, "counts": counts}.items():
            if array is not None:
                array.flags.writeable = False
            object.__setattr__(self, name, array)

    @classmethod
    def of(
        cls,
        P: npt.ArrayLike,
        Y: npt.ArrayLike,
        sigma: npt.ArrayLike | None = None,
        counts: npt.ArrayLike | None = None,
    ) -> Runs:
        """Runs of array-likes: P (runs, domains), Y (runs, metrics), sigma (runs, metrics), counts (runs,)."""
        optional = (None if table is None else np.asarray(table, dtype=np.float64) for table in (sigma, counts))
        return cls(np.asarray(P, dtype=np.float64), np.asarray(Y, dtype=np.float64), *optional)

    def __len__(self) -> int:
        return len(self.mixtures)

    @property
    def n_domains(self) -> int:
        """Columns of `mixtures`."""
        return self.mixtures.shape[1]

    @property
    def n_metrics(self) -> int:
        """Columns of `values`."""
        return self.values.shape[1]

    def take(self, chosen: Ints | Bools) -> Runs:
        """The runs at `chosen`, positions or a mask (runs,)."""
        sigma, counts = (None if table is None else table[chosen] for table in (self.sigma, self.counts))
        return Runs(self.mixtures[chosen], self.values[chosen], sigma, counts)

    def of_metrics(self, chosen: Ints | Bools) -> Runs:
        """The same runs with the metrics at `chosen` only."""
        sigma = None if self.sigma is None else self.sigma[:, chosen]
        return replace(self, values=self.values[:, chosen], sigma=sigma)


def _checked_errors(sigma: Floats, values: Floats) -> Floats:
    errors = np.array(sigma, dtype=np.float64)
    if errors.shape != values.shape:
        raise ObservationError(f"sigma must have the shape of Y, {values.shape}", received=errors.shape)
    errors = np.where(np.isnan(values), np.nan, errors)
    wrong = ~np.isnan(values) & ~(np.isfinite(errors) & (errors > 0))
    _refuse(wrong, errors, "standard error of run {} in metric {} must be a number > 0")
    return errors


def _checked_counts(counts: Floats, n_runs: int) -> Floats:
    array = np.array(counts, dtype=np.float64)
    if array.shape != (n_runs,):
        raise ObservationError(f"counts must have one number per run, {n_runs}", received=array.shape)
    _refuse(~(np.isfinite(array) & (array >= 0))[:, None], array[:, None], "count of run {} (column {}) must be >= 0")
    return array


def _refuse(bad: Bools, table: Floats, rule: str) -> None:
    if bad.any():
        k, j = np.argwhere(bad)[0]
        raise ObservationError(rule.format(int(k), int(j)), received=float(table[k, j]))


@dataclass(frozen=True, eq=False)
class Orientation:
    """cost = sign * value + shift, one pair per metric.

    Attributes:
        sign: shape (metrics,), +1 where lower is better, -1 where higher is better.
        shift: shape (metrics,), in the metric's unit.
    """

    sign: Floats
    shift: Floats

    @classmethod
    def of(cls, values: Floats, metrics: tuple[str, ...], maximised: Set[str]) -> Orientation:
        """The orientation in which every known cell of `values`, shape (runs, metrics), has a cost > 0.

        Minimised and positive: cost = value. Minimised with values <= 0: cost = value - min + range. Maximised:
        cost = max + range - value, a distance to a ceiling one range above the best run. So another unit scales the
        costs, and another offset of a shifted metric changes nothing.
        """
        sign = np.array([-1.0 if name in maximised else 1.0 for name in metrics])
        least = np.where(np.isnan(values), np.inf, values).min(axis=0)
        most = np.where(np.isnan(values), -np.inf, values).max(axis=0)
        known = most >= least
        least, most = np.where(known, least, 1.0), np.where(known, most, 1.0)
        spread = most - least
        size = np.maximum(np.abs(least), np.abs(most))
        spread = np.where(spread > 1e-9 * size, spread, np.where(size > 0, size, 1.0))
        shift = np.where(sign < 0, most + spread, np.where(least > 0, 0.0, spread - least))
        for array in (sign, shift):
            array.flags.writeable = False
        return cls(sign, shift)

    def cost(self, values: npt.ArrayLike) -> Floats:
        """Costs of metric values, both of shape (..., metrics)."""
        result: Floats = self.sign * np.asarray(values, dtype=np.float64) + self.shift
        return result

    def value(self, costs: npt.ArrayLike) -> Floats:
        """Metric values of costs, both of shape (..., metrics): the inverse of `cost`."""
        result: Floats = self.sign * (np.asarray(costs, dtype=np.float64) - self.shift)
        return result


def scarcely_held(weights: Floats) -> Bools:
    """Domains (columns) that one run or two of `weights`, shape (runs, domains), hold; shape (domains,)."""
    holders = (weights > 0).sum(axis=0)
    scarce: Bools = (holders > 0) & (holders < FEWEST_HOLDERS)
    return scarce


def budgets(amounts: npt.ArrayLike) -> list[tuple[float, int]]:
    """The different token budgets or model sizes among `amounts`, shape (runs,), and how many runs have each.

    Those within 1% of the least of a kind count as it: trackers count what was trained on to the token.
    """
    kinds: list[tuple[float, int]] = []
    for amount in np.sort(np.asarray(amounts, dtype=np.float64)).tolist():
        if kinds and amount <= kinds[-1][0] * (1 + ONE_BUDGET):
            kinds[-1] = (kinds[-1][0], kinds[-1][1] + 1)
        else:
            kinds.append((amount, 1))
    return kinds


def canonical_order(table: Floats, ids: Sequence[str] = ()) -> Ints:
    """Positions of the rows of a table, the least first, by its columns from left to right; equal ones by id.

    Args:
        table: shape (rows, columns); NaN comes last.
        ids: of the rows, or none.
    """
    keys = np.where(np.isnan(table), np.inf, table).T[::-1]
    order: Ints = np.lexsort((np.array(ids), *keys) if len(ids) else tuple(keys))
    return order


def groups_of_equal_rows(table: Floats) -> tuple[Ints, ...]:
    """Positions of rows that are equal within 1e-9 in every column; only groups of two or more, in order.

    Rows are sorted along one fixed random direction, so that only neighbours need to be compared.
    """
    direction: Floats = np.random.default_rng(0).uniform(0.5, 1.5, size=(table.shape[1],))
    along = table @ direction
    order = np.argsort(along, kind="stable")
    within = 2 * _SAME * direction.sum() + 1e-12 * np.abs(along).max(initial=0.0)
    blocks = np.split(order, np.flatnonzero(np.diff(along[order]) > within) + 1)
    groups = [group for block in blocks if len(block) > 1 for group in _equal_within(table, np.sort(block))]
    return tuple(sorted(groups, key=lambda group: int(group[0])))


def _equal_within(table: Floats, rows: Ints) -> list[Ints]:
    groups: list[Ints] = []
    while len(rows) > 1:
        same = np.abs(table[rows] - table[rows[0]]).max(axis=1) <= _SAME
        if same.sum() > 1:
            groups.append(rows[same])
        rows = rows[~same]
    return groups


def pooled_deviation(values: Floats, groups: tuple[Ints, ...]) -> Floats:
    """sqrt(sum_g sum_k (y_k - mean_g)^2 / sum_g (n_g - 1)) per metric, over known cells; NaN without two of a group.

    Args:
        values: shape (runs, metrics), NaN where missing.
        groups: positions of the runs of each mixture.

    Returns:
        Shape (metrics,), in each metric's unit.
    """
    squares, freedom = np.zeros(values.shape[1]), np.zeros(values.shape[1])
    for group in groups:
        part = values[group]
        known = ~np.isnan(part)
        n_known = known.sum(axis=0)
        mean = np.where(known, part, 0.0).sum(axis=0) / np.maximum(n_known, 1)
        squares += np.where(known, (part - mean) ** 2, 0.0).sum(axis=0)
        freedom += np.maximum(n_known - 1, 0)
    result: Floats = np.where(freedom > 0, np.sqrt(squares / np.maximum(freedom, 1)), np.nan)
    return result
