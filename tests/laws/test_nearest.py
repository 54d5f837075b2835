"""Search: the best prediction is the best observed run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.errors import ObservationError
from evermix.laws.nearest import NearestLaw
from evermix.observations.runs import Runs


def runs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(4, 0.5), 15), rng.uniform(1, 3, (15, 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_mixture_beats_the_best_observed_run(seed: int) -> None:
    P, Y = runs(seed)
    law = NearestLaw().fit(Runs.of(P, Y))
    everywhere = law.predict(np.random.default_rng(seed + 1).dirichlet(np.full(4, 0.3), 300)).mean(axis=1)
    assert everywhere.min() >= Y.mean(axis=1).min() - 1e-9


def test_an_observed_mixture_is_predicted_as_observed_and_replicates_by_their_mean() -> None:
    P, Y = runs(0)
    twice = np.vstack([P, P[:1]])
    values = np.vstack([Y, Y[:1] + 0.4])
    law = NearestLaw().fit(Runs.of(twice, values))
    np.testing.assert_allclose(law.predict(P[1:]), Y[1:], atol=1e-6)
    np.testing.assert_allclose(law.predict(P[0]), Y[0] + 0.2, atol=1e-6)


def test_power_must_be_positive() -> None:
    with pytest.raises(ObservationError, match="power of the nearest law must be > 0"):
        NearestLaw(power=0.0).fit(Runs.of(*runs(0)))
