"""What every law must do, run on every law in the registry, as far as its flags say that it can."""

from __future__ import annotations

import importlib.util
import inspect

import cvxpy as cp
import numpy as np
import pytest

from evermix.errors import ConstraintError, NotFittedError, ObservationError, RecipeError
from evermix.laws.automatic import AutoLaw
from evermix.laws.base import MixingLaw
from evermix.laws.ensemble import EnsembleLaw
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.laws.registry import LAWS, law_class
from evermix.observations.runs import Runs

M, N, K = 5, 3, 40


def planted(seed: int = 0, k: int = K) -> tuple[np.ndarray, np.ndarray]:
    """The first k runs of one power-link world per seed."""
    rng = np.random.default_rng(seed)
    tau = np.exp(rng.normal(0, 1, (N, M)))
    P = rng.dirichlet(np.full(M, 0.8), 300)
    Y = 1.5 + 0.8 * (P**0.8 @ tau.T) ** -0.4 + rng.normal(0, 0.01, (300, N))
    return P[:k], Y[:k]


class QuickAuto(AutoLaw):
    """Two candidates and three folds: what a choice must keep up does not depend on how many there are."""

    def __init__(self, candidates=None, n_folds: int = 3, seed: int = 0, caution: float = 1.0, convex: bool = False):
        two = {"power-link": PowerLinkLaw(), "gaussian-process": GaussianProcessLaw()}
        super().__init__(two if candidates is None else candidates, n_folds, seed, caution, convex)


class QuickEnsemble(EnsembleLaw):
    def __init__(self, members=None, n_folds: int = 3, seed: int = 0, shrinkage: float = 1.0):
        super().__init__([PowerLinkLaw(), LogLinearLaw()] if members is None else members, n_folds, seed, shrinkage)


NAMES = sorted(LAWS)
QUICK = {"auto": QuickAuto, "ensemble": QuickEnsemble}
# share of the variance that may be left: 40 runs do not allow a split; an average of runs; other formulas
COARSE = {"boosted-trees": 1.05, "nearest": 1.0, "bimix": 0.8, "autoscale": 0.4}


@pytest.fixture(params=NAMES)
def law_type(request: pytest.FixtureRequest) -> type[MixingLaw]:
    if request.param == "boosted-trees" and importlib.util.find_spec("lightgbm") is None:
        pytest.skip("LightGBM is not installed")
    return QUICK.get(request.param, LAWS[request.param])


_FITTED: dict[str, MixingLaw] = {}


@pytest.fixture
def fitted(law_type: type[MixingLaw]) -> MixingLaw:
    """Fitted once: no test may change it."""
    if law_type.name not in _FITTED:
        _FITTED[law_type.name] = law_type().fit(Runs.of(*planted()))
    return _FITTED[law_type.name]


def needs(law: MixingLaw, flag: str) -> None:
    if not getattr(law, flag):
        pytest.skip(f"{law.name} without {flag}")


def test_unknown_law_is_named() -> None:
    assert law_class("power-link") is LAWS["power-link"]
    with pytest.raises(RecipeError, match=r"got 'cubic'.*known: log-linear, power-link"):
        law_class("cubic")


def test_every_law_says_what_it_is() -> None:
    for name, law in LAWS.items():
        assert law.name == name
        assert law.formula
        assert law.source
        assert law.n_parameters(5) >= 0


def test_a_fit_counts_its_parameters(law_type: type[MixingLaw]) -> None:
    with pytest.raises(NotFittedError):
        _ = law_type().parameter_count
    assert law_type().fit(Runs.of(*planted())).parameter_count == law_type.n_parameters(M)


def test_hyperparameters_are_stored_untouched(law_type: type[MixingLaw]) -> None:
    law = law_type()
    before = dict(vars(law))
    assert set(before) == set(inspect.signature(law_type).parameters)
    law.fit(Runs.of(*planted()))
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
    assert law.fit(Runs.of(*planted())) is law
    assert law.converged_.shape == law.objective_.shape == (N,)
    assert law.converged_.all()


def test_explains_held_out_runs(fitted: MixingLaw) -> None:
    P, Y = planted(k=300)
    held_out = slice(K, None)
    left = np.var(fitted.predict(P[held_out]) - Y[held_out], axis=0) / np.var(Y[held_out], axis=0)
    assert np.all(left < COARSE.get(fitted.name, 0.15))


def test_predict_keeps_leading_shape(fitted: MixingLaw) -> None:
    P, _ = planted()
    assert fitted.predict(P[0]).shape == (N,)
    assert fitted.predict(P.reshape(4, 10, M)).shape == (4, 10, N)
    np.testing.assert_allclose(fitted.predict(P.reshape(4, 10, M)).reshape(K, N), fitted.predict(P))
    with pytest.raises(ObservationError, match="must have 5 weights"):
        fitted.predict(P[:, :3])


def test_gradient_equals_finite_differences(fitted: MixingLaw) -> None:
    needs(fitted, "has_gradient")
    p = np.random.default_rng(3).dirichlet(np.full(M, 3.0))
    step = 1e-6 * np.eye(M)
    numeric = (fitted.predict(p + step) - fitted.predict(p - step)).T / 2e-6
    np.testing.assert_allclose(fitted.gradient(p), numeric, rtol=1e-5, atol=1e-7)


def test_is_convex_between_random_mixtures(fitted: MixingLaw) -> None:
    needs(fitted, "is_convex")
    rng = np.random.default_rng(4)
    p, q = rng.dirichlet(np.full(M, 0.5), (2, 2000))
    middle = fitted.predict((p + q) / 2)
    assert np.all(middle <= (fitted.predict(p) + fitted.predict(q)) / 2 + 1e-9)


def test_expressions_are_the_predictions_and_dcp_convex(fitted: MixingLaw) -> None:
    needs(fitted, "is_convex")
    variable = cp.Variable(M, nonneg=True)
    expressions = fitted.expressions(variable)
    variable.value = np.random.default_rng(5).dirichlet(np.full(M, 2.0))
    assert len(expressions) == N
    assert all(e.is_convex() for e in expressions)
    np.testing.assert_allclose([float(e.value) for e in expressions], fitted.predict(variable.value), rtol=1e-9)


def test_weighted_curvature_is_the_hessian_of_the_weighted_sum(fitted: MixingLaw) -> None:
    p, weights = np.random.default_rng(9).dirichlet(np.full(M, 3.0)), np.array([0.5, 0.0, 2.0])
    if not fitted.is_convex:
        with pytest.raises(ConstraintError, match="has no"):
            fitted.weighted_curvature(p, weights)
        return
    d, rows = fitted.weighted_curvature(p, weights)
    step = 1e-5 * np.eye(M)
    numeric = np.array([weights @ (fitted.gradient(p + h) - fitted.gradient(p - h)) for h in step]) / 2e-5
    np.testing.assert_allclose(np.diag(d) + rows.T @ rows, numeric, rtol=1e-4, atol=1e-5)
    assert (d >= 0).all()


def test_fixed_choices_repeat_the_fit_without_choosing_anew(fitted: MixingLaw) -> None:
    P, Y = planted()
    again = fitted.with_fixed_choices().fit(Runs.of(P, Y))
    np.testing.assert_allclose(again.predict(P), fitted.predict(P), rtol=1e-6)
    if isinstance(fitted, AutoLaw):
        assert isinstance(again, AutoLaw)
        assert (again.choice_ == fitted.choice_).all()
    if isinstance(fitted, EnsembleLaw):
        assert isinstance(again, EnsembleLaw)
        np.testing.assert_array_equal(again.weights_, fitted.weights_)


def test_curvature_is_the_hessian(fitted: MixingLaw) -> None:
    needs(fitted, "is_convex")
    p = np.random.default_rng(6).dirichlet(np.full(M, 3.0))
    try:
        d, s = fitted.curvature(p)
    except ConstraintError:
        pytest.skip(f"{fitted.name}: a sum of laws has no diagonal-plus-rank-one Hessian")
    assert (d >= 0).all()
    assert (s >= 0).all()
    step = 1e-5
    numeric = np.stack([(fitted.gradient(p + h) - fitted.gradient(p - h)) / (2 * step) for h in step * np.eye(M)], 2)
    g = fitted.gradient(p)
    told = np.stack([np.diag(row) for row in d]) + s[:, None, None] * g[:, :, None] * g[:, None, :]
    np.testing.assert_allclose(told, numeric, rtol=1e-3, atol=1e-5 * np.abs(numeric).max())


def test_what_a_law_lacks_is_refused_with_a_way_out(fitted: MixingLaw) -> None:
    p = np.full(M, 1 / M)
    lacking = [
        ("has_gradient", lambda: fitted.gradient(p)),
        ("is_convex", lambda: fitted.expressions(cp.Variable(M))),
        ("has_std", lambda: fitted.predict_with_std(p)),
    ]
    for flag, call in lacking:
        if not getattr(fitted, flag):
            with pytest.raises(ConstraintError, match=f"the {fitted.name} law has no .*Hint"):
                call()


def test_standard_deviations_are_positive_and_calibrated(fitted: MixingLaw) -> None:
    needs(fitted, "has_std")
    P, Y = planted(k=300)
    mean, std = fitted.predict_with_std(P[K:])
    assert mean.shape == std.shape == (260, N)
    np.testing.assert_allclose(mean, fitted.predict(P[K:]))
    assert (std > 0).all()
    z = (Y[K:] - mean) / np.hypot(std, fitted.noise_)
    assert 0.4 < np.sqrt((z**2).mean()) < 2.0
    assert (np.abs(z) < 1.64).mean() > 0.75


def test_noise_is_the_scatter_of_a_run(fitted: MixingLaw) -> None:
    assert fitted.noise_.shape == (N,)
    assert (fitted.noise_ > 0).all()
    rmse = np.sqrt(((fitted.predict(planted(k=300)[0][K:]) - planted(k=300)[1][K:]) ** 2).mean(axis=0))
    assert np.all(fitted.noise_ < 3 * np.maximum(rmse, 0.01))


def test_missing_cells_touch_only_their_metric(law_type: type[MixingLaw], fitted: MixingLaw) -> None:
    P, Y = planted()
    holes = Y.copy()
    holes[:6, 0] = np.nan
    law = law_type().fit(Runs.of(P, holes))
    kept = law_type().fit(Runs.of(P[6:], Y[6:]))
    if law.pools_metrics:
        assert np.isfinite(law.predict(P)).all()
        return
    np.testing.assert_allclose(law.predict(P)[:, 1:], fitted.predict(P)[:, 1:], atol=2e-3)
    np.testing.assert_allclose(law.predict(P)[:, 0], kept.predict(P)[:, 0], atol=2e-3)


def test_counts_are_repeated_rows(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    counts = np.random.default_rng(7).integers(0, 4, K)
    counted = law_type().fit(Runs.of(P, Y, counts=counts)).predict(P)
    repeated = law_type().fit(Runs.of(np.repeat(P, counts, axis=0), np.repeat(Y, counts, axis=0))).predict(P)
    tolerance = 0.05 if law_type.name in ("ensemble", "auto") else 3e-3  # their folds follow the order of the rows
    np.testing.assert_allclose(counted, repeated, atol=tolerance)


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_a_metrics_unit_changes_predictions_by_the_unit(law_type: type[MixingLaw], factor: float) -> None:
    P, Y = planted()
    if law_type.name == "log-linear":
        pytest.skip("Olmix's Huber delta is in the metric's unit; `scaled` frees it")
    law, other = law_type().fit(Runs.of(P, Y)), law_type().fit(Runs.of(P, Y * factor))
    np.testing.assert_allclose(other.predict(P) / factor, law.predict(P), atol=2e-3)
    np.testing.assert_allclose(other.noise_ / factor, law.noise_, rtol=0.05)


def test_the_order_of_runs_does_not_count(law_type: type[MixingLaw], fitted: MixingLaw) -> None:
    P, Y = planted()
    order = np.random.default_rng(8).permutation(K)
    tolerance = 0.05 if law_type.name in ("ensemble", "auto") else 2e-3  # folds follow the order of the rows
    np.testing.assert_allclose(
        law_type().fit(Runs.of(P[order], Y[order])).predict(P), fitted.predict(P), atol=tolerance
    )


def test_clone_is_unfitted_with_equal_parameters(fitted: MixingLaw) -> None:
    twin = fitted.clone()
    assert type(twin) is type(fitted)
    assert twin.get_params() == fitted.get_params()
    assert not hasattr(twin, "n_domains_")


def test_refit_to_the_same_runs_is_the_fit(fitted: MixingLaw) -> None:
    P, Y = planted()
    before = fitted.predict(P)
    again = fitted.refit(Runs.of(P, Y))
    assert again is not fitted
    np.testing.assert_allclose(again.predict(P), before, atol=2e-3)
    np.testing.assert_array_equal(fitted.predict(P), before)


def test_refit_to_resampled_runs_is_near_a_fit(law_type: type[MixingLaw], fitted: MixingLaw) -> None:
    P, Y = planted()
    counts = np.random.default_rng(9).multinomial(K, np.full(K, 1 / K))
    warm = fitted.refit(Runs.of(P, Y, counts=counts)).predict(P)
    cold = law_type().fit(Runs.of(P, Y, counts=counts)).predict(P)
    assert np.abs(warm - cold).mean() < 0.1 * Y.std()


def test_predictions_are_positive_everywhere(fitted: MixingLaw) -> None:
    corners = np.vstack([np.eye(M), np.random.default_rng(10).dirichlet(np.full(M, 0.05), 500)])
    assert (fitted.predict(corners) > 0).all()


def test_equivariant_under_permutation_of_domains_and_metrics(law_type: type[MixingLaw], fitted: MixingLaw) -> None:
    P, Y = planted()
    columns, metrics = np.array([3, 0, 4, 1, 2]), np.array([2, 0, 1])
    turned = law_type().fit(Runs.of(P[:, columns], Y[:, metrics])).predict(P[:, columns])
    tolerance = 0.1 if law_type.name == "boosted-trees" else 2e-3  # equal splits go to the first column
    np.testing.assert_allclose(turned, fitted.predict(P)[:, metrics], atol=tolerance)


def test_metrics_are_fitted_independently(law_type: type[MixingLaw], fitted: MixingLaw) -> None:
    if fitted.pools_metrics:
        pytest.skip(f"{fitted.name} learns from all metrics together")
    P, Y = planted()
    alone = law_type().fit(Runs.of(P, Y[:, :1])).predict(P)
    np.testing.assert_allclose(alone[:, 0], fitted.predict(P)[:, 0], atol=2e-3)


def test_precise_runs_count_more(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    spoilt = Y.copy()
    spoilt[:5] += 0.5
    sigma = np.full_like(Y, 0.01)
    sigma[:5] = 10.0
    fresh, truth = (table[K:] for table in planted(k=300))  # the nearest law returns the runs it was given
    error = [np.abs(law_type().fit(Runs.of(P, spoilt, s)).predict(fresh) - truth).mean() for s in (None, sigma)]
    assert error[1] < error[0]


def test_equal_standard_errors_change_nothing(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    np.testing.assert_allclose(
        law_type().fit(Runs.of(P, Y, np.full_like(Y, 3.0))).predict(P), law_type().fit(Runs.of(P, Y)).predict(P)
    )


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
        law_type().fit(Runs.of(*spoil(*planted())))


def test_a_constant_metric_is_predicted_constant(law_type: type[MixingLaw]) -> None:
    P, Y = planted()
    Y[:, 0] = 2.5
    np.testing.assert_allclose(law_type().fit(Runs.of(P, Y)).predict(P)[:, 0], 2.5, atol=1e-3)
