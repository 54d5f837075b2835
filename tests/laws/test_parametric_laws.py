"""What the two parametric laws promise beyond the conformance suite: counts, missing cells, units, noise, curvature."""

from __future__ import annotations

import numpy as np
import pytest

from evermix.errors import NotFittedError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs

M, N = 5, 4
LAWS = [LogLinearLaw(), LogLinearLaw(huber_delta=0.02, scaled=False, ridge=0.0), PowerLinkLaw(), PowerLinkLaw(g=1.0)]


def planted(kind: str, k: int, noise: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixtures, noisy metrics and their true values, of the law's own form."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.7), k)
    if kind == "log-linear":
        true = 1.8 + np.exp(P @ rng.normal(0, 0.7, (M, N)))
    else:
        true = 1.0 + (P**0.7 @ np.exp(rng.normal(0, 0.8, (M, N)))) ** -0.5
    return P, true + noise * rng.standard_normal(true.shape), true


@pytest.fixture(params=LAWS, ids=lambda law: f"{law.name}-{next(iter(law.get_params().values()))}")
def law(request: pytest.FixtureRequest) -> MixingLaw:
    cloned: MixingLaw = request.param.clone()
    return cloned


def swarm(law: MixingLaw, k: int = 40, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    P, Y, _ = planted(law.name, k, 0.03, seed)
    return P, Y


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", [LogLinearLaw, PowerLinkLaw])
def test_planted_world_is_recovered_within_its_noise(kind: type[MixingLaw], seed: int) -> None:
    P, Y, true = planted(kind.name, 300, 0.03, seed)
    fitted = kind().fit(Runs.of(P[:100], Y[:100]))
    assert fitted.converged_.all()
    assert np.sqrt(np.mean((fitted.predict(P[100:]) - true[100:]) ** 2)) < 0.5 * 0.03
    np.testing.assert_allclose(fitted.noise_, 0.03, rtol=0.3)


@pytest.mark.parametrize("kind", [LogLinearLaw, PowerLinkLaw])
def test_standard_deviations_cover_the_truth(kind: type[MixingLaw]) -> None:
    """Over 20 swarms, |error| <= 2 sd in roughly 95% of predictions."""
    inside = []
    for seed in range(20):
        P, Y, true = planted(kind.name, 90, 0.03, seed)
        predicted, std = kind().fit(Runs.of(P[:50], Y[:50])).predict_with_std(P[50:])
        inside.append(np.abs(predicted - true[50:]) <= 2 * std)
    assert 0.85 <= np.mean(inside) <= 0.995


def test_standard_deviations_have_the_shape_of_predictions(law: MixingLaw) -> None:
    assert law.has_std
    with pytest.raises(NotFittedError):
        law.predict_with_std(np.full(M, 1 / M))
    P, Y = swarm(law)
    law.fit(Runs.of(P, Y))
    predicted, std = law.predict_with_std(P.reshape(4, 10, M))
    np.testing.assert_array_equal(predicted, law.predict(P.reshape(4, 10, M)))
    assert std.shape == (4, 10, N)
    assert (std > 0).all()
    assert law.predict_with_std(P[0])[1].shape == (N,)
    np.testing.assert_allclose(law.predict_with_std(P[0])[1], std[0, 0])


def test_more_runs_leave_less_uncertainty(law: MixingLaw) -> None:
    P, Y = swarm(law, 400)
    few, many = law.clone().fit(Runs.of(P[:30], Y[:30])), law.clone().fit(Runs.of(P, Y))
    assert many.predict_with_std(P)[1].mean() < 0.6 * few.predict_with_std(P)[1].mean()


def test_a_count_of_two_is_the_run_given_twice(law: MixingLaw) -> None:
    P, Y = swarm(law)
    Y[3, 1] = np.nan
    sigma = np.random.default_rng(1).uniform(0.5, 2, Y.shape)
    counts = np.random.default_rng(2).integers(0, 4, len(P))
    rows = np.repeat(np.arange(len(P)), counts)
    counted = law.clone().fit(Runs.of(P, Y, sigma, counts))
    given = law.clone().fit(Runs.of(P[rows], Y[rows], sigma[rows]))
    np.testing.assert_allclose(counted.objective_, given.objective_, rtol=1e-7)
    np.testing.assert_allclose(counted.predict(P), given.predict(P), rtol=1e-4)
    np.testing.assert_allclose(counted.noise_, given.noise_, rtol=1e-4)


def test_missing_cells_leave_each_metric_its_own_runs(law: MixingLaw) -> None:
    P, Y = swarm(law)
    holes = np.random.default_rng(0).random(Y.shape) < 0.2
    Y[holes] = np.nan
    together = law.clone().fit(Runs.of(P, Y))
    for i in range(N):
        known = ~holes[:, i]
        alone = law.clone().fit(Runs.of(P[known], Y[known, i : i + 1]))
        np.testing.assert_allclose(together.objective_[i], alone.objective_[0], rtol=1e-7)
        np.testing.assert_allclose(together.predict(P)[:, i], alone.predict(P)[:, 0], rtol=1e-4)
        np.testing.assert_allclose(together.noise_[i], alone.noise_[0], rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-3, 700.0])
@pytest.mark.parametrize("kind", [LogLinearLaw, PowerLinkLaw])
def test_the_unit_changes_nothing_but_the_unit(kind: type[MixingLaw], factor: float) -> None:
    P, Y, _ = planted(kind.name, 40, 0.03)
    plain, scaled = kind().fit(Runs.of(P, Y)), kind().fit(Runs.of(P, factor * Y))
    np.testing.assert_allclose(scaled.objective_, plain.objective_, rtol=1e-4)
    np.testing.assert_allclose(scaled.predict(P) / factor, plain.predict(P), rtol=1e-3)
    np.testing.assert_allclose(scaled.noise_ / factor, plain.noise_, rtol=1e-3)


def test_order_of_runs_domains_and_metrics_does_not_matter(law: MixingLaw) -> None:
    P, Y = swarm(law)
    rng = np.random.default_rng(0)
    runs, domains, metrics = rng.permutation(len(P)), rng.permutation(M), rng.permutation(N)
    straight = law.clone().fit(Runs.of(P, Y))
    turned = law.clone().fit(Runs.of(P[runs][:, domains], Y[runs][:, metrics]))
    np.testing.assert_allclose(turned.objective_, straight.objective_[metrics], rtol=1e-6)
    np.testing.assert_allclose(turned.predict(P[:, domains]), straight.predict(P)[:, metrics], rtol=1e-3)


def test_a_refit_comes_near_the_cold_fit(law: MixingLaw) -> None:
    P, Y = swarm(law, 60)
    law.fit(Runs.of(P, Y))
    before = law.predict(P)
    for seed in range(5):
        counts = np.bincount(np.random.default_rng(seed).integers(0, 60, 60), minlength=60)
        warm, cold = law.refit(Runs.of(P, Y, counts=counts)), law.clone().fit(Runs.of(P, Y, counts=counts))
        if isinstance(law, LogLinearLaw) and not law.ridge:  # else each is in units of the noise that its fit found
            assert np.all(warm.objective_ <= cold.objective_ * 1.03 + 1e-9)
        assert np.sqrt(np.mean((warm.predict(P) - cold.predict(P)) ** 2)) < 0.01
    np.testing.assert_array_equal(law.predict(P), before)


def test_a_refit_of_other_shapes_is_refused(law: MixingLaw) -> None:
    P, Y = swarm(law)
    with pytest.raises(NotFittedError):
        law.refit(Runs.of(P, Y))
    with pytest.raises(ObservationError, match="refit needs 5 domains and 4 metrics"):
        law.fit(Runs.of(P, Y)).refit(Runs.of(P, Y[:, :2]))


def test_a_refit_without_a_domain_keeps_what_is_known_of_it() -> None:
    P, Y = swarm(LogLinearLaw(), 60)
    P[:, 0] *= np.arange(60) < 6
    P /= P.sum(axis=1, keepdims=True)
    law = LogLinearLaw(ridge=0.0).fit(Runs.of(P, Y))
    warm = law.refit(Runs.of(P, Y, counts=np.where(P[:, 0] > 0, 0, 1)))
    np.testing.assert_allclose(warm.t_[:, 0], law.t_[:, 0], atol=1e-4)


def test_curvature_is_the_hessian(law: MixingLaw) -> None:
    law.fit(Runs.of(*swarm(law)))
    p = np.random.default_rng(3).dirichlet(np.full(M, 3.0))
    d, s = law.curvature(p)
    g = law.gradient(p)
    assert d.shape == (N, M)
    assert (d >= 0).all()
    assert (s >= 0).all()
    hessian = s[:, None, None] * g[:, :, None] * g[:, None, :] + d[:, :, None] * np.eye(M)
    numeric = np.stack([(law.gradient(p + e) - law.gradient(p - e)) / 2e-6 for e in 1e-6 * np.eye(M)], axis=2)
    np.testing.assert_allclose(hessian, numeric, atol=1e-5 * np.abs(hessian).max())


def test_log_linear_fits_exactly_one_run_more_than_domains() -> None:
    P, Y = swarm(LogLinearLaw(), M + 1)
    law = LogLinearLaw(ridge=0.0).fit(Runs.of(P, Y))
    assert np.isfinite(law.predict(P)).all()
    assert np.isfinite(law.noise_).all()
    assert (law.noise_ > 0).all()
    assert np.isfinite(law.predict_with_std(P)[1]).all()


def test_log_linear_counts_the_known_runs_of_each_metric() -> None:
    P, Y = swarm(LogLinearLaw())
    Y[M:, 2] = np.nan
    with pytest.raises(ObservationError, match="needs at least 6 runs of metric 2, got 5"):
        LogLinearLaw(ridge=0.0).fit(Runs.of(P, Y))
    P, Y = swarm(LogLinearLaw())
    P[8:, 1] = 0
    P /= P.sum(axis=1, keepdims=True)
    Y[:8, 3] = np.nan
    with pytest.raises(ObservationError, match=r"domain 1 never does \(metric 3\)"):
        LogLinearLaw(ridge=0.0).fit(Runs.of(P, Y))


def test_n_parameters_and_flags() -> None:
    assert (LogLinearLaw.n_parameters(7), PowerLinkLaw.n_parameters(7)) == (8, 9)
    for law in LAWS:
        assert law.is_convex
        assert law.has_gradient
