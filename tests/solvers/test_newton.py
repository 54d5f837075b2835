"""The structured Newton solver against Clarabel and random search, with caps, floors, groups and guards."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.constraints import Bounds, NoRegression
from evermix.errors import ConstraintError, ConvergenceError
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.solvers.convex import solve_by_clarabel
from evermix.solvers.newton import StructuredHessian, solve_by_newton
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

from .planted import domain_set, objective, planted_law, random_problem, simplex, total


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), n_groups=st.integers(0, 3), guarded=st.booleans())
def test_agrees_with_clarabel_and_is_certified(seed: int, n_groups: int, guarded: bool) -> None:
    problem = random_problem(seed, n_groups, guarded)
    weights, _ = solve_by_newton(problem)
    size = abs(problem.value(weights))
    assert problem.gap(weights) <= 1e-6 * size
    assert problem.bounds.hold(weights, 1e-8)
    assert problem.excess(weights) <= 1e-6
    try:
        other, _ = solve_by_clarabel(problem)
    except ConvergenceError:  # once in some hundred problems Clarabel is not certified to 1e-5: no reference then
        return
    assert problem.total(weights) == pytest.approx(problem.total(other), abs=3e-5 * size)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 100_000), n_groups=st.integers(0, 3), guarded=st.booleans())
def test_never_beaten_by_ten_thousand_mixtures_within_bounds_groups_and_guards(
    seed: int, n_groups: int, guarded: bool
) -> None:
    problem = random_problem(seed, n_groups, guarded)
    proposal = solve(problem)
    p, m, rng = proposal.mixture.weights, len(problem.prior.domains), np.random.default_rng(seed)
    rivals = np.vstack([rng.dirichlet(np.ones(m), 3000), p * np.exp(rng.normal(0, 0.1, (3000, m)))])
    rivals /= rivals.sum(axis=1, keepdims=True)
    within = np.array([problem.bounds.clip(row) for row in rivals[::40]])
    pairs = rng.integers(0, len(within), (10_000, 2))
    share = rng.uniform(0, 1, (10_000, 1))
    mixed = share * within[pairs[:, 0]] + (1 - share) * within[pairs[:, 1]]  # convex: still within
    rivals = np.vstack([mixed, p + rng.uniform(0, 1, (10_000, 1)) ** 3 * (mixed - p)])
    assert problem.bounds.hold(rivals, 1e-7).all()
    if problem.ceilings is not None:
        rivals = rivals[(problem.law.predict(rivals) <= problem.ceilings).all(axis=1)]
    best = problem.total(p)
    totals = total(problem.law, problem.objective, problem.prior, problem.kl_weight, rivals)
    assert totals.min(initial=np.inf) >= best - 2e-6 * abs(best)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 100_000))
def test_a_metrics_unit_with_its_weight_leaves_the_answer_alone(seed: int) -> None:
    rng = np.random.default_rng(seed)
    law = planted_law("power-link", 5, 3, rng)
    assert isinstance(law, PowerLinkLaw)
    scaled = planted_law("power-link", 5, 3, np.random.default_rng(seed))
    assert isinstance(scaled, PowerLinkLaw)
    unit = np.array([100.0, 1.0, 0.01])
    scaled.b_, scaled.c_ = law.b_ * unit, law.c_ * unit
    weights = dict(zip("abc", rng.uniform(0.1, 1, 3), strict=True))
    rescaled = {name: w / u for (name, w), u in zip(weights.items(), unit, strict=True)}
    prior = Mixture.normalised(domain_set(5), rng.uniform(0.1, 1, 5))
    one = Objective.from_dict("abc", weights, "metric")
    other = Objective.from_dict("abc", rescaled, "metric")
    kl = 0.02 * sum(weights.values())
    first = solve(MixtureProblem(law, one, simplex(5), prior, kl / sum(weights.values())))
    second = solve(MixtureProblem(scaled, other, simplex(5), prior, kl / sum(rescaled.values())))
    np.testing.assert_allclose(first.mixture.weights, second.mixture.weights, atol=2e-4)


def test_permuting_metrics_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    law, turned = (planted_law("log-linear", 6, 4, np.random.default_rng(1)) for _ in range(2))
    assert isinstance(law, LogLinearLaw)
    assert isinstance(turned, LogLinearLaw)
    order = [2, 0, 3, 1]
    turned.c_, turned.t_ = law.c_[order], law.t_[order]
    weights, prior = rng.uniform(0.1, 1, 4), Mixture.uniform(domain_set(6))
    goals = [Objective(tuple(f"m{i}" for i in o), tuple(weights[o]), "metric") for o in (np.arange(4), np.array(order))]
    answers = [
        solve(MixtureProblem(each, goal, simplex(6), prior, 0.01))
        for each, goal in zip((law, turned), goals, strict=True)
    ]
    np.testing.assert_allclose(answers[0].mixture.weights, answers[1].mixture.weights, atol=1e-6)


def test_fixed_shares_dead_domains_and_shares_near_zero() -> None:
    rng = np.random.default_rng(4)
    law = planted_law("power-link", 6, 4, rng)
    assert isinstance(law, PowerLinkLaw)
    law.g = 0.6
    box = Bounds(
        np.array([0, 0.2, 0, 0, 0, 0.0]), np.array([1, 0.2, 1e-4, 1, 1, 1.0]), ("", "fixed", "cap", "", "", "")
    )
    prior = Mixture(domain_set(6), [0.3, 0.3, 0.2, 0.2, 0, 0])
    problem = MixtureProblem(law, objective(4, "metric", rng), box, prior, 0.01)
    weights, _ = solve_by_newton(problem)
    assert weights[1] == pytest.approx(0.2)
    assert weights[2] == pytest.approx(1e-4, rel=1e-3)
    assert weights[4] == weights[5] == 0
    assert problem.total(weights) == pytest.approx(problem.total(solve_by_clarabel(problem)[0]), abs=1e-6)


def test_a_warm_start_reaches_the_same_answer() -> None:
    rng = np.random.default_rng(2)
    law, prior = planted_law("power-link", 12, 20, rng), Mixture.normalised(domain_set(12), rng.uniform(0.1, 1, 12))
    problem = MixtureProblem(law, objective(20, "metric", rng), simplex(12), prior, 1e-3)
    cold = solve(problem)
    warm = solve(replace(problem, kl_weight=1.1e-3), start=cold.mixture.weights)
    assert warm.solver == "newton"
    np.testing.assert_allclose(
        warm.mixture.weights, solve(replace(problem, kl_weight=1.1e-3)).mixture.weights, atol=1e-5
    )


class Undefined(LogLinearLaw):
    """A log-linear law without numbers where `missing` says so."""

    missing = ""

    def predict(self, P: npt.ArrayLike) -> np.ndarray:
        return super().predict(P) * (np.nan if self.missing == "predictions" else 1.0)

    def gradient(self, p: npt.ArrayLike) -> np.ndarray:
        return super().gradient(p) * (np.nan if self.missing == "slopes" else 1.0)

    def weighted_curvature(self, p: npt.ArrayLike, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        diagonal, rows = super().weighted_curvature(p, weights)
        factor = np.nan if self.missing == "curvature" else 1.0
        return diagonal * factor, rows * factor


def _undefined(missing: str) -> MixtureProblem:
    planted = planted_law("log-linear", 5, 3, np.random.default_rng(2))
    assert isinstance(planted, LogLinearLaw)
    law = Undefined()
    law.missing = missing
    law.c_, law.t_, law.n_domains_, law.n_metrics_ = planted.c_, planted.t_, 5, 3
    goal = objective(3, "metric", np.random.default_rng(1))
    return MixtureProblem(law, goal, simplex(5), Mixture.uniform(domain_set(5)), 0.01)


@pytest.mark.parametrize("missing", ["predictions", "slopes", "curvature"])
def test_a_law_without_finite_numbers_is_named(missing: str) -> None:
    with pytest.raises(ConvergenceError, match=f"finite .*{missing}.* of the law.*got nan.*clarabel"):
        solve_by_newton(_undefined(missing))


def test_without_a_curvature_clarabel_answers() -> None:
    proposal = solve(_undefined("curvature"))
    assert proposal.solver == "clarabel"
    np.testing.assert_allclose(proposal.mixture.weights, solve(_undefined("")).mixture.weights, atol=1e-4)


def test_a_metric_that_vanishes_counts_as_a_constant() -> None:
    problem = _undefined("")
    assert isinstance(problem.law, LogLinearLaw)
    problem.law.t_ = problem.law.t_ - np.array([2000.0, 0, 0])[:, None]
    weights, _ = solve_by_newton(problem)
    rest = Objective(problem.objective.metrics, (0.0, *problem.objective.weights[1:]), "metric")
    pull = problem.kl_weight / (1 - problem.objective.weights[0])
    without, _ = solve_by_newton(replace(problem, objective=rest, kl_weight=pull))
    np.testing.assert_allclose(weights, without, atol=1e-5)


def test_thousands_of_domains_take_seconds_at_most() -> None:
    rng = np.random.default_rng(0)
    m = 4096
    prior = Mixture.normalised(domain_set(m), rng.uniform(0.1, 1, m))
    box = Bounds(np.zeros(m), np.minimum(4 * prior.weights, 1), ("cap",) * m)
    problem = MixtureProblem(planted_law("log-linear", m, 20, rng), objective(20, "metric", rng), box, prior, 1e-3)
    proposal = solve(problem)
    assert proposal.solver == "newton"
    assert proposal.gap is not None
    assert proposal.gap <= 1e-6 * proposal.objective_value


def test_guards_hold_and_impossible_ones_say_what_tolerance_would_do() -> None:
    rng = np.random.default_rng(0)
    law, goal = planted_law("power-link", 8, 5, rng), objective(5, "metric", rng)
    uniform = Mixture.uniform(domain_set(8))
    free = solve(MixtureProblem(law, goal, simplex(8), uniform, 0.0))
    problem = MixtureProblem.guarded(law, goal, simplex(8), uniform, 0.0, NoRegression(uniform, 0.0))
    assert problem.excess(free.mixture.weights) > 0
    guarded = solve(problem)
    assert problem.excess(guarded.mixture.weights) <= 1e-7
    assert free.objective_value < guarded.objective_value < float(goal.value(law.predict(uniform.weights)))
    assert problem.ceilings is not None
    tight = replace(problem, ceilings=problem.ceilings * 0.7)
    with pytest.raises(ConstraintError, match=r"would be .*% .* above\. Hint: raise the tolerance by") as caught:
        solve(tight)
    percent = float(str(caught.value).split("by ")[-1].split("%")[0])
    assert solve(replace(tight, ceilings=tight.ceilings * (1 + percent / 100))).gap is not None  # type: ignore[operator]


def test_without_an_interior_it_declines_and_auto_falls_back() -> None:
    rng = np.random.default_rng(1)
    upper = np.array([0.5, 0.3, 0.2, 1e-13])
    box = Bounds(np.zeros(4), upper + 1e-12, ("cap",) * 4)
    law, goal = planted_law("log-linear", 4, 3, rng), objective(3, "metric", rng)
    problem = MixtureProblem(law, goal, box, Mixture.uniform(domain_set(4)), 0.01)
    assert solve(problem).mixture.weights == pytest.approx([0.5, 0.3, 0.2, 0], abs=1e-6)
    point = MixtureProblem(law, goal, Bounds(upper, upper, ("",) * 4), Mixture.uniform(domain_set(4)), 0.01)
    with pytest.raises(ConvergenceError):
        solve_by_newton(point)


@pytest.mark.parametrize("n_rows", [3, 40])
def test_structured_solve_against_the_dense_system(n_rows: int) -> None:
    rng = np.random.default_rng(0)
    diagonal, rows, equalities = rng.uniform(0.1, 10, 20), rng.normal(size=(n_rows, 20)), rng.normal(size=(2, 20))
    right = rng.normal(size=(20, 2))
    dx, nu = StructuredHessian(diagonal, rows).solve_with_equalities(right, equalities)
    whole = np.block([[np.diag(diagonal) + rows.T @ rows, equalities.T], [equalities, np.zeros((2, 2))]])
    expected = np.linalg.solve(whole, np.vstack([right, np.zeros((2, 2))]))
    np.testing.assert_allclose(np.vstack([dx, nu]), expected, atol=1e-10)
