"""What every design does last: mixtures within bounds, without tiny weights, every domain covered, on a grid, distinct.

All of it by construction (projection and repair), never by drawing until something fits: a bounded number of passes
ends with feasible mixtures whatever the bounds. Arrays are runs x domains; the *support* of a run are its domains of
positive weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.errors import ConstraintError, MixtureError

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.intp]
_TOLERANCE = 1e-7
_PASSES = 20


@dataclass(frozen=True)
class SwarmRules:
    """What holds for each mixture of a design, and for all of them together.

    Attributes:
        bounds: box (and group totals) of every mixture; None for none. A swarm that a law is fitted to needs none,
            not even repetition caps: the solver enforces them, and the law learns from what lies outside (METHODS 1.1).
        coverage: least number of runs in which every sampled domain has a positive weight.
        grid: step of the weights, 1 / whole number; None for no rounding.
    """

    bounds: Bounds | None = None
    coverage: int = 1
    grid: float | None = None

    def __post_init__(self) -> None:
        if self.coverage < 0:
            raise MixtureError("the coverage of a design must be >= 0 runs", received=self.coverage)
        if self.grid is not None and not (0 < self.grid <= 1 and abs(round(1 / self.grid) * self.grid - 1) < 1e-6):
            raise MixtureError("the grid of a design must be 1 / whole number, such as 0.01", received=self.grid)


def default_minimum(n_sampled: int) -> float:
    """The reference's 0.002 (METHODS 1.1), or a tenth of the uniform share where that is less."""
    return min(0.002, 0.1 / n_sampled)


def check_request(n: int, minimum: float, rules: SwarmRules) -> None:
    """MixtureError on a number of runs or a minimum weight out of range, or too few runs for the coverage."""
    if n < 0:
        raise MixtureError("the number of mixtures of a design must be >= 0", received=n)
    if not 0 <= minimum < 1:
        raise MixtureError("the minimum weight must be in [0, 1)", received=minimum)
    if 0 < n < rules.coverage:
        raise MixtureError(
            f"a design in which every domain is in at least {rules.coverage} runs must have as many runs",
            received=n,
            hint="ask for more runs or less coverage",
        )


def assemble(
    draw: Callable[[int, int], Floats], n: int, rules: SwarmRules, minimum: float, rng: np.random.Generator
) -> Floats:
    """n mixtures from a sampler of positive weights, brought under the rules, shape (n, domains).

    Args:
        draw: number k, attempt t -> (k, domains), positive weights of any sum; zero marks a domain that is never
            sampled; should scatter wider with t, which grows as long as mixtures are equal.
        minimum: weights under it become zero where bounds allow, in [0, 1).

    Raises:
        MixtureError: on n or minimum out of range, or too few runs for the coverage.
        ConstraintError: if a grid is too coarse for the bounds.
    """
    check_request(n, minimum, rules)
    drawn = draw(n, 0)
    sampled = drawn.max(axis=0, initial=0.0) > 0

    def attempt(rows: Ints, t: int) -> Floats:
        if t:
            drawn[rows] = draw(len(rows), t)
        for k in rows:
            drawn[k] = project(drawn[k], minimum, rules.bounds)
        return finish(drawn, sampled, rules, minimum, rng)

    return distinct(attempt, n, rules.bounds)


def distinct(attempt: Callable[[Ints, int], Floats], n: int, bounds: Bounds | None) -> Floats:
    """Draw runs anew until no two mixtures are equal, but a bounded number of times.

    Where the rules hold fewer than n points (caps of exactly 1 / domains hold one), points repeat: such runs are
    replicates, which measure the noise.

    Args:
        attempt: rows to draw, number of the attempt -> all n mixtures.
    """
    weights = attempt(np.arange(n), 0)
    for t in range(1, _PASSES):
        rows = repeated(weights)
        if not len(rows) or (bounds is not None and _single_point(bounds)):
            break
        weights = attempt(rows, t)
    return weights


def finish(weights: Floats, sampled: Bools, rules: SwarmRules, minimum: float, rng: np.random.Generator) -> Floats:
    """Coverage and grid for mixtures that are within bounds already, shape (runs, domains)."""
    if rules.bounds is not None:
        sampled = sampled & (rules.bounds.upper > 0)
    weights = cover(weights, sampled, rules, minimum, rng)
    if rules.grid is None or not len(weights):
        return weights
    return np.array([round_to_grid(row, rules.grid, rules.bounds) for row in weights])


def satisfies(weights: Floats, bounds: Bounds) -> bool:
    """Whether one mixture is within bounds, to the accuracy of a projection."""
    return bool(bounds.hold(weights, _TOLERANCE))


def project(weights: Floats, minimum: float, bounds: Bounds | None) -> Floats:
    """The mixture nearest in KL to `weights` (domains,), those under `minimum` set to zero where bounds allow.

    The support is chosen after the projection, largest first, and as wide as the caps demand; the projection onto it
    is checked, and if bounds refuse it, the full projection stands.
    """
    mixture = weights / weights.sum()
    support = mixture >= minimum
    support[mixture.argmax()] = True
    if bounds is None:
        return _normalised(np.where(support, mixture, 0.0))
    mixture = bounds.clip(mixture)
    support = (mixture >= minimum) | (bounds.lower > 0)
    order = np.argsort(-mixture, kind="stable")
    room = np.cumsum(bounds.upper[order])
    support[order[: 1 + int(np.searchsorted(room, 1.0 - 1e-12))]] = True
    if support.all():
        return mixture
    return onto_support(mixture, support, minimum, bounds)


def onto_support(mixture: Floats, support: Bools, minimum: float, bounds: Bounds) -> Floats:
    """KL projection with zeros off the support and at least `minimum` on it; without one or both if bounds refuse."""
    upper = np.where(support, bounds.upper, 0.0)
    raised = np.where(support, np.maximum(bounds.lower, np.minimum(minimum, upper)), 0.0)
    for lower in (raised, np.where(support, bounds.lower, 0.0)):
        if lower.sum() > 1 or upper.sum() < 1 - 1e-12:
            continue
        try:
            projected = replace(bounds, lower=lower, upper=upper).clip(mixture)
        except ConstraintError:
            continue
        projected = _normalised(np.where(support, projected, 0.0))
        if satisfies(projected, bounds):
            return projected
    return mixture if satisfies(mixture, bounds) else bounds.clip(mixture)


def cover(weights: Floats, sampled: Bools, rules: SwarmRules, minimum: float, rng: np.random.Generator) -> Floats:
    """Lift sampled domains from zero in as many runs as the coverage demands, shape (runs, domains).

    A lifted weight is log-uniform between the minimum and what there is room for: the law of a Dirichlet weight of
    small alpha, given that it is not zero. The other weights of the run shrink towards the minimum in proportion.
    """
    lacking = np.where(sampled, rules.coverage - (weights > 0).sum(axis=0), 0)
    if not len(weights) or lacking.max(initial=0) <= 0:
        return weights
    least = minimum if minimum > 0 else default_minimum(int(sampled.sum()))
    added = np.zeros(weights.shape, dtype=bool)
    width = (weights > 0).sum(axis=1).astype(np.float64)
    for j in np.flatnonzero(lacking > 0):
        burden = np.where(weights[:, j] > 0, np.inf, width + rng.uniform(size=len(weights)))
        chosen = np.argsort(burden)[: lacking[j]]
        added[chosen, j] = True
        width[chosen] += 2
    covered = weights.copy()
    for k in np.flatnonzero(added.any(axis=1)):
        covered[k] = _lifted(weights[k], added[k], least, rng)
        if rules.bounds is not None:
            covered[k] = onto_support(covered[k], covered[k] > 0, minimum, rules.bounds)
    return covered


def _lifted(weights: Floats, added: Bools, minimum: float, rng: np.random.Generator) -> Floats:
    """One run with the `added` domains lifted to at least the minimum; all others stay at or above it."""
    old = np.flatnonzero(weights)
    new = np.flatnonzero(added)
    least = min(minimum, 0.5 / (len(old) + len(new)))
    room = 1 - least * (len(old) + len(new))
    wanted = np.exp(rng.uniform(np.log(least), 0.0, len(new))) - least
    wanted *= min(1.0, 0.5 * room / max(wanted.sum(), 1e-300))
    above = np.maximum(weights[old] - least, 0.0)
    lifted = np.zeros_like(weights)
    lifted[new] = least + wanted
    lifted[old] = least + above * ((room - wanted.sum()) / max(above.sum(), 1e-300))
    return _normalised(lifted)


def repeated(weights: Floats) -> Ints:
    """Positions of the runs whose mixture an earlier run has, within 1e-9."""
    first = np.unique(np.round(weights, 9), axis=0, return_index=True)[1]
    return np.setdiff1d(np.arange(len(weights)), first)


def _single_point(bounds: Bounds) -> bool:
    """Whether the box holds one mixture only: no share is left to move above the floors or below the caps."""
    return min(1 - float(bounds.lower.sum()), float(bounds.upper.sum()) - 1) < _TOLERANCE


def _normalised(weights: Floats) -> Floats:
    result: Floats = weights / weights.sum()
    return result


def round_to_grid(weights: Floats, step: float, bounds: Bounds | None = None) -> Floats:
    """The mixture in whole steps nearest to `weights`, shape (domains,): zeros stay, positive weights keep a step.

    (More positive weights than steps cannot all be kept; then the largest remainders win.)

    Raises:
        ConstraintError: if no such mixture is within bounds.
    """
    n_steps = round(1 / step)
    wanted = weights * n_steps
    least, most = np.zeros(len(weights)), np.where(weights > 0, float(n_steps), 0.0)
    if bounds is not None:
        least = np.ceil(bounds.lower * n_steps - 1e-6)
        most = np.minimum(most, np.floor(bounds.upper * n_steps + 1e-6))
        if most.sum() < n_steps:
            most = np.floor(bounds.upper * n_steps + 1e-6)
    kept = np.maximum(least, np.minimum((weights > 0) * 1.0, most))
    if kept.sum() <= n_steps:
        least = kept
    if least.sum() > n_steps or most.sum() < n_steps or (least > most).any():
        raise _too_coarse(step)
    steps = _apportioned(wanted, least, most, n_steps)
    rounded: Floats = steps / n_steps
    if bounds is not None and not bounds.hold(rounded, 1e-6):
        raise _too_coarse(step)
    return rounded


def _apportioned(wanted: Floats, least: Floats, most: Floats, total: int) -> Floats:
    """Whole numbers between `least` and `most` that sum to `total`, by largest remainders wanted - steps."""
    steps = np.clip(np.floor(wanted), least, most)
    while (left := total - int(steps.sum())) != 0:
        sign = 1 if left > 0 else -1
        movable = np.flatnonzero(steps < most if sign > 0 else steps > least)
        order = movable[np.argsort(-sign * (wanted - steps)[movable], kind="stable")]
        steps[order[: abs(left)]] += sign
    return steps


def _too_coarse(step: float) -> ConstraintError:
    return ConstraintError(
        "the grid of a design must hold a mixture within the bounds", received=step, hint="use a finer grid, or none"
    )
