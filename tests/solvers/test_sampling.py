"""The sampling search: near the exact optimum of convex laws, and sound on laws without gradient."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.constraints import Bounds
from evermix.errors import ConstraintError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

from .planted import domain_set, random_problem, simplex


class Steps(MixingLaw):
    """Piecewise constant, as trees are: the number of tenths between p and the target, domain by domain."""

    name, formula, source = "steps", "", ""

    def __init__(self, target: tuple[float, ...]) -> None:
        self.target = target
        self.n_domains_, self.n_metrics_ = len(target), 1

    def fit(self, P: npt.ArrayLike, Y: npt.ArrayLike, sigma: Any = None, counts: Any = None) -> Self:
        return self

    def predict(self, P: npt.ArrayLike) -> npt.NDArray[np.float64]:
        return 1 + np.floor(20 * np.abs(np.asarray(P) - np.array(self.target))).sum(axis=-1, keepdims=True)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100_000), n_groups=st.integers(0, 2), guarded=st.booleans())
def test_comes_near_the_exact_optimum_within_bounds_and_guards(seed: int, n_groups: int, guarded: bool) -> None:
    problem = random_problem(seed, n_groups, guarded)
    exact, found = solve(problem), solve(problem, "sampling")
    assert problem.bounds.hold(found.mixture.weights, 1e-7)
    assert problem.excess(found.mixture.weights) <= 1e-6
    spread = np.ptp(problem.objective.value(problem.law.predict(np.eye(len(problem.prior.domains)) * 0.9 + 0.1 / 3)))
    ours = problem.total(exact.mixture.weights)
    assert ours - 1e-6 * abs(ours) <= problem.total(found.mixture.weights) <= ours + 0.02 * max(float(spread), 1e-3)


def test_a_law_that_is_not_convex_is_searched_and_deterministic() -> None:
    target = (0.05, 0.4, 0.0, 0.55, 0.0)
    prior = Mixture.uniform(domain_set(5))
    problem = MixtureProblem(Steps(target), Objective.from_dict(["a"], None, "metric"), simplex(5), prior, 0.0)
    proposal = solve(problem)
    assert (proposal.solver, proposal.gap, proposal.duals) == ("sampling", None, ())
    assert proposal.objective_value == 1.0
    assert solve(problem).mixture == proposal.mixture
    capped = replace(problem, bounds=Bounds(np.full(5, 0.02), np.full(5, 0.45), ("cap",) * 5))
    assert capped.bounds.hold(solve(capped).mixture.weights)


def test_starts_are_considered() -> None:
    rng = np.random.default_rng(0)
    target = tuple(rng.dirichlet(np.full(60, 0.05)))
    prior = Mixture.uniform(domain_set(60))
    problem = MixtureProblem(Steps(target), Objective.from_dict(["a"], None, "metric"), simplex(60), prior, 0.0)
    assert solve(problem, start=np.array([target, prior.weights])).objective_value == 1.0


def test_guards_that_nothing_meets_are_refused() -> None:
    problem = MixtureProblem(
        Steps((0.5, 0.5)),
        Objective.from_dict(["a"], None, "metric"),
        simplex(2),
        Mixture.uniform(domain_set(2)),
        0.0,
        np.array([0.5]),
    )
    with pytest.raises(ConstraintError, match="at best the worst guarded metric is 100% above"):
        solve(problem)
