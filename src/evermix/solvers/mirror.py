"""Entropic mirror descent on a black-box smooth objective plus KL to a prior, in very few gradient evaluations.

Each step minimises  eta <g, x> + eta lambda KL(x || p0) + KL(x || x_t)  over the box and the simplex, in closed form:
x ~ (x_t p0^(eta lambda) exp(-eta g))^(1 / (1 + eta lambda)), then the KL projection. The KL term is exact, only the
objective is linearised. 1 / eta estimates the objective's curvature relative to the entropy from the last two
gradients, <g' - g, x' - x> / (KL(x' || x) + KL(x || x')), the Bregman form of a Barzilai-Borwein step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.errors import ConvergenceError

Floats = npt.NDArray[np.float64]
ValueAndGradient = Callable[[Floats], tuple[float, Floats]]
_TINY = 1e-300


@dataclass(frozen=True)
class MirrorResult:
    """The best point seen.

    Attributes:
        weights: shape (domains,), within the bounds.
        objective_value: the black-box objective at it, without the KL term.
        total: objective_value + kl_weight * KL(weights || prior); never above that of the start.
        kl_nats: KL(weights || prior).
        n_evaluations: calls of value_and_gradient.
        predicted_decrease: what one more step promises; small against the spread of the objective means converged.
        converged: whether it fell below the tolerance.
        path: (evaluations, domains), every point evaluated, in order.
        values: (evaluations,), objective + KL at each.
    """

    weights: Floats
    objective_value: float
    total: float
    kl_nats: float
    n_evaluations: int
    predicted_decrease: float
    converged: bool
    path: Floats
    values: Floats


@dataclass
class _Point:
    x: Floats
    value: float
    gradient: Floats
    total: float


@dataclass(frozen=True)
class _Problem:
    function: ValueAndGradient
    bounds: Bounds
    prior: Floats
    kl_weight: float

    def at(self, x: Floats) -> _Point:
        value, gradient = self.function(x)
        if not np.isfinite(value) or not np.isfinite(gradient[x > 0]).all():
            raise ConvergenceError("the objective of mirror descent must be finite with its gradient", received=value)
        gradient = np.where(x > 0, gradient, 0.0)
        return _Point(x, float(value), gradient, float(value) + self.kl_weight * _kl(x, self.prior))

    def step(self, point: _Point, eta: float) -> Floats:
        """Minimiser of the linearised objective, the exact KL term and the proximity to `point`."""
        pull = eta * self.kl_weight
        logs = np.log(np.maximum(point.x, _TINY)) - eta * point.gradient
        if pull > 0:
            logs = (logs + pull * np.log(np.maximum(self.prior, _TINY))) / (1 + pull)
        weights = np.exp(np.maximum(logs - logs.max(), -600.0))
        return self.bounds.clip(np.where((point.x > 0) | (self.bounds.lower > 0), weights, 0.0))

    def promised(self, point: _Point, x: Floats) -> float:
        """Decrease of the linearised objective + KL from `point` to x."""
        fall = point.gradient @ (point.x - x)
        return float(fall + self.kl_weight * (_kl(point.x, self.prior) - _kl(x, self.prior)))


def mirror_descent(
    value_and_gradient: ValueAndGradient,
    start: Floats,
    bounds: Bounds,
    prior: Floats,
    kl_weight: float,
    max_evaluations: int = 6,
    *,
    first_step: float = 1.0,
    tolerance: float = 1e-6,
) -> MirrorResult:
    """Minimise value(x) + kl_weight * KL(x || prior) over the bounds, starting at `start`.

    A domain of zero prior mass is held at zero if kl_weight > 0, and so is one of zero mass in the start (unless it has
    a floor): start where every domain that may be used has mass.

    Args:
        value_and_gradient: x, shape (domains,) -> value and d value / d x, shape (domains,).
        start, prior: shape (domains,).
        max_evaluations: most calls of value_and_gradient, at least 1.
        first_step: greatest change of a log weight in the first step, relative to the others.
        tolerance: converged once a step promises less than this fraction of the first step's promise.

    Raises:
        ConvergenceError: if the objective or its gradient is not finite at a point visited.
    """
    problem = _Problem(value_and_gradient, bounds, prior, kl_weight)
    usable = (start > 0) & ((prior > 0) | (kl_weight == 0))
    best = problem.at(bounds.clip(np.where(usable, start, 0.0)))
    seen = [best]
    eta = first_step / max(float(np.ptp(best.gradient[best.x > 0])), 1e-12)
    promise = first_promise = np.inf
    while True:
        x = problem.step(best, eta)
        promise = problem.promised(best, x)
        first_promise = promise if first_promise == np.inf else first_promise
        if promise <= max(tolerance * first_promise, 1e-15) or len(seen) >= max_evaluations:
            break
        point = problem.at(x)
        seen.append(point)
        eta = _next_step(best, point, eta)
        if point.total <= best.total:
            best = point
    converged = promise <= max(tolerance * first_promise, 1e-15)
    path, values = np.array([p.x for p in seen]), np.array([p.total for p in seen])
    kl = _kl(best.x, prior)
    return MirrorResult(best.x, best.value, best.total, kl, len(seen), promise, bool(converged), path, values)


def _next_step(old: _Point, new: _Point, eta: float) -> float:
    """1 / observed curvature; at most 8 times longer, and at most half as long after a step that went up."""
    distance = _kl(new.x, old.x) + _kl(old.x, new.x)
    curvature = float((new.gradient - old.gradient) @ (new.x - old.x)) / max(distance, _TINY)
    guess = 1 / curvature if curvature > 0 else np.inf
    if new.total > old.total:
        return float(np.clip(guess, eta / 20, eta / 2))
    return float(np.clip(guess, eta / 8, 8 * eta))


def _kl(p: Floats, q: Floats) -> float:
    """KL(p || q) with zeros of q counted as 1e-300."""
    live = p > 0
    return float(np.sum(p[live] * (np.log(p[live]) - np.log(np.maximum(q[live], _TINY)))))
