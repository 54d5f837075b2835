"""Which frozen domains are worth measuring anew, judged by a law over all leaves and its refits.

With T the solver's objective (metrics + lambda KL), its least value over all leaf mixtures, T*, over those of the
collapsed space, T_0, and over those of the space without domain j in the bundle, T_j:

    predicted loss of full reuse = T_0 - T*,      worth of releasing j = T_0 - T_j.

The resampled laws' values of T at the two mixtures tell the standard deviation s of such a difference V. An optimum
over more mixtures is too good by chance: near it the worth is a square d^2 known with standard deviation s / (2 d) in
d, so the mean of its estimate is too high by s^2 / (4 V), which is taken off. Far from it, where the freed domain ends
at a bound, the worth is linear in what is estimated; the interval V -+ z s is right there and wide near the optimum.

Releases are advised one at a time, the greatest worth per run first, while the predicted loss that is left exceeds
`tolerance` of the mixture's gain over its prior. Each must be there in spite of the noise (lower bound > 0), and be
worth its runs: gain per run > tolerance * gain / runs saved, the rate at which measuring every frozen domain would
make up for a loss that is tolerated. What stays frozen then loses together at most the tolerance, as far as worths
add up and noise does not hide them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from evermix.deciding.by_law import LawProblem
from evermix.domain_updates.fixed_ratio import CollapsedSpace, effective_prior
from evermix.errors import ConstraintError
from evermix.laws.base import MixingLaw
from evermix.laws.mapped import on_expanded
from evermix.mixture import Mixture
from evermix.solvers.solve import solve

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class DiagnosisOptions:
    """How a diagnosis is made.

    Attributes:
        resamples: refits of the law.
        level: of the intervals, two-sided.
        tolerance: share of the mixture's gain over its prior that reuse may lose.
        runs_per_component: runs that one more component costs: 3 for log-linear (Olmix), 2 for power-link.
        kl_weight: lambda; None: the recipe's.
        prior: over the space's leaves; None: that of the evidence without its ghosts.
    """

    resamples: int = 40
    level: float = 0.8
    tolerance: float = 0.02
    runs_per_component: int = 3
    kl_weight: float | None = None
    prior: Mixture | None = None

    def __post_init__(self) -> None:
        if not (0 < self.level < 1 and 0 <= self.tolerance < 1):
            raise ConstraintError(
                "level must be between 0 and 1, tolerance at least 0 and below 1", received=(self.level, self.tolerance)
            )
        if self.resamples < 2 or self.runs_per_component < 1:
            raise ConstraintError(
                "resamples must be at least 2 and runs per component at least 1",
                received=(self.resamples, self.runs_per_component),
            )


@dataclass(frozen=True)
class Estimate:
    """A loss or gain in the objective's quantity, the noise taken off, with its interval."""

    value: float
    low: float
    high: float

    @property
    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class ReleaseValue:
    """What measuring one frozen domain by itself is worth.

    Attributes:
        domain: its name.
        gain: of the objective (lower is better), the noise taken off, beyond the releases before it.
        low, high: its interval.
        runs: that it takes.
    """

    domain: str
    gain: float
    low: float
    high: float
    runs: int

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"domain": self.domain, "gain": self.gain, "low": self.low, "high": self.high, "runs": self.runs}


@dataclass(frozen=True, eq=False)
class Choice:
    """The law's own optimum in one space.

    Attributes:
        mixture: over the evidence's domains, shape (domains,).
        total: T at it.
        resampled: T at it by each resampled law, shape (laws,).
    """

    mixture: Floats
    total: float
    resampled: Floats


class Judge:
    """Optima over spaces by the law on all runs, and what resampled laws say of them."""

    def __init__(self, asked: LawProblem, kl_weight: float, laws: list[MixingLaw]) -> None:
        self.problem = asked.with_kl_weight(kl_weight)
        self.laws = laws

    def total(self, weights: Floats) -> float:
        """T = objective + lambda KL."""
        return self.problem.total(weights)

    def choice(self, space: CollapsedSpace | None) -> Choice:
        """The optimum over `space`, or over all leaves."""
        mixture = self._optimum(space)
        penalty = self.total(mixture) - self.problem.value(mixture)
        values = [float(self.problem.objective.value(law.predict(mixture))) + penalty for law in self.laws]
        return Choice(mixture, self.total(mixture), np.array(values))

    def _optimum(self, space: CollapsedSpace | None) -> Floats:
        problem = self.problem
        if space is None:
            return solve(problem).mixture.weights
        prior = effective_prior(problem.prior, space.components, [space.virtual])
        bounds = space.component_bounds(problem.bounds)
        collapsed = replace(problem, law=on_expanded(problem.law, space), bounds=bounds, prior=prior)
        return space.expand(solve(collapsed).mixture.weights)


@dataclass(frozen=True, eq=False)
class ReleaseRule:
    """Which releases are worth their runs."""

    judge: Judge
    full: Choice
    gain: float
    runs_saved: int
    options: DiagnosisOptions

    def worth(self, narrow: Choice, wide: Choice) -> Estimate:
        """T of the narrow space less that of the wide one, the noise taken off."""
        return interval_of_worth(narrow.total - wide.total, narrow.resampled - wide.resampled, self.options.level)

    def worths(self, space: CollapsedSpace, narrow: Choice) -> tuple[ReleaseValue, ...]:
        """Of releasing each frozen domain from `space`, greatest first."""
        listed = []
        for name in space.frozen:
            if self._is_last(space, name):
                continue
            found = self.worth(narrow, self.judge.choice(space.released([name])))
            runs = self.options.runs_per_component
            listed.append(ReleaseValue(name, found.value, found.low, found.high, runs))
        return tuple(sorted(listed, key=lambda each: -each.gain))

    def releases(
        self, space: CollapsedSpace, narrow: Choice, candidates: tuple[ReleaseValue, ...]
    ) -> tuple[tuple[ReleaseValue, ...], Estimate]:
        """The domains to release in order, and the loss that is left."""
        chosen: list[ReleaseValue] = []
        while True:
            remaining = self.worth(narrow, self.full)
            if remaining.value <= self.options.tolerance * self.gain:
                return tuple(chosen), remaining
            if chosen:
                candidates = self.worths(space, narrow)
            worthy = [each for each in candidates if self._is_worth_it(each)]
            if not worthy:
                return tuple(chosen), remaining
            chosen.append(worthy[0])
            space = space.released([worthy[0].domain])
            narrow = self.judge.choice(space)

    def _is_worth_it(self, found: ReleaseValue) -> bool:
        rate = self.options.tolerance * self.gain / self.runs_saved
        return found.low > 0 and found.gain > rate * found.runs

    def _is_last(self, space: CollapsedSpace, name: str) -> bool:
        """Whether nothing with a share would stay in the bundle: the last domain's total is free already."""
        return bool(space.virtual.inner[name] >= 1.0)


def interval_of_worth(difference: float, resampled: Floats, level: float) -> Estimate:
    """The worth of a wider space from T(narrow optimum) - T(wide optimum), by the law and by resampled laws.

    value = V - s^2 / (4 V), at least 0; interval V -+ z s, at least 0. s is the resamples' standard deviation, as half
    the distance between their 16th and 84th percentile, which a law's explosion cannot inflate.

    Args:
        difference: V, >= 0 but for rounding.
        resampled: the same by resampled laws at the same two mixtures, shape (laws,), at least 2.
        level: two-sided.
    """
    known = resampled[np.isfinite(resampled)]
    found = max(difference, 0.0)
    if len(known) < 2:
        return Estimate(0.0, 0.0, float("inf"))
    low, high = np.percentile(known, [16, 84])
    s = float(high - low) / 2
    reach = float(norm.ppf((1 + level) / 2)) * s
    value = max(found - s**2 / (4 * found), 0.0) if found > 0 else 0.0
    return Estimate(value, max(found - reach, 0.0), found + reach)
