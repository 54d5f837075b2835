"""What every law must do, run on every law in the registry."""

from __future__ import annotations

import inspect

import cvxpy as cp
import numpy as np
import pytest

from evermix.errors import NotFittedError, ObservationError, RecipeError
from evermix.laws.base import MixingLaw
from evermix.laws.registry import LAWS, law_class

M, N, K = 5, 3, 40


def planted(seed: int = 0, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.8), k)
    tau = np.exp(rng.normal(0, 1, (N, M)))
    Y = 1.5 + 0.8 * (P**0.8 @ tau.T) ** -0.4 + rng.normal(0, 0.01, (k, N))
    return P, Y


@pytest.fixture(params=sorted(LAWS))
def law_type(request: pytest.FixtureRequest) -> type[MixingLaw]:
    return LAWS[request.param]


@pytest.fixture
def fitted(law_type: type[MixingLaw]) -> MixingLaw:
    return law_type().fit(*planted())


def test_unknown_law_is_named() -> None:
    assert law_class("power-link") is LAWS["power-link"]
    with pytest.raises(RecipeError, match=r"got 'cubic'.*known: log-linear, power-link"):
        law_class("cubic")


def test_hyperparameters_are_stored_untouched(law_type: type[MixingLaw]) -> None:
    law = law_type()
    before = dict(vars(law))
    assert set(before) == set(inspect.signature(law_type).parameters)
    law.fit(*planted())
    assert {name: getattr(law, name) for name in before} == before
    assert all(name.endswith("_") for name in vars(law) if name not in before)


def test_predicting_before_fitting_is_refused(law_type: type[MixingLaw]) -> None:
    law = law_type()
    for call in (law.predict, law.gradient):
        with pytest.raises(NotFittedError, match="call fit"):
            call(np.full(M, 1 / M))
    with pytest.raises(NotFittedError):
        law.expressions(cp.Variable(M))


def test_fit_returns_self_and_says_whether_it_converged(law_type: type[MixingLaw]) -> None:
    law = law_type()
    assert law.fit(*planted()) is law
    assert law.converged_.shape == law.objective_.shape == (N,)
    assert law.converged_.all()


def test_explains_held_out_runs(law_type: type[MixingLaw]) -> None:
    P, Y = planted(k=300)
    held_out = slice(K, None)
    law = law_type().fit(P[:K], Y[:K])
    assert np.all(np.var(law.predict(P[held_out]) - Y[held_out], axis=0) < 0.15 * np.var(Y[held_out], axis=0))


def test_predict_keeps_leading_shape(fitted: MixingLaw) -> None:
    P, _ = planted()
    assert fitted.predict(P[0]).shape == (N,)
    assert fitted.predict(P.reshape(4, 10, M)).shape == (4, 10, N)
    np.testing.assert_allclose(fitted.predict(P.reshape(4, 10, M)).reshape(K, N), fitted.predict(P))
    with pytest.raises(ObservationError, match="must have 5 weights"):
        fitted.predict(P[:, :3])


def test_gradient_equals_finite_differences(fitted: MixingLaw) -> None:
    p = np.random.default_rng(3).dirichlet(np.full(M, 3.0))
    step = 1e-6 * np.eye(M)
    numeric = (fitted.predict(p + step) - fitted.predict(p - step)).T / 2e-6
    np.testing.assert_allclose(fitted.gradient(p), numeric, rtol=1e-5, atol=1e-7)


def test_is_convex_between_random_mixtures(fitted: MixingLaw) -> None:
    assert fitted.is_convex
    rng = np.random.default_rng(4)
    p, q = rng.dirichlet(np.full(M, 0.5), (2, 2000))
    middle = fitted.predict((p + q) / 2)
    assert np.all(middle <= (fitted.predict(p) + fitted.predict(q)) / 2 + 1e-9)


def test_expressions_are_the_predictions_and_dcp_convex(fitted: MixingLaw) -> None:
    variable = cp.Variable(M, nonneg=True)
    expressions = fitted.expressions(variable)
    variable.value = np.random.default_rng(5).dirichlet(np.full(M, 2.0))
    assert len(expressions) == N
    assert all(e.is_convex() for e in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], fitted.predict(variable.value), rtol=1e-9)


def test_equivariant_under_permutation_of_domains_and_metrics(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    columns, metrics = np.array([3, 0, 4, 1, 2]), np.array([2, 0, 1])
    straight = law_type().fit(P, Y).predict(P)
    turned = law_type().fit(P[:, columns], Y[:, metrics]).predict(P[:, columns])
    np.testing.assert_allclose(turned, straight[:, metrics], atol=2e-3)


def test_metrics_are_fitted_independently(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    together = law_type().fit(P, Y).predict(P)
    alone = law_type().fit(P, Y[:, :1]).predict(P)
    np.testing.assert_allclose(alone[:, 0], together[:, 0], atol=2e-3)


def test_precise_runs_count_more(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    spoilt = Y.copy()
    spoilt[:5] += 0.5
    sigma = np.full_like(Y, 0.01)
    sigma[:5] = 10.0
    error = [np.abs(law_type().fit(P, spoilt, s).predict(P[5:]) - Y[5:]).mean() for s in (None, sigma)]
    assert error[1] < error[0]


def test_equal_standard_errors_change_nothing(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    np.testing.assert_allclose(law_type().fit(P, Y, np.full_like(Y, 3.0)).predict(P), law_type().fit(P, Y).predict(P))


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda P, Y: (P, np.where(np.arange(N) == 1, np.nan, Y)), "metric 1 must be known"),
        (lambda P, Y: (P, Y - 10), "must be a number > 0"),
        (lambda P, Y: (P * 100, Y), "weights of run .* must sum to 1"),
        (lambda P, Y: (P - np.eye(K, M), Y), "must be a number >= 0"),
        (lambda P, Y: (P[:-1], Y), "P \\(runs, domains\\)"),
    ],
)
def test_bad_input_is_refused(law_type: type[MixingLaw], spoil, message: str) -> None:
    with pytest.raises(ObservationError, match=message):
        law_type().fit(*spoil(*planted()))


def test_a_constant_metric_is_predicted_constant(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    Y[:, 0] = 2.5
    np.testing.assert_allclose(law_type().fit(P, Y).predict(P)[:, 0], 2.5, atol=1e-3)
