"""what-if: move some shares, and see what every metric is predicted to do, with an interval."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.deciding.by_law import Progress
from evermix.deciding.fitting import FittedLaw
from evermix.errors import MixtureError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.trust.bootstrap import apart, around

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class WhatIf:
    """Two mixtures compared by a fitted law.

    Attributes:
        before, after: over all domains.
        metrics: names.
        value_before, value_after: (metrics,), predicted, in each metric's unit.
        low, high: (metrics,), interval of value_after - value_before.
        better: (metrics,), probability over the resampled laws that the metric improves.
        n_laws: resampled laws behind the intervals; resamples that no law could be fitted to are not among them.
        objective_change: predicted change of the objective (a cost: lower is better), with its interval.
    """

    before: Mixture
    after: Mixture
    metrics: tuple[str, ...]
    value_before: Floats
    value_after: Floats
    low: Floats
    high: Floats
    better: Floats
    n_laws: int
    objective_change: tuple[float, float, float]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        change, low, high = self.objective_change
        rows = zip(self.metrics, self.value_before, self.value_after, self.low, self.high, self.better, strict=True)
        return {
            "before": self.before.as_dict,
            "after": self.after.as_dict,
            "n_laws": self.n_laws,
            "objective_change": {"change": change, "low": low, "high": high},
            "metrics": {
                name: {
                    "before": float(old),
                    "after": float(new),
                    "change": float(new - old),
                    "low": float(least),
                    "high": float(most),
                    "probability_better": float(p),
                }
                for name, old, new, least, most, p in rows
            },
        }


def moved(mixture: Mixture, shares: Mapping[str, float], raises: Mapping[str, float] | None = None) -> Mixture:
    """`mixture` with some shares set, others raised or lowered by so much, and the rest scaled to keep the sum at 1.

    Raises:
        MixtureError: if a share leaves [0, 1], the named shares exceed 1, or the others have nothing to give.
        DomainError: if a name is unknown.
    """
    weights = mixture.weights.copy()
    named = np.zeros(len(weights), dtype=bool)
    changed = {**shares, **{name: mixture[name] + rise for name, rise in (raises or {}).items()}}
    if raises and set(raises) & set(shares):
        raise MixtureError("a share must be set or moved, not both", received=sorted(set(raises) & set(shares))[0])
    for name, amount in changed.items():
        j = mixture.domains.index(name)
        named[j], weights[j] = True, amount
        if not 0 <= weights[j] <= 1:
            raise MixtureError(f"the share of '{name}' must stay between 0 and 1", received=float(weights[j]))
    left = 1 - float(weights[named].sum())
    others = float(weights[~named].sum())
    if left < -1e-9 or (left > 1e-9 and others <= 0):
        raise MixtureError(
            "the moved shares must sum to at most 1, and to 1 if no other domain has mass", received=1 - left
        )
    weights[~named] *= max(left, 0.0) / others if others > 0 else 0.0
    return Mixture.normalised(mixture.domains, weights)


def predicted_change(
    fitted: FittedLaw, before: Mixture, after: Mixture, laws: Sequence[MixingLaw], level: float = 0.9
) -> WhatIf:
    """Predicted metrics under two mixtures; intervals from laws of resampled runs.

    Args:
        before, after: over all domains.
        laws: refitted to resampled runs, at least 2.
        level: of the two-sided intervals.
    """
    pair = np.array([before.weights, after.weights])
    orientation = fitted.observations.orientation
    old, new = fitted.law.predict(pair)
    costs = np.array([law.predict(pair) for law in laws])
    changes = orientation.value(costs[:, 1]) - orientation.value(costs[:, 0])
    objective = fitted.objective
    change, misfit = orientation.value(new) - orientation.value(old), fitted.calibration.misfit
    far = np.sqrt(apart(fitted.observations.weights, pair[1:], before.weights))
    low, high = around(change, changes - change, far * misfit.metrics, level).T
    total = np.asarray(objective.value(new) - objective.value(old))
    totals = objective.value(costs[:, 1]) - objective.value(costs[:, 0])
    least, most = around(total, totals - total, far[0] * np.asarray(misfit.objective), level)
    return WhatIf(
        before,
        after,
        fitted.observations.metrics,
        orientation.value(old),
        orientation.value(new),
        low,
        high,
        (costs[:, 1] < costs[:, 0]).mean(axis=0),
        len(laws),
        (float(total), float(least), float(most)),
    )


def check_measured(fitted: FittedLaw, names: Iterable[str]) -> None:
    """MixtureError if a domain at a fixed ratio is to move by itself: of those the law knows the total only."""
    fixed = () if fitted.space is None else fitted.space.fixed_ratio
    wrong = next((name for name in names if name in fixed), None)
    if wrong is not None:
        raise MixtureError(
            "what-if needs domains whose shares the runs varied, and this one kept its proportion",
            received=wrong,
            hint="recompute it and measure its runs, or move another",
        )


def what_if(
    fitted: FittedLaw,
    start: Mixture,
    shares: Mapping[str, float],
    raises: Mapping[str, float] | None = None,
    progress: Progress | None = None,
) -> WhatIf:
    """What moving some shares of `start` is predicted to do; resampled as often as the recipe says, at least twice.

        em.what_if(fitted, em.Mixture.natural(fitted.observations.domains), {"code": 0.3}).as_dict["metrics"]

    Args:
        shares: domain -> its share afterwards.
        raises: domain -> by how much its share rises, or falls where negative; the others keep their proportions.
        progress: called with (done, total) after each resample.

    Raises:
        MixtureError: if a domain at a fixed ratio is to move by itself, or as `moved` says.
    """
    check_measured(fitted, [*shares, *(raises or {})])
    laws = fitted.resampled(fitted.recipe.resamples, progress)
    return predicted_change(fitted, start, moved(start, shares, raises), laws)
