"""Planted worlds for the trust tests: a true law, runs drawn from it, and a linear law that refits in no time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw, weighted
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.solvers.problem import MixtureProblem


class LinearLaw(MixingLaw):
    """f_i(p) = t_i . p, by weighted least squares."""

    name = "linear"
    formula = "t . p"
    source = "tests"

    def __init__(self) -> None:
        pass

    @property
    def is_convex(self) -> bool:
        return True

    @property
    def has_gradient(self) -> bool:
        return True

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        return n_domains

    def fit(self, runs: Runs) -> Self:
        table = weighted(runs)
        rows = []
        for i in range(table.values.shape[1]):
            weight = table.weights[:, i]
            rows.append(np.linalg.lstsq(table.mixtures * weight[:, None], table.values[:, i] * weight, rcond=1e-9)[0])
        self.t_ = np.array(rows)
        self.n_metrics_, self.n_domains_ = self.t_.shape
        squares = (table.weights**2 * (table.values - table.mixtures @ self.t_.T) ** 2).sum(axis=0)
        self.noise_ = np.sqrt(squares / np.maximum(table.n_effective - self.n_domains_, 1))
        self.objective_, self.converged_ = squares / 2, np.ones(self.n_metrics_, dtype=bool)
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        result: Floats = self._mixtures(P) @ self.t_.T
        return result

    def gradient(self, p: npt.ArrayLike) -> Floats:
        self._mixtures(p)
        return self.t_.copy()

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        self._mixtures(p)
        return np.zeros_like(self.t_), np.zeros(self.n_metrics_)

    def expressions(self, variable: Any) -> list[Any]:
        return [t @ variable for t in self.t_]


class StrictLinearLaw(LinearLaw):
    """Refuses fewer distinct runs than domains + 1."""

    def fit(self, runs: Runs) -> Self:
        n_runs, n_domains = weighted(runs).mixtures.shape
        if n_runs < n_domains + 1:
            raise ObservationError(f"a strict law over {n_domains} domains needs more runs", received=n_runs)
        return super().fit(runs)


def linear_law(t: Floats) -> LinearLaw:
    """A law with given slopes, as if fitted."""
    law = LinearLaw()
    law.t_ = np.asarray(t, dtype=np.float64)
    law.n_metrics_, law.n_domains_ = law.t_.shape
    law.noise_ = np.zeros(law.n_metrics_)
    return law


@dataclass(frozen=True)
class World:
    """A truth and a swarm measured in it."""

    truth: MixingLaw
    observations: Observations
    objective: Objective

    def problem(self, law: MixingLaw, kl_weight: float, **changes: Any) -> MixtureProblem:
        """The programme under `law`; prior natural."""
        domains = self.observations.domains
        m = len(domains)
        bounds = changes.pop("bounds", Bounds(np.zeros(m), np.ones(m), ("",) * m))
        prior = changes.pop("prior") if "prior" in changes else Mixture.natural(domains)
        return MixtureProblem(law, self.objective, bounds, prior, kl_weight, **changes)

    def fitted(self, law: MixingLaw) -> MixingLaw:
        o = self.observations
        return law.fit(o.runs)

    def true_value(self, weights: Floats) -> Floats:
        """The objective under the truth."""
        return np.asarray(self.objective.value(self.truth.predict(weights)))


def domain_set(m: int) -> DomainSet:
    return DomainSet([Domain(f"d{j}", 1000 * (j + 1)) for j in range(m)])


def world(truth: MixingLaw, n_runs: int, noise: float, rng: np.random.Generator, replicates: int = 1) -> World:
    """`n_runs` Dirichlet(1) mixtures, each measured `replicates` times, with Gaussian noise of sd `noise`."""
    m, n = truth.n_domains_, truth.n_metrics_
    P = np.repeat(rng.dirichlet(np.ones(m), n_runs), replicates, axis=0)
    metrics = tuple(f"m{i}" for i in range(n))
    values = truth.predict(P) + noise * rng.standard_normal((len(P), n))
    return World(truth, Observations(domain_set(m), P, metrics, values), Objective.from_dict(metrics))


def linear_world(n_runs: int, noise: float, rng: np.random.Generator, m: int = 4, replicates: int = 1) -> World:
    """Three metrics, linear in the shares, around 3."""
    return world(linear_law(3 + 0.5 * rng.standard_normal((3, m))), n_runs, noise, rng, replicates)
