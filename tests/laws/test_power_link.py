"""The power-link law against planted truth, scipy, and real swarm runs."""

from __future__ import annotations

import csv
import time
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from evermix.errors import ObservationError
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs

ROOT = Path(__file__).parents[2]
SWARM = next((s for s in (ROOT / "shared", ROOT.parent / "shared") if s.is_dir()), ROOT) / "data/swarms/regmix-1m"
M = 5


def planted(k: int, noise: float, g: float = 0.7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.7), k)
    tau = np.exp(rng.normal(0, 0.8, (3, M)))
    return P, np.array([1.0, 2.0, 0.5]) + (P**g @ tau.T) ** -0.5 + noise * rng.standard_normal((k, 3))


@pytest.mark.parametrize("g", [0.5, 0.7, 1.0])
def test_recovers_planted_predictions(g: float) -> None:
    P, Y = planted(200, 0.0, g)
    law = PowerLinkLaw(g=g, ridge=1e-6, prior_weight_a=1e-6).fit(Runs.of(P[:80], Y[:80]))
    np.testing.assert_allclose(law.predict(P[80:]), Y[80:], atol=5e-3)


def objective(theta: np.ndarray, P: np.ndarray, y: np.ndarray, law: PowerLinkLaw) -> float:
    b, log_c, log_a, s = theta[0], theta[1], theta[2], theta[3:]
    f = b + np.exp(log_c - np.exp(log_a) * np.log(P**law.g @ np.exp(s)))
    prior = law.ridge * (s**2).sum() + law.prior_weight_a * (log_a - np.log(law.prior_a)) ** 2
    return float(0.5 * (((f - y) / y.std()) ** 2).sum() + 0.5 * prior)


@pytest.mark.parametrize("k", [6, 25])
def test_objective_is_no_worse_than_scipy_with_restarts(k: int) -> None:
    P, Y = planted(k, 0.03, seed=1)
    law = PowerLinkLaw(noise_rounds=0).fit(Runs.of(P, Y))
    rng = np.random.default_rng(1)
    bounds = [(0, None), (-8, 8), (-5, 3), *[(-15, 15)] * M]
    for i in range(3):
        y = Y[:, i]
        theta = np.array([law.b_[i], np.log(law.c_[i]), np.log(law.a_[i]), *np.log(law.tau_[i])])
        assert law.objective_[i] == pytest.approx(objective(theta, P, y, law), rel=1e-5)
        starts = [np.r_[rng.uniform(0, y.min()), rng.normal(0, 1, 2 + M)] for _ in range(12)]
        best = min(minimize(objective, x, (P, y, law), "L-BFGS-B", bounds=bounds).fun for x in starts)
        assert law.objective_[i] <= best * (1 + 1e-3) + 1e-9


def noisy_world(seed: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mixtures, truth, and values with noise of 2, 30 and 60% of the spread."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.5), k)
    Y = 1 + (P**0.7 @ np.exp(rng.normal(0, 1, (3, M))).T) ** -0.1
    return P, Y, Y + np.array([0.02, 0.3, 0.6]) * Y.std(axis=0) * rng.standard_normal(Y.shape)


def test_the_prior_grows_with_the_noise_found() -> None:
    """n_i = (noise / (0.1 sd))^2: the objective in units of the noise, whatever the metric's own."""
    P, _, values = noisy_world(0, 30)
    first, law = PowerLinkLaw(noise_rounds=0).fit(Runs.of(P, values)), PowerLinkLaw().fit(Runs.of(P, values))
    assert (first.noise_share_ == 0.1).all()
    np.testing.assert_allclose(law.noise_share_, np.clip(first.noise_ / values.std(axis=0), 0.05, 1.0), rtol=0.05)
    for i, strength in enumerate((law.noise_share_ / 0.1) ** 2):
        theta = np.array([law.b_[i], np.log(law.c_[i]), np.log(law.a_[i]), *np.log(law.tau_[i])])
        scaled = PowerLinkLaw(ridge=law.ridge * strength, prior_weight_a=law.prior_weight_a * strength)
        assert law.objective_[i] * strength == pytest.approx(objective(theta, P, values[:, i], scaled), rel=1e-5)


def test_a_noisy_metric_is_not_overfitted() -> None:
    errors = []
    for seed in range(8):
        P, Y, values = noisy_world(seed, 100)
        laws = [PowerLinkLaw(noise_rounds=rounds).fit(Runs.of(P[: M + 2], values[: M + 2])) for rounds in (0, 1)]
        errors.append([np.abs(law.predict(P) - Y)[M + 2 :, 2].mean() for law in laws])
    assert np.mean(errors, axis=0)[1] < 0.95 * np.mean(errors, axis=0)[0]


def test_fits_with_no_more_runs_than_domains() -> None:
    P, Y = planted(100, 0.0)
    law = PowerLinkLaw().fit(Runs.of(P[:M], Y[:M]))
    assert law.converged_.all()
    rank = [spearmanr(law.predict(P[M:])[:, i], Y[M:, i]).statistic for i in range(3)]
    assert np.mean(rank) > 0.5


@pytest.mark.parametrize("g", [0.0, 1.2])
def test_g_that_is_not_convex_is_refused(g: float) -> None:
    with pytest.raises(ObservationError, match=r"g of the power-link law must be in \(0, 1\]"):
        PowerLinkLaw(g=g).fit(Runs.of(*planted(20, 0.0)))


def test_predictions_do_not_depend_on_the_unit() -> None:
    P, Y = planted(30, 0.02)
    np.testing.assert_allclose(
        PowerLinkLaw().fit(Runs.of(P, Y * 3)).predict(P), PowerLinkLaw().fit(Runs.of(P, Y)).predict(P) * 3, atol=0.01
    )


def test_thirteen_metrics_of_54_runs_over_17_domains_fit_quickly() -> None:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(17, 0.5), 54)
    Y = 2 + (P**0.7 @ np.exp(rng.normal(0, 1, (17, 13)))) ** -0.5 + 0.02 * rng.standard_normal((54, 13))
    started = time.process_time()
    PowerLinkLaw().fit(Runs.of(P, Y))
    assert time.process_time() - started < 1.0  # about 0.1 s alone on a core; the margin is for a busy machine


def table(name: str) -> np.ndarray:
    with (SWARM / name).open() as lines:
        return np.array([[float(cell) for cell in row[1:]] for row in list(csv.reader(lines))[1:]])


@pytest.mark.skipif(not SWARM.is_dir(), reason="the RegMix swarm is not here")
def test_ranks_held_out_regmix_runs_from_one_run_more_than_domains() -> None:
    P, Y, new, truth = (table(f"{part}_{what}.csv") for part in ("train", "test") for what in ("mixture", "loss"))
    P, new = P / P.sum(axis=1, keepdims=True), new / new.sum(axis=1, keepdims=True)
    scores = []
    for seed in range(5):
        chosen = np.random.default_rng(seed).permutation(len(P))[:18]
        predicted = PowerLinkLaw().fit(Runs.of(P[chosen], Y[chosen])).predict(new)
        scores.append(np.mean([spearmanr(predicted[:, i], truth[:, i]).statistic for i in range(13)]))
    assert np.mean(scores) >= 0.9
