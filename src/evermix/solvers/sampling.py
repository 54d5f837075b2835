"""Search for laws that are not convex: the best of many feasible mixtures, then refinement around the best.

The pool: Dirichlet draws around the prior at strengths from loose to tight, near-vertices, midpoints of pairs, and the
starts given (the best observed runs). Refinement: rounds of draws around the elite, by log-normal factors and by moving
mass between two domains, with steps that shrink; mirror descent from the best few where the law has a gradient. A
mixture that breaks a guard ranks below all that don't. Deterministic in the seed; seconds.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError, ConvergenceError
from evermix.solvers.mirror import mirror_descent
from evermix.solvers.problem import MixtureProblem

Floats = npt.NDArray[np.float64]
_POOL = 2048
_ROUNDS = 40
_DRAWS = 128
_ELITE = 12
_DESCENTS = 4
_EVALUATIONS = 100
_MOST_PAIRS = 600


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
