"""Worst-case mixtures against SLSQP and random search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evermix.errors import ConstraintError
from evermix.mixture import Mixture
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import least_worst_change, least_worst_law

from .planted import domain_set, objective, planted_law, simplex


def a_problem(kind: str = "power-link") -> MixtureProblem:
    rng = np.random.default_rng(0)
    law = planted_law(kind, 5, 6, rng)
    return MixtureProblem(law, objective(6, "metric", rng), simplex(5), Mixture.uniform(domain_set(5)), 0.0)


@pytest.mark.parametrize("kind", ["power-link", "log-linear"])
def test_the_least_worst_change_is_not_beaten(kind: str) -> None:
    problem = a_problem(kind)
    reference = problem.prior
    found = least_worst_change(problem, reference)
    base = problem.law.predict(reference.weights)
    rng, p = np.random.default_rng(1), found.proposal.mixture.weights
    rivals = np.vstack([rng.dirichlet(np.ones(5), 10_000), 0.97 * p + 0.03 * rng.dirichlet(np.ones(5), 10_000)])
    changes = (problem.law.predict(rivals) / base - 1).max(axis=1)
    assert found.worst <= changes.min() + 1e-7
    assert found.worst <= 1e-9
    assert found.worst == pytest.approx(float((problem.law.predict(p) / base - 1).max()))
    assert set(found.binding) <= set(problem.objective.metrics)
    assert len(found.binding) >= 2
    assert found.proposal.gap == pytest.approx(0, abs=1e-6)


def test_the_least_worst_of_many_laws_is_not_beaten() -> None:
    problem = replace(a_problem(), kl_weight=0.01)
    laws = [planted_law("log-linear", 5, 6, np.random.default_rng(seed)) for seed in range(40)]
    found = least_worst_law(problem, laws)
    rng, p = np.random.default_rng(1), found.proposal.mixture.weights
    rivals = np.vstack([rng.dirichlet(np.ones(5), 3000), 0.97 * p + 0.03 * rng.dirichlet(np.ones(5), 3000)])
    tops = np.max([problem.objective.value(law.predict(rivals)) for law in laws], axis=0)
    kl = (rivals * np.log(rivals * 5)).sum(axis=1)
    ours = found.worst + 0.01 * found.proposal.kl_nats
    assert ours <= (tops + 0.01 * kl).min() + 1e-6


def test_what_it_cannot_do_is_refused() -> None:
    problem = a_problem()
    with pytest.raises(ConstraintError, match="at least one law"):
        least_worst_law(problem, [])
    with pytest.raises(ConstraintError, match="no guards"):
        least_worst_change(replace(problem, ceilings=np.full(6, 10.0)), problem.prior)
