"""Adaptive design: given what is known, the next n mixtures that are worth most to the final choice.

What a run is worth is what it tells about the differences between contenders for the optimum: where the functions that
are still possible have their minima. With F ~ the posterior below, t_1 ... t_S the minimisers of S functions drawn
from it, and t_0 the minimiser of its mean, a run at x resolves, of the variance of F(t_s) - F(t_0),

    gain(x)^2 = mean_s  (C[t_s, x] - C[t_0, x])^2 / (C[x, x] + noise)

It is high at contenders, at what is like some of them and unlike others, and nil where nothing can be learnt that
matters. A batch is chosen one by one: each choice is conditioned on as if it had come out as expected (the covariance
shrinks by rank one, the drawn functions follow by Matheron's rule), so that a batch does not ask the same thing twice.

The posterior: what is known of the objective over a pool of candidate mixtures, as a normal distribution.

    F ~ N(law(p), s^2 k(p, q | runs)),   k(p, q) = (sqrt p . sqrt q) / 2 + exp(-|sqrt p - sqrt q|^2) / 2

The mean is the fitted law. The covariance is that of a Gaussian process over mixtures given where runs have been made:
its linear part stands for wrong effects of single domains (also of those never seen), its local part for what the
family of the law cannot express. s makes the law's errors on held-out runs as large, on average, as the process says
they are. No family's own standard deviation is needed, and a law that is confidently wrong is found out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from evermix.designs.dirichlet import DirichletOptions, dirichlet_design
from evermix.designs.feasible import SwarmRules, project
from evermix.designs.space_filling import distances, simplex_pool
from evermix.errors import MixtureError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.observations.runs import Runs

Floats = npt.NDArray[np.float64]
Value = Callable[[Floats], Floats]
_NOISE_SHARE = 0.01
_JITTER = 1e-6
Ints = npt.NDArray[np.intp]
_N_FUNCTIONS = 64


@dataclass(frozen=True)
class Posterior:
    """Normal distribution of the objective at candidates.

    Attributes:
        mean: shape (candidates,), in the objective's unit.
        covariance: shape (candidates, candidates).
        noise: variance of a run's objective around it.
    """

    mean: Floats
    covariance: Floats
    noise: float

    def sample(self, n: int, rng: np.random.Generator) -> Floats:
        """n functions, shape (n, candidates)."""
        scale = float(np.diag(self.covariance).mean()) + 1e-300
        root = np.linalg.cholesky(self.covariance / scale + _JITTER * np.eye(len(self.mean)))
        drawn: Floats = self.mean + np.sqrt(scale) * rng.standard_normal((n, len(self.mean))) @ root.T
        return drawn

    def given_run(self, x: int) -> Posterior:
        """After a run at candidate x that came out as expected: the mean stays, the covariance shrinks by rank one."""
        column = self.covariance[:, x]
        shrunk = self.covariance - np.outer(column, column) / (column[x] + self.noise)
        return Posterior(self.mean, shrunk, self.noise)

    def condition(self, functions: Floats, x: int, rng: np.random.Generator) -> Floats:
        """Samples of this posterior turned into samples of `given_run(x)` (Matheron's rule), shape (n, candidates)."""
        surprise = self.mean[x] - functions[:, x] - np.sqrt(self.noise) * rng.standard_normal(len(functions))
        gain = self.covariance[:, x] / (self.covariance[x, x] + self.noise)
        moved: Floats = functions + surprise[:, None] * gain
        return moved


def posterior_of(law: MixingLaw, runs: Runs, value: Value, candidates: Floats, rng: np.random.Generator) -> Posterior:
    """The posterior about `value` at `candidates`, shape (candidates, domains), of a law fitted to the runs.

    Args:
        value: costs (..., metrics) -> objective (...), such as `objective.value`.

    Raises:
        ObservationError: if there are fewer than 4 runs.
    """
    check_enough(runs)
    roots, run_roots = np.sqrt(candidates), np.sqrt(runs.mixtures)
    gram = _kernel(run_roots, run_roots) + _NOISE_SHARE * np.eye(len(run_roots))
    between = _kernel(roots, run_roots)
    covariance = _kernel(roots, roots) - between @ np.linalg.solve(gram, between.T)
    scale = _posterior_scale(law, runs, value, gram, rng)
    mean = _tamed(value(law.predict(candidates)), value(law.predict(runs.mixtures)), 10)
    return Posterior(mean, scale * covariance, scale * _NOISE_SHARE)


def check_enough(runs: Runs) -> None:
    """ObservationError if there are fewer than 4 runs."""
    if len(runs) < 4:
        raise ObservationError(
            "an adaptive design must know at least 4 runs",
            received=len(runs),
            hint="start with a Dirichlet or space-filling design",
        )


def _tamed(predicted: Floats, usual: Floats, n_ranges: float) -> Floats:
    """A law's explosion far from its runs, cut at some ranges of what it says at the runs."""
    room = n_ranges * float(np.ptp(usual))
    tamed: Floats = np.clip(predicted, usual.min() - room, usual.max() + room)
    return tamed


def _kernel(a: Floats, b: Floats) -> Floats:
    similar: Floats = 0.5 * (a @ b.T) + 0.5 * np.exp(-(distances(a, b) ** 2))
    return similar


def _posterior_scale(law: MixingLaw, runs: Runs, value: Value, gram: Floats, rng: np.random.Generator) -> float:
    """s^2 = mean over held-out runs of (error of the law)^2 / (variance of the process with s = 1)."""
    order = rng.permutation(len(runs))
    usual = value(law.predict(runs.mixtures))
    squares, variances = [], []
    for fold in np.array_split(order, min(4, len(order) // 2)):
        rest = np.setdiff1d(order, fold)
        try:
            predicted = law.with_fixed_choices().fit(runs.take(rest)).predict(runs.mixtures[fold])
        except ObservationError:  # the law needs more runs than a fold leaves: the spread of the runs must do
            return float(usual.var()) / float(np.diag(gram).mean()) + 1e-300
        measured = np.where(np.isnan(runs.values[fold]), predicted, runs.values[fold])
        squares.append((_tamed(value(predicted), usual, 1) - value(measured)) ** 2)
        between = gram[np.ix_(fold, rest)]
        explained = np.einsum("fr,rf->f", between, np.linalg.solve(gram[np.ix_(rest, rest)], between.T))
        variances.append(np.diag(gram)[fold] - explained)
    return float(np.mean(np.concatenate(squares) / np.concatenate(variances))) + 1e-300


@dataclass(frozen=True)
class ChosenRuns:
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
) -> ChosenRuns:
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
    return choose_from_posterior(posterior_of(law, runs, value, contenders, rng), len(pool), n, rng)


def choose_from_posterior(posterior: Posterior, n_candidates: int, n: int, rng: np.random.Generator) -> ChosenRuns:
    """n of the first `n_candidates` points of a posterior; all its points are contenders for the optimum."""
    functions = posterior.sample(_N_FUNCTIONS, rng)
    positions, gains = [], []
    taken = np.zeros(n_candidates, dtype=bool)
    for _ in range(n):
        resolved = np.where(taken, -1.0, contrast_gains(posterior, functions.argmin(axis=1))[:n_candidates])
        x = int(resolved.argmax())
        positions.append(x)
        gains.append(float(resolved[x]))
        taken[x] = True
        functions, posterior = posterior.condition(functions, x, rng), posterior.given_run(x)
    return ChosenRuns(np.array(positions, dtype=np.intp), np.array(gains))


def contrast_gains(posterior: Posterior, contenders: Ints) -> Floats:
    """gain(x) for runs at every point of a posterior, shape (candidates,), given the minimisers of drawn functions."""
    best = int(posterior.mean.argmin())
    rivals, counts = np.unique(contenders, return_counts=True)
    differences = posterior.covariance[rivals] - posterior.covariance[best]
    squares = counts @ differences**2 / counts.sum()
    gains: Floats = np.sqrt(squares / (np.diag(posterior.covariance) + posterior.noise))
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
