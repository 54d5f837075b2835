"""The log-linear law fitted as published: many L-BFGS starts on each metric, the best end kept.

Starts (facts of the published code, for `olmix_base.py`): the floor's logarithm c at ten values from -2 to 1.5, thirty
times each; slopes t uniform in [0, .1], but negative in [-1, 0] where the domain's number equals the metric's. The same
stream (seed 42) serves every metric. Loss: Huber, delta 0.02 bits per byte, over (c, t). A domain that no run has
seen keeps the slope that the best start happened to give it. The published optimiser is another L-BFGS, in single
precision: ends agree where it converges.
"""

from __future__ import annotations

import harness  # noqa: F401  (one thread, so before numpy)
import numpy as np
from scipy.optimize import minimize

from evermix.laws.log_linear import LogLinearLaw

DELTA = 0.02
FLOORS = np.linspace(-2, 1.5, 10)
PER_FLOOR = 30
Table = np.ndarray


def starts(metric: int, n_domains: int) -> Table:
    """The 300 published starts of one metric, shape (starts, 1 + domains), floor by floor."""
    uniform = np.random.RandomState(42).random_sample((len(FLOORS) * PER_FLOOR, n_domains))
    slopes = np.where(np.arange(n_domains) == metric, -uniform, 0.1 * uniform)
    return np.column_stack([np.repeat(FLOORS, PER_FLOOR), slopes])


def loss(theta: Table, P: Table, y: Table) -> tuple[float, Table]:
    """Summed Huber loss of exp(c) + exp(t . p) - y, and its gradient over (c, t)."""
    floor, rise = np.exp(theta[0]), np.exp(np.clip(P @ theta[1:], -50, 50))
    r = floor + rise - y
    slope, size = np.clip(r, -DELTA, DELTA), np.abs(r)
    total = np.where(size <= DELTA, r * r / 2, DELTA * size - DELTA**2 / 2).sum()
    return float(total), np.append(floor * slope.sum(), (slope * rise) @ P)


def by_restarts(P: Table, Y: Table, numbers: list[int], per_floor: int = PER_FLOOR) -> tuple[LogLinearLaw, Table]:
    """The law at the best end of every metric, and its objectives, shape (metrics,).

    Args:
        P, Y: shapes (runs, domains), (runs, metrics).
        numbers: of each metric in the published table, which the starts depend on.
        per_floor: how many of the thirty starts at each floor to use.
    """
    ends = []
    for y, number in zip(Y.T, numbers, strict=True):
        chosen = np.concatenate(starts(number, P.shape[1]).reshape(len(FLOORS), PER_FLOOR, -1)[:, :per_floor])
        options = {"maxiter": 2000, "maxfun": 4000}
        found = [minimize(loss, start, (P, y), "L-BFGS-B", jac=True, options=options) for start in chosen]
        ends.append(min(found, key=lambda end: float(end.fun)))
    law = LogLinearLaw(huber_delta=DELTA, scaled=False, ridge=0.0)
    law.c_, law.t_ = np.array([end.x[0] for end in ends]), np.array([end.x[1:] for end in ends])
    law.n_domains_, law.n_metrics_ = P.shape[1], Y.shape[1]
    return law, np.array([float(end.fun) for end in ends])
