"""BiMix and AutoScale against planted truth and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import spearmanr

from evermix.errors import ObservationError
from evermix.laws.separable import AutoScaleLaw, BiMixLaw
from evermix.observations.runs import Runs

M = 4


def mixtures(k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.full(M, 0.7), k)


def test_bimix_recovers_a_planted_law() -> None:
    P = mixtures(150)
    A, a = (
        np.array([[0.5, 1.0, 0.2, 0.8], [0.3, 0.1, 0.9, 0.4]]),
        np.array([[0.2, 0.4, 0.1, 0.3], [0.5, 0.2, 0.3, 0.1]]),
    )
    Y = (A * (P[:, None, :] + 1e-3) ** -a).sum(axis=2)
    law = BiMixLaw(ridge=1e-8, prior_weight_a=1e-8).fit(Runs.of(P[:100], Y[:100]))
    assert np.abs(law.predict(P[100:]) - Y[100:]).max() < 0.02
    assert np.allclose(law.a_, a, atol=0.1)


def test_bimix_is_finite_and_convex_at_a_vertex() -> None:
    P = mixtures(60)
    law = BiMixLaw().fit(Runs.of(P, 1 + (P[:, :2] + 0.05) ** -0.3))
    corner = np.eye(M)[0]
    assert np.isfinite(law.predict(corner)).all()
    assert np.isfinite(law.gradient(corner)).all()
    d, s = law.curvature(corner)
    assert (d >= 0).all()
    assert (s == 0).all()


def test_bimix_objective_is_no_worse_than_scipy() -> None:
    P = mixtures(40, seed=2)
    y = 1.5 + (P**0.7 @ [1.0, 2.0, 0.3, 0.6]) ** -0.5
    law = BiMixLaw().fit(Runs.of(P, y[:, None]))

    def objective(theta: np.ndarray) -> float:
        A, log_a = theta[:M], theta[M:]
        f = (A * (P + law.minimum_share) ** -np.exp(log_a)).sum(axis=1)
        prior = (
            law.ridge * ((A - A.mean()) ** 2).sum() + law.prior_weight_a * ((log_a - np.log(law.prior_a)) ** 2).sum()
        )
        return float(0.5 * ((f - y / y.std()) ** 2).sum() + 0.5 * prior)

    fitted = objective(np.concatenate([law.A_[0] / y.std(), np.log(law.a_[0])]))
    assert law.objective_[0] == pytest.approx(fitted, rel=1e-6)
    rng = np.random.default_rng(3)
    bounds = [(0, None)] * M + [(-8, 2)] * M
    starts = [np.r_[rng.uniform(0, 10, M), rng.normal(-2, 1, M)] for _ in range(8)]
    assert fitted <= min(minimize(objective, x, method="L-BFGS-B", bounds=bounds).fun for x in starts) * 1.02


def test_autoscale_ranks_a_planted_world() -> None:
    P = mixtures(200)
    A, a = np.array([0.05, 0.3, 0.1, 0.6]), np.array([0.4, 0.2, 0.7, 0.5])
    y = 2.0 + ((A + P) ** -a).sum(axis=1)
    law = AutoScaleLaw(prior_weight=1e-3).fit(Runs.of(P[:100], y[:100, None]))
    assert spearmanr(law.predict(P[100:])[:, 0], y[100:]).statistic > 0.97


def test_the_token_budget_changes_the_fit() -> None:
    P = mixtures(40)
    Y = 1 + (P @ np.ones((M, 1)) * P[:, :1] + 0.1) ** -0.4
    ours = [AutoScaleLaw(tokens_billions=R).fit(Runs.of(P, Y)).predict(P) for R in (1.0, 100.0)]
    assert np.abs(ours[0] - ours[1]).max() > 1e-4


@pytest.mark.parametrize("law", [BiMixLaw(minimum_share=0.0), AutoScaleLaw(tokens_billions=0.0)])
def test_bad_hyperparameters_are_refused(law: BiMixLaw | AutoScaleLaw) -> None:
    P = mixtures(20)
    with pytest.raises(ObservationError, match="must be"):
        law.fit(Runs.of(P, P[:, :2] + 1))
