"""Search without a programme: mirror descent on what has a gradient, sampling on what may not even be convex.

Entropic mirror descent on a black-box smooth objective plus KL to a prior, in very few gradient evaluations.

Each step minimises  eta <g, x> + eta lambda KL(x || p0) + KL(x || x_t)  over the box and the simplex, in closed form:
x ~ (x_t p0^(eta lambda) exp(-eta g))^(1 / (1 + eta lambda)), then the KL projection. The KL term is exact, only the
objective is linearised. 1 / eta estimates the objective's curvature relative to the entropy from the last two
gradients, <g' - g, x' - x> / (KL(x' || x) + KL(x || x')), the Bregman form of a Barzilai-Borwein step.

Search for laws that are not convex: the best of many feasible mixtures, then refinement around the best.

The pool: Dirichlet draws around the prior at strengths from loose to tight, near-vertices, midpoints of pairs, and the
starts given (the best observed runs). Refinement: rounds of draws around the elite, by log-normal factors and by moving
mass between two domains, with steps that shrink; mirror descent from the best few where the law has a gradient. A
mixture that breaks a guard ranks below all that don't. Deterministic in the seed; seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.errors import ConstraintError, ConvergenceError
from evermix.solvers.problem import MixtureProblem, kl_divergence

Floats = npt.NDArray[np.float64]
ValueAndGradient = Callable[[Floats], tuple[float, Floats]]
_TINY = 1e-300
_POOL = 2048
_ROUNDS = 40
_DRAWS = 128
_ELITE = 12
_DESCENTS = 4
_EVALUATIONS = 100
_MOST_PAIRS = 600


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
        return _Point(x, float(value), gradient, float(value) + self.kl_weight * kl_divergence(x, self.prior))

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
        return float(fall + self.kl_weight * (kl_divergence(point.x, self.prior) - kl_divergence(x, self.prior)))


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
    kl = kl_divergence(best.x, prior)
    return MirrorResult(best.x, best.value, best.total, kl, len(seen), promise, bool(converged), path, values)


def _next_step(old: _Point, new: _Point, eta: float) -> float:
    """1 / observed curvature; at most 8 times longer, and at most half as long after a step that went up."""
    distance = kl_divergence(new.x, old.x) + kl_divergence(old.x, new.x)
    curvature = float((new.gradient - old.gradient) @ (new.x - old.x)) / max(distance, _TINY)
    guess = 1 / curvature if curvature > 0 else np.inf
    if new.total > old.total:
        return float(np.clip(guess, eta / 20, eta / 2))
    return float(np.clip(guess, eta / 8, 8 * eta))


def solve_by_sampling(problem: MixtureProblem, starts: Floats | None = None, seed: int = 0) -> tuple[Floats, str]:
    """The best mixture found, shape (domains,), and a status; no certificate.

    Args:
        starts: shape (starts, domains), mixtures to begin with.

    Raises:
        ConstraintError: if no mixture that meets the guards was found.
    """
    rng = np.random.default_rng(seed)
    pool = _Pool(problem)
    pool.add(_first_draws(problem, starts, rng))
    for round_ in range(_ROUNDS):
        width = 0.8 * 0.88**round_
        pool.add(_around(pool.elite, width, rng))
    if problem.law.has_gradient and not len(problem.guards):
        pool.add(_descents(problem, pool.elite[:_DESCENTS]))
    if pool.excess[0] > 1e-9:
        raise ConstraintError(
            "no mixture that meets the no-regression guards was found: at best the worst guarded metric is "
            f"{100 * pool.excess[0]:.3g}% above its ceiling",
            hint="raise the tolerance, guard fewer metrics, or relax the bounds",
        )
    return pool.elite[0], "best of search"


class _Pool:
    """The elite of all mixtures seen, best first.

    Attributes:
        elite: (elite, domains). totals: (elite,). excess: (elite,), by how much the worst guard is broken.
    """

    def __init__(self, problem: MixtureProblem) -> None:
        self.problem = problem
        self.elite = np.zeros((0, len(problem.prior.domains)))
        self.totals, self.excess = np.zeros(0), np.zeros(0)

    def add(self, rows: Floats) -> None:
        """Move `rows` into the bounds, judge them, keep the best."""
        bounds = self.problem.bounds
        outside = ~bounds.hold(rows, 1e-12)
        rows = rows.copy()
        if outside.any():
            rows[outside] = bounds.move_inside(rows[outside])
        totals, excess = self._judge(rows)
        rows, totals = np.vstack([self.elite, rows]), np.append(self.totals, totals)
        excess = np.append(self.excess, excess)
        order = np.lexsort((totals, np.where(excess > 1e-9, excess, 0.0)))[:_ELITE]
        self.elite, self.totals, self.excess = rows[order], totals[order], excess[order]

    def _judge(self, rows: Floats) -> tuple[Floats, Floats]:
        problem = self.problem
        costs = problem.law.predict(rows)
        totals = np.asarray(problem.objective.value(costs))
        if problem.kl_weight > 0:
            logs = np.log(np.maximum(rows, 1e-300)) - np.log(np.maximum(problem.prior.weights, 1e-300))
            totals = totals + problem.kl_weight * np.where(rows > 0, rows * logs, 0.0).sum(axis=1)
        totals = np.where(np.isfinite(totals), totals, np.inf)
        excess = np.zeros(len(rows))
        if problem.ceilings is not None and len(problem.guards):
            ceilings = problem.ceilings[problem.guards]
            over = (costs[:, problem.guards] - ceilings) / np.maximum(np.abs(ceilings), 1e-12)
            excess = np.maximum(over.max(axis=1), 0.0)
        return totals, excess


def _first_draws(problem: MixtureProblem, starts: Floats | None, rng: np.random.Generator) -> Floats:
    prior = problem.start
    m = len(prior)
    base = np.maximum(0.9 * prior + 0.1 / m, 1e-9) * (problem.bounds.upper > 0)
    strength = np.exp(rng.uniform(np.log(0.5), np.log(100.0 * m), _POOL))
    gammas = rng.gamma(np.maximum(strength[:, None] * base / base.sum(), 1e-3)) + 1e-300
    rows = [prior[None, :], gammas / gammas.sum(axis=1, keepdims=True)]
    near = 0.97 * np.eye(m) + 0.03 * prior
    rows.append(near[problem.bounds.upper > 0][:_POOL])
    pairs = np.array([(a, b) for a in range(m) for b in range(a)][: 50 * _MOST_PAIRS]).reshape(-1, 2)
    if len(pairs) > _MOST_PAIRS:
        pairs = pairs[rng.choice(len(pairs), _MOST_PAIRS, replace=False)]
    rows.append((near[pairs[:, 0]] + near[pairs[:, 1]]) / 2)
    if starts is not None:
        rows.append(np.atleast_2d(starts))
    return np.vstack(rows)


def _around(elite: Floats, width: float, rng: np.random.Generator) -> Floats:
    """Half of the draws by log-normal factors, half by moving up to `width` of one domain's share to another."""
    parents = elite[np.minimum(rng.geometric(0.3, _DRAWS) - 1, len(elite) - 1)]
    rows = parents.copy()
    half, m = _DRAWS // 2, elite.shape[1]
    rows[:half] *= np.exp(width * rng.standard_normal((half, m)))
    giver, taker = rng.integers(0, m, (2, _DRAWS - half))
    places = np.arange(half, _DRAWS)
    amount = rows[places, giver] * np.minimum(rng.uniform(0, 1.2 * width, len(places)), 1.0)
    rows[places, giver] -= amount
    rows[places, taker] += amount
    return rows / rows.sum(axis=1, keepdims=True)


def _descents(problem: MixtureProblem, starts: Floats) -> Floats:
    found = []
    for start in starts:
        inner = np.maximum(start, 1e-9) * (problem.bounds.upper > 0)
        try:
            result = mirror_descent(
                problem.value_and_gradient,
                inner,
                problem.bounds,
                problem.prior.weights,
                problem.kl_weight,
                _EVALUATIONS,
            )
        except ConvergenceError:  # the law or its gradient is infinite on the way: the search's own answer stays
            continue
        found.append(result.weights)
    return np.array(found).reshape(-1, starts.shape[1])
