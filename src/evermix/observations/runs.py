"""Runs: mixtures and the costs measured on them, as laws, designs and solvers take them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
Bools = npt.NDArray[np.bool_]


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
