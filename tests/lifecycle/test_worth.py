"""What deciding is expected to gain before anything is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import minimize

from evermix.lifecycle.evidence.worth import _optimum, expected_before

UNIFORM = (0.1,) * 10


def test_unequal_objectives_and_junk_promise_more_than_equal_ones() -> None:
    alike = expected_before(UNIFORM, UNIFORM, 0.01)
    clean = expected_before((0.125,) * 8 + (0.0,) * 2, UNIFORM, 0.01)
    skewed = expected_before((0.5, 0.3, 0.2) + (0.0,) * 7, UNIFORM, 0.01)
    assert 0 < alike.gain < clean.gain < skewed.gain
    assert alike.low < 0 < alike.high  # it may lose
    assert not alike.stays


def test_reading_costs_what_as_many_more_tokens_would_gain() -> None:
    assert expected_before(UNIFORM, UNIFORM, 0.14).cost == pytest.approx(100 * (1 - 1.14**-0.45))
    assert expected_before(UNIFORM, UNIFORM, 0.5).stays


def test_what_is_chosen_is_the_optimum_of_the_slopes_that_are_seen() -> None:
    rng = np.random.default_rng(3)
    slopes, levels = 0.2 * np.exp(0.4 * rng.normal(size=(1, 5))), 3 + 0.2 * rng.normal(size=(1, 5))
    weights = start = np.full(5, 0.2)
    found = _optimum(weights, start, slopes, levels)[0]

    def value(z: np.ndarray) -> float:
        p = np.exp(z - z.max())
        p /= p.sum()
        return float(weights @ np.exp(levels[0] - slopes[0] * np.log(p / start)))

    best = minimize(value, np.zeros(5), method="BFGS").fun
    assert value(np.log(found)) == pytest.approx(best, rel=1e-4)
