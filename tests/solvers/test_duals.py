"""Dual values against finite differences of the solved optimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evermix.constraints import Bounds, Constraints, GroupTotal
from evermix.domains import Domain, DomainSet
from evermix.mixture import Mixture
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

from .planted import domain_set, objective, planted_law, random_problem


def optimum(problem: MixtureProblem) -> float:
    return problem.total(solve(problem).mixture.weights)


def slope(problem: MixtureProblem, moved: list[MixtureProblem], step: float) -> float:
    """Central difference of the optimum over the two problems `moved` (up, down)."""
    return (optimum(moved[0]) - optimum(moved[1])) / (2 * step)


@pytest.mark.parametrize("seed", range(8))
def test_prices_of_caps_floors_and_fixed_shares(seed: int) -> None:
    problem = random_problem(seed)
    names, step = problem.prior.domains.names, 1e-4
    duals = solve(problem).duals
    for dual in duals:
        kind, name = dual.constraint.split(":")
        j = names.index(name)
        shift = np.where(np.arange(len(names)) == j, step, 0.0)
        bounds = problem.bounds
        field = "lower" if kind == "floor" else "upper"
        moved = [
            replace(problem, bounds=replace(bounds, **{field: getattr(bounds, field) + sign * shift}))
            for sign in (1, -1)
        ]
        assert dual.price == pytest.approx(
            slope(problem, moved, step), rel=0.05, abs=2e-5 * abs(problem.value(bounds.centre))
        )


def test_prices_of_groups_and_guards() -> None:
    checked = 0
    for seed in range(30):
        problem = random_problem(seed, n_groups=2, guarded=True)
        for dual in solve(problem).duals:
            kind, name = dual.constraint.split(":")
            step = 1e-4
            if kind == "group":
                moved = []
                for sign in (1, -1):
                    groups = tuple(
                        g
                        if g.name != name
                        else replace(g, **{("upper" if dual.price < 0 else "lower"): dual.bound + sign * step})
                        for g in problem.bounds.groups
                    )
                    moved.append(replace(problem, bounds=replace(problem.bounds, groups=groups)))
            elif kind == "guard":
                assert problem.ceilings is not None
                at = np.arange(len(problem.ceilings)) == problem.objective.metrics.index(name)
                moved = [replace(problem, ceilings=problem.ceilings + sign * step * at) for sign in (1, -1)]
            else:
                continue
            measured = slope(problem, moved, step)
            assert dual.price == pytest.approx(measured, rel=0.1, abs=1e-4 * abs(problem.value(problem.start))), (
                seed,
                name,
            )
            checked += 1
    assert checked >= 10


def test_an_epoch_cap_is_priced_per_epoch_and_per_token() -> None:
    rng = np.random.default_rng(0)
    law, goal = planted_law("power-link", 3, 2, rng), objective(2, "metric", rng)
    best = int(
        solve(
            MixtureProblem(law, goal, Bounds(np.zeros(3), np.ones(3), ("",) * 3), Mixture.uniform(domain_set(3)), 0.01)
        ).mixture.weights.argmax()
    )
    sizes = [1000, 1000, 1000]
    sizes[best] = 50

    def solved(k: float, tokens: int) -> tuple[float, MixtureProblem]:
        counts = [tokens if j == best else n for j, n in enumerate(sizes)]
        domains = DomainSet([Domain(f"d{j}", n) for j, n in enumerate(counts)])
        problem = MixtureProblem(
            law, goal, Constraints(max_epochs=k).bounds(domains, 1000), Mixture.uniform(domains), 0.01
        )
        return optimum(problem), problem

    _, problem = solved(4, 50)
    dual = next(d for d in solve(problem).duals if d.constraint == f"epochs:d{best}")
    assert dual.per_epoch is not None
    assert dual.per_percent_tokens is not None
    assert dual.price < 0
    assert dual.per_epoch == pytest.approx((solved(4.01, 50)[0] - solved(3.99, 50)[0]) / 0.02, rel=0.02)
    assert dual.per_percent_tokens == pytest.approx((solved(4, 51)[0] - solved(4, 49)[0]) / 4, rel=0.02)


def test_a_group_total_is_named() -> None:
    domains = DomainSet([Domain("code:python", 1000), Domain("code:c", 1000), Domain("web", 1000)])
    rules = Constraints(groups={"code": GroupTotal(("code:",), greatest=0.1)})
    rng = np.random.default_rng(0)
    law = planted_law("power-link", 3, 2, rng)
    problem = MixtureProblem(
        law, objective(2, "metric", rng), rules.bounds(domains, 100), Mixture.uniform(domains), 1.0
    )
    proposal = solve(problem)
    assert proposal.mixture["code:python"] + proposal.mixture["code:c"] == pytest.approx(0.1, abs=1e-6)
    assert [d.constraint for d in proposal.duals] == ["group:code"]
    assert proposal.duals[0].price < 0
