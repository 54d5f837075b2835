"""Planted laws, objectives and boxes for the solver tests."""

from __future__ import annotations

from typing import cast

import numpy as np

from evermix.constraints import Bounds, GroupBound
from evermix.domains import Domain, DomainSet
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective, Quantity
from evermix.solvers.problem import MixtureProblem


def domain_set(m: int) -> DomainSet:
    return DomainSet([Domain(f"d{j}", 1000) for j in range(m)])


def planted_law(kind: str, m: int, n: int, rng: np.random.Generator) -> MixingLaw:
    """A law with given parameters, as if fitted."""
    law: MixingLaw
    if kind == "power-link":
        law = power = PowerLinkLaw(g=float(rng.choice([0.6, 0.7, 1.0])))
        power.b_, power.c_ = rng.uniform(1, 2, n), rng.uniform(0.3, 1, n)
        power.a_, power.tau_ = rng.uniform(0.2, 0.8, n), np.exp(rng.normal(-1, 1, (n, m)))
    else:
        law = log_linear = LogLinearLaw()
        log_linear.c_, log_linear.t_ = rng.normal(0.3, 0.2, n), rng.normal(0, 1, (n, m))
    law.n_domains_, law.n_metrics_ = m, n
    return law


def objective(n: int, quantity: str, rng: np.random.Generator) -> Objective:
    metrics = [f"m{i}" for i in range(n)]
    factor = rng.uniform(0.3, 0.5, n) if quantity == "bits_per_byte" else None
    return Objective.from_dict(
        metrics, dict(zip(metrics, rng.uniform(0.1, 1, n), strict=True)), cast(Quantity, quantity), factor
    )


def simplex(m: int) -> Bounds:
    return Bounds(np.zeros(m), np.ones(m), ("",) * m)


def total(law: MixingLaw, goal: Objective, prior: Mixture, kl_weight: float, P: np.ndarray) -> np.ndarray:
    """Objective + kl_weight * KL, shape (..., domains) -> (...)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(P > 0, P * np.log(P / prior.weights), 0.0).sum(axis=-1)
    value: np.ndarray = goal.value(law.predict(P)) + kl_weight * kl
    return value


def random_bounds(m: int, rng: np.random.Generator, inside: np.ndarray, n_groups: int = 0) -> Bounds:
    """Floors, caps and overlapping groups that `inside`, shape (m,), obeys with room."""
    groups = []
    for g in range(n_groups):
        members = rng.random(m) < 0.5
        if not members.any() or members.all():
            continue
        total = float(inside[members].sum())
        least = max(0.0, total - 0.05) if rng.random() < 0.5 else 0.0
        groups.append(GroupBound(f"g{g}", members, least, min(1.0, total + 0.05)))
    lower = inside * rng.uniform(0, 0.9, m) * (rng.random(m) < 0.4)
    upper = np.minimum(1, inside * rng.uniform(1.1, 3, m) + 0.02)
    return Bounds(lower, upper, ("cap",) * m, tuple(groups))


def random_problem(seed: int, n_groups: int = 0, guarded: bool = False) -> MixtureProblem:
    """A convex problem with caps, floors, perhaps groups and guards."""
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(3, 9)), int(rng.integers(1, 6))
    law = planted_law(str(rng.choice(["power-link", "log-linear"])), m, n, rng)
    goal = objective(n, str(rng.choice(["metric", "bits_per_byte", "perplexity"])), rng)
    prior = Mixture.normalised(domain_set(m), rng.uniform(0.1, 1, m))
    inside = rng.dirichlet(np.full(m, 2.0))
    box = random_bounds(m, rng, inside, n_groups)
    ceilings = np.where(rng.random(n) < 0.6, law.predict(inside) * 1.003, np.inf) if guarded else None
    return MixtureProblem(law, goal, box, prior, float(rng.choice([0.0, 1e-3, 0.05])), ceilings)
