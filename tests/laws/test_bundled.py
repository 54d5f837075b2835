"""A law over a collapsed space, seen from the leaves; and that its optimum keeps the frozen proportions."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from evermix.constraints import Constraints
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, NotFittedError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.laws.bundled import BundledLaw
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.live import LiveLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations.runs import Runs
from evermix.reuse import CollapsedSpace
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

LEAVES = DomainSet([Domain(name, n) for name, n in zip("abcdef", (900, 100, 50, 30, 20, 10), strict=True)])
SPACE = CollapsedSpace.freeze(LEAVES, {"a": 0.3, "c": 0.2, "d": 0.1, "e": 0.0})


def runs(k: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = SPACE.expand(rng.dirichlet(np.ones(3), k))
    tau = np.exp(rng.normal(0, 1, (2, 6)))
    return P, 1 + (P**0.7 @ tau.T) ** -0.3 + rng.normal(0, 0.005, (k, 2))


@pytest.fixture(params=[LogLinearLaw, PowerLinkLaw])
def law(request: pytest.FixtureRequest) -> BundledLaw:
    return BundledLaw(request.param(), SPACE).fit(Runs.of(*runs()))


def test_it_is_the_inner_law_of_the_totals(law: BundledLaw) -> None:
    P, Y = runs()
    inner = law.inner.clone().fit(Runs.of(SPACE.collapse(P), Y))
    anywhere = np.random.default_rng(1).dirichlet(np.ones(6), 9)
    np.testing.assert_allclose(law.predict(anywhere), inner.predict(SPACE.collapse(anywhere)))
    assert law.n_domains_ == 6
    np.testing.assert_allclose(law.noise_, inner.noise_)


def test_it_has_as_many_parameters_as_the_inner_law_over_components(law: BundledLaw) -> None:
    assert law.parameter_count == type(law.inner).n_parameters(3)
    nested = BundledLaw(LiveLaw(PowerLinkLaw(), (True, False, True), 0.2), SPACE)
    P, Y = runs()
    kept = SPACE.collapse(P)[:, 1] < 0.3
    P = SPACE.expand(np.array([1, 0, 1]) * SPACE.collapse(P[kept]) / (1 - SPACE.collapse(P[kept])[:, 1:2]))
    assert nested.fit(Runs.of(P, Y[kept])).parameter_count == PowerLinkLaw.n_parameters(2)


def test_gradient_and_curvature_against_differences(law: BundledLaw) -> None:
    p, weights = SPACE.expand([0.5, 0.2, 0.3]) + 0.01, np.array([0.3, 0.7])
    step = 1e-5
    numeric = np.array([(law.predict(p + step * e) - law.predict(p - step * e)) / (2 * step) for e in np.eye(6)]).T
    np.testing.assert_allclose(law.gradient(p), numeric, rtol=1e-5, atol=1e-8)
    d, rows = law.weighted_curvature(p, weights)
    slopes = [weights @ (law.gradient(p + step * e) - law.gradient(p - step * e)) / (2 * step) for e in np.eye(6)]
    np.testing.assert_allclose(np.diag(d) + rows.T @ rows, np.array(slopes), rtol=1e-4, atol=1e-6)


def test_a_diagonal_per_metric_only_where_the_bundle_does_not_bend() -> None:
    p = SPACE.expand([0.5, 0.2, 0.3])
    straight = BundledLaw(LogLinearLaw(), SPACE).fit(Runs.of(*runs()))
    d, s = straight.curvature(p)
    g = straight.gradient(p)
    total = 0.3 * (np.diag(d[0]) + s[0] * np.outer(g[0], g[0])) + 0.7 * (np.diag(d[1]) + s[1] * np.outer(g[1], g[1]))
    whole, rows = straight.weighted_curvature(p, np.array([0.3, 0.7]))
    np.testing.assert_allclose(total, np.diag(whole) + rows.T @ rows)
    with pytest.raises(ConstraintError, match="call weighted_curvature"):
        BundledLaw(PowerLinkLaw(), SPACE).fit(Runs.of(*runs())).curvature(p)


def test_expressions_are_its_predictions(law: BundledLaw) -> None:
    variable = cp.Variable(6, nonneg=True)
    expressions = law.expressions(variable)
    variable.value = SPACE.expand([0.5, 0.2, 0.3])
    assert law.is_convex
    assert all(expression.is_convex() for expression in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], law.predict(variable.value), rtol=1e-9)


def test_refits_settles_and_clones_as_the_inner_law_does(law: BundledLaw) -> None:
    P, Y = runs()
    counts = np.random.default_rng(3).multinomial(len(P), np.full(len(P), 1 / len(P))).astype(float)
    refitted = law.inner_.refit(Runs.of(SPACE.collapse(P), Y, counts=counts))
    np.testing.assert_allclose(law.refit(Runs.of(P, Y, counts=counts)).predict(P), refitted.predict(SPACE.collapse(P)))
    np.testing.assert_allclose(law.settled().fit(Runs.of(P, Y)).predict(P), law.predict(P), rtol=1e-6)
    with pytest.raises(NotFittedError):
        law.clone().predict(P)
    with pytest.raises(NotFittedError):
        law.clone().refit(Runs.of(P, Y))


def test_flags_are_the_inner_laws() -> None:
    law: MixingLaw = BundledLaw(GaussianProcessLaw(), SPACE)
    assert (law.is_convex, law.has_gradient, law.has_std, law.pools_metrics) == (False, True, True, True)
    P, Y = runs()
    value, std = law.fit(Runs.of(P, Y)).predict_with_std(P)
    inner = GaussianProcessLaw().fit(Runs.of(SPACE.collapse(P), Y))
    np.testing.assert_allclose((value, std), inner.predict_with_std(SPACE.collapse(P)))
    with pytest.raises(ObservationError, match="6 weights"):
        law.predict(np.full(3, 1 / 3))


@pytest.mark.parametrize("method", ["newton", "clarabel"])
@pytest.mark.parametrize("n_tokens", [1.0, 400.0])
def test_the_leaf_optimum_is_the_component_optimum_and_keeps_the_proportions(
    law: BundledLaw, method: str, n_tokens: float
) -> None:
    """Against the same problem solved over components alone, caps (binding for n_tokens 400) included."""
    constraints, objective = Constraints(max_epochs=4), Objective(("x", "y"), (0.4, 0.6))
    prior = SPACE.prior(Mixture.natural(LEAVES))
    problem = MixtureProblem(law, objective, SPACE.tighten(constraints.bounds(LEAVES, n_tokens)), prior, 0.02)
    found = solve(problem, method).mixture.weights  # type: ignore[arg-type]
    np.testing.assert_allclose(found, SPACE.project(found), atol=2e-5)
    pi = Mixture(SPACE.components, SPACE.collapse(prior.weights))
    bounds = constraints.bounds(SPACE.components, n_tokens)
    small = solve(MixtureProblem(law.inner_, objective, bounds, pi, 0.02)).mixture.weights
    np.testing.assert_allclose(SPACE.collapse(found), small, atol=2e-5)
