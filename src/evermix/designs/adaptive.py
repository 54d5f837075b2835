"""Adaptive design: given what is known, the next n mixtures that are worth most to the final choice.

What a run is worth is what it tells about the differences between contenders for the optimum: where the functions that
are still possible have their minima. With F ~ the belief (belief.py), t_1 ... t_S the minimisers of S functions drawn
from it, and t_0 the minimiser of its mean, a run at x resolves, of the variance of F(t_s) - F(t_0),

    gain(x)^2 = mean_s  (C[t_s, x] - C[t_0, x])^2 / (C[x, x] + noise)

It is high at contenders, at what is like some of them and unlike others, and nil where nothing can be learnt that
matters. A batch is chosen one by one: each choice is conditioned on as if it had come out as expected (the covariance
shrinks by rank one, the drawn functions follow by Matheron's rule), so that a batch does not ask the same thing twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evermix.designs.belief import Belief, Value, believe
from evermix.designs.dirichlet import DirichletOptions, dirichlet_design
from evermix.designs.feasible import SwarmRules, project
from evermix.designs.space_filling import simplex_pool
from evermix.errors import MixtureError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.observations.runs import Runs

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.intp]
_N_FUNCTIONS = 64


@dataclass(frozen=True)
class Choice:
    """The next runs.

    Attributes:
        positions: shape (n,), among the candidates, most valuable first.
        gains: shape (n,), in the objective's unit: standard deviation of the contenders' differences that each run
            resolves, given those before it.
    """

    positions: Ints
    gains: Floats


def choose_next(
    law: MixingLaw,
    runs: Runs,
    value: Value,
    candidates: npt.ArrayLike,
    n: int,
    rng: np.random.Generator,
) -> Choice:
    """The n of `candidates`, shape (candidates, domains), that are worth most; the runs made are contenders too.

    Args:
        law: fitted to the runs.
        value: costs (..., metrics) -> objective (...), lower is better, such as `objective.value`.

    Raises:
        MixtureError: if there are fewer candidates than runs asked for.
        ObservationError: if candidates and runs differ in their number of domains.
    """
    pool = np.asarray(candidates, dtype=np.float64)
    if pool.ndim != 2 or pool.shape[1] != runs.n_domains:
        raise ObservationError(f"candidates must have {runs.n_domains} weights, as the runs", received=pool.shape)
    if not 0 <= n <= len(pool):
        raise MixtureError(f"the {len(pool)} candidates must be as many as the runs asked for", received=n)
    contenders = np.vstack([pool, runs.mixtures])
    return choose_from_belief(believe(law, runs, value, contenders, rng), len(pool), n, rng)


def choose_from_belief(belief: Belief, n_candidates: int, n: int, rng: np.random.Generator) -> Choice:
    """n of the first `n_candidates` points of a belief; all its points are contenders for the optimum."""
    functions = belief.sample(_N_FUNCTIONS, rng)
    positions, gains = [], []
    taken = np.zeros(n_candidates, dtype=bool)
    for _ in range(n):
        resolved = np.where(taken, -1.0, contrast_gains(belief, functions.argmin(axis=1))[:n_candidates])
        x = int(resolved.argmax())
        positions.append(x)
        gains.append(float(resolved[x]))
        taken[x] = True
        functions, belief = belief.condition(functions, x, rng), belief.given_run(x)
    return Choice(np.array(positions, dtype=np.intp), np.array(gains))


def contrast_gains(belief: Belief, contenders: Ints) -> Floats:
    """gain(x) for runs at every point of a belief, shape (candidates,), given the minimisers of drawn functions."""
    best = int(belief.mean.argmin())
    rivals, counts = np.unique(contenders, return_counts=True)
    differences = belief.covariance[rivals] - belief.covariance[best]
    squares = counts @ differences**2 / counts.sum()
    gains: Floats = np.sqrt(squares / (np.diag(belief.covariance) + belief.noise))
    return gains


@dataclass(frozen=True)
class AdaptiveOptions:
    """Where the next runs may lie.

    Attributes:
        scatter: of the candidates around the prior and around the optima.
        n_candidates: size of the pool, shared among the prior, the optima and the whole simplex.
        near: blend of the candidates near an optimum: at least this share of it.
    """

    scatter: DirichletOptions = field(default_factory=DirichletOptions)
    n_candidates: int = 600
    near: float = 0.5


def candidate_pool(
    prior: Mixture,
    optima: Sequence[Mixture],
    rng: np.random.Generator,
    options: AdaptiveOptions | None = None,
    rules: SwarmRules | None = None,
) -> list[Mixture]:
    """Mixtures around the prior, the given optima and between them, around each optimum, and over the whole simplex.

    Args:
        optima: present proposals, of one or several laws; may be empty.
    """
    options, rules = options or AdaptiveOptions(), replace(rules or SwarmRules(), coverage=0)
    share = options.n_candidates // (3 if optima else 2)
    pool = dirichlet_design(prior, share, rng, options.scatter, rules)
    for row in simplex_pool(len(prior.domains), share, 0.5, rng):
        pool.append(Mixture.normalised(prior.domains, row if rules.bounds is None else project(row, 0.0, rules.bounds)))
    for k, centre in enumerate(optima):
        n = share // len(optima) + (k < share % len(optima))
        around = dirichlet_design(centre.blend(prior, 0.1), n // 2, rng, options.scatter, rules)
        others = [pool[int(j)] for j in rng.integers(len(pool), size=n - n // 2)] if pool else []
        pool += around + [centre.blend(x, float(rng.uniform(0, 1 - options.near))) for x in others]
    return [*pool, *(x for x in optima if _allowed(x, rules))]


def adaptive_design(
    law: MixingLaw,
    runs: Runs,
    value: Value,
    pool: Sequence[Mixture],
    n: int,
    rng: np.random.Generator,
) -> list[Mixture]:
    """`choose_next` among mixtures, such as those of `candidate_pool`; most valuable first.

    Raises:
        MixtureError: if the pool is smaller than n.
    """
    choice = choose_next(law, runs, value, np.array([x.weights for x in pool]), n, rng)
    return [pool[int(k)] for k in choice.positions]


def _allowed(mixture: Mixture, rules: SwarmRules) -> bool:
    return rules.bounds is None or bool(rules.bounds.hold(mixture.weights, 1e-6))
