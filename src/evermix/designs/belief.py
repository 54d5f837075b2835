"""Belief: what is known of the objective over a pool of candidate mixtures, as a normal distribution.

    F ~ N(law(p), s^2 k(p, q | runs)),   k(p, q) = (sqrt p . sqrt q) / 2 + exp(-|sqrt p - sqrt q|^2) / 2

The mean is the fitted law. The covariance is that of a Gaussian process over mixtures given where runs have been made:
its linear part stands for wrong effects of single domains (also of those never seen), its local part for what the
family of the law cannot express. s makes the law's errors on held-out runs as large, on average, as the process says
they are. No family's own standard deviation is needed, and a law that is confidently wrong is found out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.designs.space_filling import distances
from evermix.errors import ObservationError
from evermix.laws.base import MixingLaw
from evermix.observations.runs import Runs

Floats = npt.NDArray[np.float64]
Value = Callable[[Floats], Floats]
_NOISE_SHARE = 0.01
_JITTER = 1e-6


@dataclass(frozen=True)
class Belief:
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

    def given_run(self, x: int) -> Belief:
        """After a run at candidate x that came out as expected: the mean stays, the covariance shrinks by rank one."""
        column = self.covariance[:, x]
        shrunk = self.covariance - np.outer(column, column) / (column[x] + self.noise)
        return Belief(self.mean, shrunk, self.noise)

    def condition(self, functions: Floats, x: int, rng: np.random.Generator) -> Floats:
        """Samples of this belief turned into samples of `given_run(x)` (Matheron's rule), shape (n, candidates)."""
        surprise = self.mean[x] - functions[:, x] - np.sqrt(self.noise) * rng.standard_normal(len(functions))
        gain = self.covariance[:, x] / (self.covariance[x, x] + self.noise)
        moved: Floats = functions + surprise[:, None] * gain
        return moved


def believe(law: MixingLaw, runs: Runs, value: Value, candidates: Floats, rng: np.random.Generator) -> Belief:
    """The belief about `value` at `candidates`, shape (candidates, domains), of a law fitted to the runs.

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
    scale = _scale(law, runs, value, gram, rng)
    mean = _tamed(value(law.predict(candidates)), value(law.predict(runs.mixtures)), 10)
    return Belief(mean, scale * covariance, scale * _NOISE_SHARE)


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


def _scale(law: MixingLaw, runs: Runs, value: Value, gram: Floats, rng: np.random.Generator) -> float:
    """s^2 = mean over held-out runs of (error of the law)^2 / (variance of the process with s = 1)."""
    order = rng.permutation(len(runs))
    usual = value(law.predict(runs.mixtures))
    squares, variances = [], []
    for fold in np.array_split(order, min(4, len(order) // 2)):
        rest = np.setdiff1d(order, fold)
        try:
            predicted = law.settled().fit(runs.take(rest)).predict(runs.mixtures[fold])
        except ObservationError:  # the law needs more runs than a fold leaves: the spread of the runs must do
            return float(usual.var()) / float(np.diag(gram).mean()) + 1e-300
        measured = np.where(np.isnan(runs.values[fold]), predicted, runs.values[fold])
        squares.append((_tamed(value(predicted), usual, 1) - value(measured)) ** 2)
        between = gram[np.ix_(fold, rest)]
        explained = np.einsum("fr,rf->f", between, np.linalg.solve(gram[np.ix_(rest, rest)], between.T))
        variances.append(np.diag(gram)[fold] - explained)
    return float(np.mean(np.concatenate(squares) / np.concatenate(variances))) + 1e-300
