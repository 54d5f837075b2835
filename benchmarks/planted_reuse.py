"""Planted worlds for mixture reuse: known laws, an old domain set, an update, and swarms as noisy as real ones.

A metric is floor + size * h(u), u the sum over domains of what they do for it. Old domains act on metrics of their
own; new and revised domains act on the affected metrics. In a coupled world one old domain acts on the affected
metrics too, and nothing else distinguishes it; in an uncoupled world none does. Every pair has a small effect beside.
Noise: 0.1 to 0.2 of each metric's standard deviation over the swarm, as power-link laws leave on the public swarms of
RegMix (0.08 to 0.19) and DCLM (0.1 to 0.4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import harness  # noqa: F401  sets OMP_NUM_THREADS before numpy is loaded
import numpy as np
import numpy.typing as npt

from evermix.constraints import Constraints
from evermix.deciding.fitting import FittedLaw, fit
from evermix.designs.dirichlet import dirichlet_design
from evermix.domain_updates import Add, CollapsedSpace, DomainUpdate, Revise, retired_name
from evermix.domains import Domain, DomainSet
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations, Runs
from evermix.recipe.decision import StudyRecipe
from evermix.solvers.kl_path import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

Floats = npt.NDArray[np.float64]
Shape = Literal["log-linear", "power-link"]
KL = 0.05


class PlantedLaw(MixingLaw):
    """floor + size exp(-B p), or floor + size (eps + B p^g)^-a; B >= 0 is what domains do for metrics."""

    name = "planted"
    formula = "floor + size h(B p)"
    source = "made for this benchmark"

    def __init__(self, shape: Shape, floor: Floats, size: Floats, B: Floats) -> None:
        self.shape, self.floor, self.size, self.B = shape, floor, size, B
        self.n_metrics_, self.n_domains_ = B.shape
        self.objective_, self.noise_ = np.zeros(len(B)), np.zeros(len(B))
        self.converged_ = np.ones(len(B), dtype=bool)
        self.bend, self.power, self.eps = (1.0, 1.0, 0.0) if shape == "log-linear" else (0.7, 0.4, 0.05)

    @property
    def is_convex(self) -> bool:
        return True

    @property
    def has_gradient(self) -> bool:
        return True

    def fit(self, P: Any, Y: Any, sigma: Any = None, counts: Any = None) -> PlantedLaw:
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        return self.floor + self._reducible(np.asarray(P, dtype=float))

    def _sum(self, p: Floats) -> Floats:
        total: Floats = np.maximum(p, 1e-15) ** self.bend @ self.B.T + self.eps
        return total

    def _reducible(self, p: Floats) -> Floats:
        u = self._sum(p)
        result: Floats = self.size * (np.exp(-u) if self.shape == "log-linear" else u**-self.power)
        return result

    def gradient(self, p: npt.ArrayLike) -> Floats:
        at = np.maximum(np.asarray(p, dtype=float), 1e-15)
        rate = 1.0 if self.shape == "log-linear" else self.power / self._sum(at)
        inner = self.B * self.bend * at ** (self.bend - 1)
        return -(self._reducible(at) * rate)[:, None] * inner

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        at = np.maximum(np.asarray(p, dtype=float), 1e-15)
        e = self._reducible(at)
        if self.shape == "log-linear":
            return np.zeros_like(self.B), 1 / e
        slope = self.gradient(at)
        return slope * (self.bend - 1) / at, (self.power + 1) / (self.power * e)


@dataclass(frozen=True)
class WorldOptions:
    """Truth, whether one old domain is coupled and how strongly, sizes, noise, strength of what is computed."""

    shape: Shape = "log-linear"
    coupled: bool = True
    n_old: tuple[int, int] = (10, 16)
    n_metrics: tuple[int, int] = (8, 20)
    noise: tuple[float, float] = (0.1, 0.2)
    revise: bool = True
    strength: float = 1.0
    computed: float = 1.0


class World:
    """One planted world; `old`, `new` are its domain sets, `universe` holds every content there ever was."""

    def __init__(self, seed: int, options: WorldOptions) -> None:
        self.rng = rng = np.random.default_rng(seed)
        self.options = options
        m, n = rng.integers(*options.n_old, endpoint=True), rng.integers(*options.n_metrics, endpoint=True)
        tokens = np.round(1e9 * np.exp(rng.normal(0, 0.7, m + 3)))
        self.old = DomainSet(Domain(f"old{j:02d}", int(tokens[j])) for j in range(m))
        n_new = int(rng.integers(1, 3, endpoint=True))
        changes: list[Add | Revise] = [Add(f"new{j}", int(tokens[m + j])) for j in range(n_new)]
        if options.revise and rng.random() < 0.5:
            changes.append(Revise("old00", int(tokens[0])))
        self.update = DomainUpdate(tuple(changes))
        self.new = self.update.apply(self.old)
        self.affected = self.update.affected(self.old)
        self.unaffected = self.update.unaffected(self.old)
        self.retired = tuple(retired_name(c.name, 1) for c in changes if isinstance(c, Revise))
        self.universe = DomainSet([*self.new, *(Domain(name, 0) for name in self.retired)])
        self.coupled = self.unaffected[0] if options.coupled else None
        self.law = self._planted(int(n))
        self.objective = Objective.from_dict([f"metric{i:02d}" for i in range(n)], quantity="metric")
        self.metrics = self.objective.metrics

    def _planted(self, n: int) -> PlantedLaw:
        """Who acts on what: B, shape (metrics, universe)."""
        rng, names = self.rng, self.universe.names
        n_shared = max(2, round(n / 3))  # affected metrics
        B = np.abs(rng.normal(0, 0.15, (n, len(names))))
        actors = [name for name in self.unaffected if name != self.coupled]
        for i in range(n_shared, n):
            for name in rng.choice(actors, size=2, replace=False):
                B[i, names.index(name)] += rng.uniform(2, 5)
        for k, name in enumerate(actors):  # nobody is idle: an idle domain would be frozen at zero
            B[n_shared + k % (n - n_shared), names.index(name)] += rng.uniform(2, 5)
        for name in self.affected:
            B[:n_shared, names.index(name)] += (
                self.options.computed * rng.uniform(3, 6, n_shared) * (rng.random(n_shared) < 0.7)
            )
        for name in self.retired:
            B[:n_shared, names.index(name)] += rng.uniform(1, 3, n_shared) * (rng.random(n_shared) < 0.7)
        if self.coupled is not None:
            B[:n_shared, names.index(self.coupled)] += rng.uniform(1, 3, n_shared) * self.options.strength
        floor, size = rng.uniform(1, 2, n), rng.uniform(0.3, 1.0, n)
        return PlantedLaw(self.options.shape, floor, size, B)

    @property
    def prior(self) -> Mixture:
        """Natural over today's content, shape (universe,)."""
        return Mixture.natural(self.universe)

    @property
    def old_prior(self) -> Mixture:
        """Natural over the content of the day before the update."""
        return self._carried(Mixture.natural(self.old).as_dict)

    def _carried(self, shares: dict[str, float]) -> Mixture:
        carried = self.update.carry(shares, keep_retired=True, domains=self.old, version=1)
        assert isinstance(carried, dict)
        return Mixture.from_dict(self.universe, carried)

    @property
    def kl_weight(self) -> float:
        """lambda of the true programme, from the true spread."""
        return scaled_kl_weight(self.law, self.objective, self.prior, np.random.default_rng(0), KL)

    def problem(self, prior: Mixture, kl_weight: float | None = None) -> MixtureProblem:
        """The true programme over content with prior mass."""
        bounds = Constraints().bounds(self.universe, 1.0)
        weight = self.kl_weight if kl_weight is None else kl_weight
        return MixtureProblem(self.law, self.objective, bounds, prior, weight)

    def fixed_from(self, mixture: Mixture) -> CollapsedSpace:
        """Today's leaves with the unaffected domains in the proportions of a mixture over the universe."""
        return CollapsedSpace.fix(self.new, {name: mixture[name] for name in self.unaffected})

    def measured(self, weights: Floats, sigma: Floats) -> Floats:
        """Noisy metrics of runs, shape (runs, metrics)."""
        truth = self.law.predict(weights)
        return np.asarray(truth + sigma * self.rng.normal(size=truth.shape))

    def old_swarm(self) -> tuple[Floats, Floats, Floats]:
        """3 (m + 1) runs around the old prior: weights over the universe, values, noise per metric."""
        rng = self.rng
        prior = Mixture.natural(self.old)
        draws = dirichlet_design(prior, 3 * (len(self.old) + 1), rng)
        weights = np.array([self._carried(draw.as_dict).weights for draw in draws])
        sigma = rng.uniform(*self.options.noise, len(self.metrics)) * self.law.predict(weights).std(axis=0)
        return weights, self.measured(weights, sigma), sigma

    def collapsed_swarm(self, space: CollapsedSpace, sigma: Floats) -> tuple[Floats, Floats]:
        """3 (|affected| + 1) runs that keep the frozen proportions."""
        total = float(self.prior.weights @ [name in self.unaffected for name in self.universe.names])
        shares = [total, *(self.prior[name] for name in space.free)]
        draws = dirichlet_design(Mixture(space.components, shares), 3 * len(space.components), self.rng)
        leaves = space.expand(np.array([draw.weights for draw in draws]))
        weights = np.hstack([leaves, np.zeros((len(leaves), len(self.retired)))])
        return weights, self.measured(weights, sigma)

    def fitted(self, weights: Floats, values: Floats, prior: Mixture, law: str) -> FittedLaw:
        """A law fitted to runs over the universe."""
        recipe = StudyRecipe(law=law, prior=dict(prior.as_dict), kl=KL)
        return fit(Observations(self.universe, weights, self.metrics, values), recipe)

    def old_proposal(self, weights: Floats, values: Floats, law: MixingLaw) -> Mixture:
        """What the old swarm proposes, over the universe: the mixture that is frozen."""
        live = weights.max(axis=0) > 0
        domains = DomainSet(d for d, inside in zip(self.universe, live, strict=True) if inside)
        prior = Mixture(domains, self.old_prior.weights[live])
        fitted = law.fit(Runs.of(weights[:, live], values))
        weight = scaled_kl_weight(fitted, self.objective, prior, np.random.default_rng(0), KL)
        problem = MixtureProblem(fitted, self.objective, Constraints().bounds(domains, 1.0), prior, weight)
        return Mixture.from_dict(self.universe, dict(solve(problem).mixture.as_dict))
