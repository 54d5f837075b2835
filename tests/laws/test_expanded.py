"""A law over leaves, asked about component mixtures."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest

from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.laws.expanded import ExpandedLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs
from evermix.reuse import CollapsedSpace

SPACE = CollapsedSpace.freeze(DomainSet("abcdef"), {"a": 0.3, "c": 0.2, "d": 0.1, "e": 0.0})
POINT = np.array([0.5, 0.2, 0.3])


@pytest.fixture(params=[LogLinearLaw, PowerLinkLaw])
def law(request: pytest.FixtureRequest) -> ExpandedLaw:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.ones(6), 40)
    tau = np.exp(rng.normal(0, 1, (2, 6)))
    Y = 1 + (P**0.7 @ tau.T) ** -0.3 + rng.normal(0, 0.005, (40, 2))
    return ExpandedLaw(request.param().fit(Runs.of(P, Y)), SPACE)


def test_it_says_what_the_law_says_of_the_expanded_mixture(law: ExpandedLaw) -> None:
    np.testing.assert_allclose(law.predict(POINT), law.law.predict(SPACE.expand(POINT)))
    variable = cp.Variable(3, nonneg=True)
    expressions = law.expressions(variable)
    variable.value = POINT
    assert law.is_convex
    assert all(expression.is_convex() for expression in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], law.predict(POINT), rtol=1e-9)


def test_slopes_and_curvature_against_differences(law: ExpandedLaw) -> None:
    step, weights = 1e-5, np.array([0.3, 0.7])
    ahead, behind = (np.array([law.predict(POINT + s * e) for e in np.eye(3)]).T for s in (step, -step))
    np.testing.assert_allclose(law.gradient(POINT), (ahead - behind) / (2 * step), rtol=1e-5, atol=1e-8)
    slopes = [
        weights @ (law.gradient(POINT + step * e) - law.gradient(POINT - step * e)) / (2 * step) for e in np.eye(3)
    ]
    d, rows = law.weighted_curvature(POINT, weights)
    np.testing.assert_allclose(np.diag(d) + rows.T @ rows, np.array(slopes), rtol=1e-4, atol=1e-6)
    single, factor = law.curvature(POINT)
    pairs = zip(weights, single, factor, law.gradient(POINT), strict=True)
    total = sum(w * (np.diag(d_i) + s * np.outer(g, g)) for w, d_i, s, g in pairs)
    np.testing.assert_allclose(total, np.diag(d) + rows.T @ rows)


def test_a_share_of_zero_spoils_no_other_component(law: ExpandedLaw) -> None:
    edge = np.array([0.6, 0.0, 0.4])
    d, rows = law.weighted_curvature(edge, np.array([0.3, 0.7]))
    assert np.isfinite(d).all()
    assert np.isfinite(rows).all()
    assert np.isfinite(law.gradient(edge)).all()


def test_it_has_the_parameters_of_the_law_over_leaves(law: ExpandedLaw) -> None:
    assert law.parameter_count == law.law.parameter_count


def test_a_view_is_not_fitted(law: ExpandedLaw) -> None:
    with pytest.raises(ObservationError, match="cannot be fitted"):
        law.fit(Runs.of([[1.0]], [[1.0]]))
