"""A law among the domains that some run has seen, over all of them."""

import cvxpy as cp
import numpy as np
import pytest

from evermix.errors import NotFittedError, ObservationError
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.live import LiveLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs

LIVE = (True, False, True, True, False)
COLUMNS = np.flatnonzero(LIVE)


def runs(seed: int = 0, k: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = np.zeros((k, len(LIVE)))
    P[:, COLUMNS] = rng.dirichlet(np.ones(len(COLUMNS)), k)
    tau = np.exp(rng.normal(0, 1, (2, len(COLUMNS))))
    return P, 1 + (P[:, COLUMNS] ** 0.7 @ tau.T) ** -0.3 + rng.normal(0, 0.005, (k, 2))


@pytest.fixture
def law() -> LiveLaw:
    return LiveLaw(PowerLinkLaw(), LIVE, 0.2).fit(Runs.of(*runs()))


def allowed(seed: int = 1) -> np.ndarray:
    """A mixture whose dead domains keep their 20%."""
    p = np.full(len(LIVE), 0.1)
    p[COLUMNS] = 0.8 * np.random.default_rng(seed).dirichlet(np.full(3, 2.0))
    return p


def test_it_is_the_inner_law_of_what_is_live(law: LiveLaw) -> None:
    P, Y = runs()
    inner = PowerLinkLaw().fit(Runs.of(P[:, COLUMNS], Y))
    p = allowed()
    np.testing.assert_allclose(law.predict(P), inner.predict(P[:, COLUMNS]))
    np.testing.assert_allclose(law.predict(p), inner.predict(p[COLUMNS] / 0.8))
    value, std = law.predict_with_std(p)
    np.testing.assert_allclose((value, std), inner.predict_with_std(p[COLUMNS] / 0.8))


def test_it_has_the_parameters_of_the_inner_law_over_live_domains(law: LiveLaw) -> None:
    assert law.parameter_count == PowerLinkLaw.n_parameters(3)


def test_the_gradient_holds_along_what_the_constraints_allow(law: LiveLaw) -> None:
    """Dead shares are fixed, so only directions among live domains that keep the sum count."""
    p = allowed()
    gradient = law.gradient(p)
    assert not gradient[:, [1, 4]].any()
    direction = np.array([1.0, 0.0, -0.4, -0.6, 0.0])
    numeric = (law.predict(p + 1e-6 * direction) - law.predict(p - 1e-6 * direction)) / 2e-6
    np.testing.assert_allclose(gradient @ direction, numeric, rtol=1e-5)


def test_its_curvature_is_the_inner_one_in_its_scale(law: LiveLaw) -> None:
    p, weights = allowed(), np.array([0.3, 0.7])
    d, rows = law.weighted_curvature(p, weights)
    inner_d, inner_rows = law.inner_.weighted_curvature(p[COLUMNS] / 0.8, weights)
    inner = np.diag(inner_d) + inner_rows.T @ inner_rows
    whole = np.diag(d) + rows.T @ rows
    np.testing.assert_allclose(whole[np.ix_(COLUMNS, COLUMNS)], inner / 0.8**2)
    assert not whole[[1, 4]].any()
    single, factor = law.curvature(p)
    slope = law.gradient(p)
    total = sum(
        w * (np.diag(d_i) + s * np.outer(g, g)) for w, d_i, s, g in zip(weights, single, factor, slope, strict=True)
    )
    np.testing.assert_allclose(total, whole)


def test_expressions_are_its_predictions(law: LiveLaw) -> None:
    variable = cp.Variable(len(LIVE), nonneg=True)
    expressions = law.expressions(variable)
    variable.value = allowed()
    assert law.is_convex
    assert all(expression.is_convex() for expression in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], law.predict(allowed()), rtol=1e-9)


def test_refits_and_settles_as_the_inner_law_does(law: LiveLaw) -> None:
    P, Y = runs()
    counts = np.random.default_rng(3).multinomial(len(P), np.full(len(P), 1 / len(P))).astype(float)
    np.testing.assert_allclose(
        law.refit(Runs.of(P, Y, counts=counts)).predict(P),
        law.inner_.refit(Runs.of(P[:, COLUMNS], Y, counts=counts)).predict(P[:, COLUMNS]),
    )
    np.testing.assert_allclose(law.settled().fit(Runs.of(P, Y)).predict(P), law.predict(P), rtol=1e-6)


def test_flags_are_the_inner_laws() -> None:
    law = LiveLaw(GaussianProcessLaw(), LIVE, 0.0)
    assert (law.is_convex, law.has_gradient, law.has_std) == (False, True, True)
    with pytest.raises(NotFittedError):
        law.predict(allowed())


def test_runs_on_dead_domains_and_mixtures_without_live_ones_are_refused(law: LiveLaw) -> None:
    P, Y = runs()
    with pytest.raises(ObservationError, match="no run may be trained on a dead domain"):
        law.fit(Runs.of(np.roll(P, 1, axis=1), Y))
    with pytest.raises(ObservationError, match="shares of 5 domains"):
        law.fit(Runs.of(P[:, :3] / P[:, :3].sum(axis=1, keepdims=True), Y))
    with pytest.raises(ObservationError, match="must have mass on a domain"):
        law.predict(np.array([0, 0.5, 0, 0, 0.5]))
