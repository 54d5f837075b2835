"""What pooling over metrics is worth on planted worlds."""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from evermix.laws.power_link import PooledPowerLinkLaw, PowerLinkLaw, _shared
from evermix.observations.runs import Runs

M, N = 8, 12


def world(alike: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """log tau of a metric: `alike` shared by all, the rest its own."""
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.full(M, 0.5), 300)
    log_tau = alike * rng.normal(0, 1.5, M) + np.sqrt(1 - alike**2) * rng.normal(0, 1.5, (N, M))
    Y = 1.5 + (P**0.7 @ np.exp(log_tau).T) ** -0.15
    return P, Y + 0.15 * Y.std(axis=0) * rng.standard_normal(Y.shape)


def rank(law: PowerLinkLaw, P: np.ndarray, Y: np.ndarray, k: int) -> float:
    predicted = law.fit(Runs.of(P[:k], Y[:k])).predict(P[k:])
    return float(np.mean([spearmanr(predicted[:, i], Y[k:, i]).statistic for i in range(N)]))


def gain(alike: float, seed: int) -> float:
    P, Y = world(alike, seed)
    return rank(PooledPowerLinkLaw(), P, Y, 14) - rank(PowerLinkLaw(), P, Y, 14)


def test_pooling_helps_a_little_where_metrics_are_alike_and_does_not_hurt_where_not() -> None:
    assert np.mean([gain(0.95, seed) for seed in range(3)]) > 0.001
    assert np.mean([gain(0.0, seed) for seed in range(3)]) > -0.01


def test_a_metric_alone_is_a_plain_power_link() -> None:
    P, Y = world(0.5, 0)
    plain, pooled = (
        PowerLinkLaw().fit(Runs.of(P[:30], Y[:30, :1])),
        PooledPowerLinkLaw().fit(Runs.of(P[:30], Y[:30, :1])),
    )
    np.testing.assert_allclose(pooled.predict(P), plain.predict(P), rtol=1e-2)
    assert not pooled.shared_log_tau_.any()


def test_the_shared_mean_is_the_average_of_like_metrics_and_a_blank_one() -> None:
    log_tau = np.array([[1.0, -1.0], [5.0, 1.0], [0.0, 0.0]])
    likeness = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    np.testing.assert_allclose(_shared(log_tau, likeness), [[1.0, -1.0], [0.5, -0.5], [0.0, 0.0]])
