"""A law behind a linear map: of sampled domains, of a collapsed space's totals, and over leaves asked about components.

And that the optimum of a law of totals keeps the frozen proportions.
"""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from evermix.constraints import Constraints
from evermix.domain_updates import CollapsedSpace
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, NotFittedError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.mapped import LinearlyMappedLaw, on_expanded, on_sampled, on_totals
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations.runs import Runs
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

LEAVES = DomainSet([Domain(name, n) for name, n in zip("abcdef", (900, 100, 50, 30, 20, 10), strict=True)])
SPACE = CollapsedSpace.fix(LEAVES, {"a": 0.3, "c": 0.2, "d": 0.1, "e": 0.0})


def proportioned(k: int = 30, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = SPACE.expand(rng.dirichlet(np.ones(3), k))
    tau = np.exp(rng.normal(0, 1, (2, 6)))
    return P, 1 + (P**0.7 @ tau.T) ** -0.3 + rng.normal(0, 0.005, (k, 2))


@pytest.fixture(params=[LogLinearLaw, PowerLinkLaw])
def totals(request: pytest.FixtureRequest) -> LinearlyMappedLaw:
    return on_totals(request.param(), SPACE).fit(Runs.of(*proportioned()))


def test_it_is_the_inner_law_of_the_totals(totals: LinearlyMappedLaw) -> None:
    P, Y = proportioned()
    inner = totals.inner.clone().fit(Runs.of(SPACE.collapse(P), Y))
    anywhere = np.random.default_rng(1).dirichlet(np.ones(6), 9)
    np.testing.assert_allclose(totals.predict(anywhere), inner.predict(SPACE.collapse(anywhere)))
    assert totals.n_domains_ == 6
    np.testing.assert_allclose(totals.noise_, inner.noise_)


def test_it_has_as_many_parameters_as_the_inner_law_over_components(totals: LinearlyMappedLaw) -> None:
    assert totals.parameter_count == type(totals.inner).n_parameters(3)
    nested = on_totals(on_sampled(PowerLinkLaw(), (True, False, True), 0.2), SPACE)
    P, Y = proportioned()
    kept = SPACE.collapse(P)[:, 1] < 0.3
    P = SPACE.expand(np.array([1, 0, 1]) * SPACE.collapse(P[kept]) / (1 - SPACE.collapse(P[kept])[:, 1:2]))
    assert nested.fit(Runs.of(P, Y[kept])).parameter_count == PowerLinkLaw.n_parameters(2)


def test_gradient_and_curvature_of_totals_against_differences(totals: LinearlyMappedLaw) -> None:
    p, weights = SPACE.expand([0.5, 0.2, 0.3]) + 0.01, np.array([0.3, 0.7])
    step = 1e-5
    numeric = np.array(
        [(totals.predict(p + step * e) - totals.predict(p - step * e)) / (2 * step) for e in np.eye(6)]
    ).T
    np.testing.assert_allclose(totals.gradient(p), numeric, rtol=1e-5, atol=1e-8)
    d, rows = totals.weighted_curvature(p, weights)
    slopes = [weights @ (totals.gradient(p + step * e) - totals.gradient(p - step * e)) / (2 * step) for e in np.eye(6)]
    np.testing.assert_allclose(np.diag(d) + rows.T @ rows, np.array(slopes), rtol=1e-4, atol=1e-6)


def test_a_diagonal_per_metric_only_where_the_bundle_does_not_bend() -> None:
    p = SPACE.expand([0.5, 0.2, 0.3])
    straight = on_totals(LogLinearLaw(), SPACE).fit(Runs.of(*proportioned()))
    d, s = straight.curvature(p)
    g = straight.gradient(p)
    total = 0.3 * (np.diag(d[0]) + s[0] * np.outer(g[0], g[0])) + 0.7 * (np.diag(d[1]) + s[1] * np.outer(g[1], g[1]))
    whole, rows = straight.weighted_curvature(p, np.array([0.3, 0.7]))
    np.testing.assert_allclose(total, np.diag(whole) + rows.T @ rows)
    with pytest.raises(ConstraintError, match="call weighted_curvature"):
        on_totals(PowerLinkLaw(), SPACE).fit(Runs.of(*proportioned())).curvature(p)


def test_expressions_of_totals_are_its_predictions(totals: LinearlyMappedLaw) -> None:
    variable = cp.Variable(6, nonneg=True)
    expressions = totals.expressions(variable)
    variable.value = SPACE.expand([0.5, 0.2, 0.3])
    assert totals.is_convex
    assert all(expression.is_convex() for expression in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], totals.predict(variable.value), rtol=1e-9)


def test_refits_settles_and_clones_as_the_inner_law_does(totals: LinearlyMappedLaw) -> None:
    P, Y = proportioned()
    counts = np.random.default_rng(3).multinomial(len(P), np.full(len(P), 1 / len(P))).astype(float)
    refitted = totals.inner_.refit(Runs.of(SPACE.collapse(P), Y, counts=counts))
    np.testing.assert_allclose(
        totals.refit(Runs.of(P, Y, counts=counts)).predict(P), refitted.predict(SPACE.collapse(P))
    )
    np.testing.assert_allclose(totals.with_fixed_choices().fit(Runs.of(P, Y)).predict(P), totals.predict(P), rtol=1e-6)
    with pytest.raises(NotFittedError):
        totals.clone().predict(P)
    with pytest.raises(NotFittedError):
        totals.clone().refit(Runs.of(P, Y))


def test_flags_of_totals_are_the_inner_laws() -> None:
    law: MixingLaw = on_totals(GaussianProcessLaw(), SPACE)
    assert (law.is_convex, law.has_gradient, law.has_std, law.pools_metrics) == (False, True, True, True)
    P, Y = proportioned()
    value, std = law.fit(Runs.of(P, Y)).predict_with_std(P)
    inner = GaussianProcessLaw().fit(Runs.of(SPACE.collapse(P), Y))
    np.testing.assert_allclose((value, std), inner.predict_with_std(SPACE.collapse(P)))
    with pytest.raises(ObservationError, match="6 weights"):
        law.predict(np.full(3, 1 / 3))


@pytest.mark.parametrize("method", ["newton", "clarabel"])
@pytest.mark.parametrize("n_tokens", [1.0, 400.0])
def test_the_leaf_optimum_is_the_component_optimum_and_keeps_the_proportions(
    totals: LinearlyMappedLaw, method: str, n_tokens: float
) -> None:
    """Against the same problem solved over components alone, caps (binding for n_tokens 400) included."""
    constraints, objective = Constraints(max_epochs=4), Objective(("x", "y"), (0.4, 0.6))
    prior = SPACE.prior(Mixture.natural(LEAVES))
    problem = MixtureProblem(totals, objective, SPACE.tighten(constraints.bounds(LEAVES, n_tokens)), prior, 0.02)
    found = solve(problem, method).mixture.weights  # type: ignore[arg-type]
    np.testing.assert_allclose(found, SPACE.project(found), atol=1e-4)
    pi = Mixture(SPACE.components, SPACE.collapse(prior.weights))
    bounds = constraints.bounds(SPACE.components, n_tokens)
    small = solve(MixtureProblem(totals.inner_, objective, bounds, pi, 0.02)).mixture.weights
    np.testing.assert_allclose(SPACE.collapse(found), small, atol=1e-4)


SAMPLED = (True, False, True, True, False)
COLUMNS = np.flatnonzero(SAMPLED)


def on_sampled_runs(seed: int = 0, k: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = np.zeros((k, len(SAMPLED)))
    P[:, COLUMNS] = rng.dirichlet(np.ones(len(COLUMNS)), k)
    tau = np.exp(rng.normal(0, 1, (2, len(COLUMNS))))
    return P, 1 + (P[:, COLUMNS] ** 0.7 @ tau.T) ** -0.3 + rng.normal(0, 0.005, (k, 2))


@pytest.fixture
def on_seen() -> LinearlyMappedLaw:
    return on_sampled(PowerLinkLaw(), SAMPLED, 0.2).fit(Runs.of(*on_sampled_runs()))


def allowed(seed: int = 1) -> np.ndarray:
    """A mixture whose unsampled domains keep their 20%."""
    p = np.full(len(SAMPLED), 0.1)
    p[COLUMNS] = 0.8 * np.random.default_rng(seed).dirichlet(np.full(3, 2.0))
    return p


def test_it_is_the_inner_law_of_what_is_sampled(on_seen: LinearlyMappedLaw) -> None:
    P, Y = on_sampled_runs()
    inner = PowerLinkLaw().fit(Runs.of(P[:, COLUMNS], Y))
    p = allowed()
    np.testing.assert_allclose(on_seen.predict(P), inner.predict(P[:, COLUMNS]))
    np.testing.assert_allclose(on_seen.predict(p), inner.predict(p[COLUMNS] / 0.8))
    value, std = on_seen.predict_with_std(p)
    np.testing.assert_allclose((value, std), inner.predict_with_std(p[COLUMNS] / 0.8))


def test_it_has_the_parameters_of_the_inner_law_over_sampled_domains(on_seen: LinearlyMappedLaw) -> None:
    assert on_seen.parameter_count == PowerLinkLaw.n_parameters(3)


def test_the_gradient_holds_along_what_the_constraints_allow(on_seen: LinearlyMappedLaw) -> None:
    """Unsampled shares are fixed, so only directions among sampled domains that keep the sum count."""
    p = allowed()
    gradient = on_seen.gradient(p)
    assert not gradient[:, [1, 4]].any()
    direction = np.array([1.0, 0.0, -0.4, -0.6, 0.0])
    numeric = (on_seen.predict(p + 1e-6 * direction) - on_seen.predict(p - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(gradient @ direction, numeric, rtol=1e-5)


def test_its_curvature_is_the_inner_one_in_its_scale(on_seen: LinearlyMappedLaw) -> None:
    p, weights = allowed(), np.array([0.3, 0.7])
    d, rows = on_seen.weighted_curvature(p, weights)
    inner_d, inner_rows = on_seen.inner_.weighted_curvature(p[COLUMNS] / 0.8, weights)
    inner = np.diag(inner_d) + inner_rows.T @ inner_rows
    whole = np.diag(d) + rows.T @ rows
    np.testing.assert_allclose(whole[np.ix_(COLUMNS, COLUMNS)], inner / 0.8**2)
    assert not whole[[1, 4]].any()
    single, factor = on_seen.curvature(p)
    slope = on_seen.gradient(p)
    total = sum(
        w * (np.diag(d_i) + s * np.outer(g, g)) for w, d_i, s, g in zip(weights, single, factor, slope, strict=True)
    )
    np.testing.assert_allclose(total, whole)


def test_expressions_among_sampled_domains_are_its_predictions(on_seen: LinearlyMappedLaw) -> None:
    variable = cp.Variable(len(SAMPLED), nonneg=True)
    expressions = on_seen.expressions(variable)
    variable.value = allowed()
    assert on_seen.is_convex
    assert all(expression.is_convex() for expression in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], on_seen.predict(allowed()), rtol=1e-9)


def test_among_sampled_domains_it_refits_as_the_inner_law_does(on_seen: LinearlyMappedLaw) -> None:
    P, Y = on_sampled_runs()
    counts = np.random.default_rng(3).multinomial(len(P), np.full(len(P), 1 / len(P))).astype(float)
    np.testing.assert_allclose(
        on_seen.refit(Runs.of(P, Y, counts=counts)).predict(P),
        on_seen.inner_.refit(Runs.of(P[:, COLUMNS], Y, counts=counts)).predict(P[:, COLUMNS]),
    )
    np.testing.assert_allclose(
        on_seen.with_fixed_choices().fit(Runs.of(P, Y)).predict(P), on_seen.predict(P), rtol=1e-6
    )


def test_flags_among_sampled_domains_are_the_inner_laws() -> None:
    law = on_sampled(GaussianProcessLaw(), SAMPLED, 0.0)
    assert (law.is_convex, law.has_gradient, law.has_std) == (False, True, True)
    with pytest.raises(NotFittedError):
        law.predict(allowed())


def test_runs_on_unsampled_domains_and_mixtures_without_sampled_ones_are_refused(on_seen: LinearlyMappedLaw) -> None:
    P, Y = on_sampled_runs()
    with pytest.raises(ObservationError, match="no run may be trained on an unsampled domain"):
        on_seen.fit(Runs.of(np.roll(P, 1, axis=1), Y))
    with pytest.raises(ObservationError, match="shares of 5 domains"):
        on_seen.fit(Runs.of(P[:, :3] / P[:, :3].sum(axis=1, keepdims=True), Y))
    with pytest.raises(ObservationError, match="must have mass on a domain"):
        on_seen.predict(np.array([0, 0.5, 0, 0, 0.5]))


POINT = np.array([0.5, 0.2, 0.3])


@pytest.fixture(params=[LogLinearLaw, PowerLinkLaw])
def view(request: pytest.FixtureRequest) -> LinearlyMappedLaw:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(6), 40)
    tau = np.exp(rng.normal(0, 1, (2, 6)))
    Y = 1 + (P**0.7 @ tau.T) ** -0.3 + rng.normal(0, 0.005, (40, 2))
    return on_expanded(request.param().fit(Runs.of(P, Y)), SPACE)


def test_it_says_what_the_law_says_of_the_expanded_mixture(view: LinearlyMappedLaw) -> None:
    np.testing.assert_allclose(view.predict(POINT), view.inner_.predict(SPACE.expand(POINT)))
    variable = cp.Variable(3, nonneg=True)
    expressions = view.expressions(variable)
    variable.value = POINT
    assert view.is_convex
    assert all(expression.is_convex() for expression in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], view.predict(POINT), rtol=1e-9)


def test_slopes_and_curvature_of_a_view_against_differences(view: LinearlyMappedLaw) -> None:
    step, weights = 1e-5, np.array([0.3, 0.7])
    ahead, behind = (np.array([view.predict(POINT + s * e) for e in np.eye(3)]).T for s in (step, -step))
    np.testing.assert_allclose(view.gradient(POINT), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-8)
    slopes = [
        weights @ (view.gradient(POINT + step * e) - view.gradient(POINT - step * e)) / (2 * step) for e in np.eye(3)
    ]
    d, rows = view.weighted_curvature(POINT, weights)
    np.testing.assert_allclose(np.diag(d) + rows.T @ rows, np.array(slopes), rtol=1e-4, atol=1e-6)
    single, factor = view.curvature(POINT)
    pairs = zip(weights, single, factor, view.gradient(POINT), strict=True)
    total = sum(w * (np.diag(d_i) + s * np.outer(g, g)) for w, d_i, s, g in pairs)
    np.testing.assert_allclose(total, np.diag(d) + rows.T @ rows)


def test_a_share_of_zero_spoils_no_other_component(view: LinearlyMappedLaw) -> None:
    edge = np.array([0.6, 0.0, 0.4])
    d, rows = view.weighted_curvature(edge, np.array([0.3, 0.7]))
    assert np.isfinite(d).all()
    assert np.isfinite(rows).all()
    assert np.isfinite(view.gradient(edge)).all()


def test_it_has_the_parameters_of_the_law_over_leaves(view: LinearlyMappedLaw) -> None:
    assert view.parameter_count == view.inner_.parameter_count


def test_a_view_fitted_anew_is_the_law_of_the_expanded_runs(view: LinearlyMappedLaw) -> None:
    R, Y = np.random.default_rng(1).dirichlet(np.ones(3), 30), np.random.default_rng(2).uniform(1, 2, (30, 2))
    anew = LinearlyMappedLaw(PowerLinkLaw(), view.A).fit(Runs.of(R, Y))
    direct = PowerLinkLaw().fit(Runs.of(SPACE.expand(R), Y))
    np.testing.assert_allclose(anew.predict(POINT), direct.predict(SPACE.expand(POINT)))


def test_an_infinite_slope_stays_with_the_domains_that_have_it() -> None:
    """Power-link with g < 1, one component at a share of zero: slopes of all other leaves are finite."""
    law = on_totals(PowerLinkLaw(), SPACE).fit(Runs.of(*proportioned()))
    slope = law.gradient(SPACE.expand([0.4, 0.0, 0.6]))
    assert np.isneginf(slope[:, 1]).all()
    assert np.isfinite(slope[:, [0, 2, 3, 4, 5]]).all()
