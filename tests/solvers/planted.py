"""Planted laws, objectives and boxes for the solver tests."""

from __future__ import annotations

import numpy as np

from evermix.constraints import Bounds
from evermix.domains import Domain, DomainSet
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective, Quantity


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


def objective(n: int, quantity: Quantity, rng: np.random.Generator) -> Objective:
    metrics = [f"m{i}" for i in range(n)]
    factor = rng.uniform(0.3, 0.5, n) if quantity == "bits_per_byte" else None
    return Objective.from_dict(metrics, dict(zip(metrics, rng.uniform(0.1, 1, n), strict=True)), quantity, factor)


def simplex(m: int) -> Bounds:
    return Bounds(np.zeros(m), np.ones(m), ("",) * m)


def total(law: MixingLaw, goal: Objective, prior: Mixture, kl_weight: float, P: np.ndarray) -> np.ndarray:
    """Objective + kl_weight * KL, shape (..., domains) -> (...)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        kl = np.where(P > 0, P * np.log(P / prior.weights), 0.0).sum(axis=-1)
    value: np.ndarray = goal.value(law.predict(P)) + kl_weight * kl
    return value
