"""A world whose law is known: metrics fall as a power of a weighted amount of data, plus a little noise."""

from collections.abc import Mapping

import numpy as np

DOMAINS = {"web": 9 * 10**11, "code": 10**11, "maths": 2 * 10**10, "spam": 5 * 10**11}
USE = np.array([[1.0, 0.2, 0.1, 0.02], [0.1, 1.0, 0.3, 0.01], [0.2, 0.3, 1.0, 0.01]])
METRICS = ("reading", "programs", "sums")
NOISE = 0.004


def measure(shares: Mapping[str, float], seed: int) -> dict[str, float]:
    """What training on these shares would measure."""
    p = np.array([shares.get(name, 0.0) for name in DOMAINS])
    values = 1.2 + 0.6 * (USE @ p**0.7 + 0.02) ** -0.4 + np.random.default_rng(seed).normal(0, NOISE, len(METRICS))
    return dict(zip(METRICS, values.tolist(), strict=True))


def true_objective(shares: Mapping[str, float]) -> float:
    """Mean of the metrics without noise."""
    p = np.array([shares.get(name, 0.0) for name in DOMAINS])
    return float((1.2 + 0.6 * (USE @ p**0.7 + 0.02) ** -0.4).mean())
