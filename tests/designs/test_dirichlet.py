"""The Dirichlet design: its mean is the prior, small weights are exact zeros, the same seed gives the same mixtures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture

PRIOR = Mixture(DomainSet(["a", "b", "c", "d"]), [0.55, 0.3, 0.15, 0.0])


def weights(n: int, seed: int = 0, **settings: object) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([m.weights for m in dirichlet_candidates(PRIOR, n, rng, **settings)])  # type: ignore[arg-type]


@pytest.mark.parametrize("strength", [(0.1, 0.1), (5.0, 5.0), (0.1, 5.0)])
def test_mean_is_the_prior(strength: tuple[float, float]) -> None:
    np.testing.assert_allclose(weights(4000, strength=strength).mean(axis=0), PRIOR.weights, atol=0.025)


def test_variance_is_that_of_the_dirichlet() -> None:
    s = 2.0 * 4  # strength times domains = sum of alpha
    drawn = weights(20000, strength=(2.0, 2.0), minimum_weight=0.0)
    np.testing.assert_allclose(drawn.var(axis=0), PRIOR.weights * (1 - PRIOR.weights) / (s + 1), rtol=0.05)


@given(st.integers(0, 1000), st.floats(1e-4, 10), st.floats(0, 0.9))
def test_every_draw_is_a_mixture_without_small_weights(seed: int, strength: float, minimum: float) -> None:
    drawn = weights(5, seed, strength=(strength, strength), minimum_weight=minimum)
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    assert np.all((drawn == 0) | (drawn >= minimum - 1e-12))
    assert np.all(drawn[:, 3] == 0)


def test_stronger_is_nearer_to_the_prior() -> None:
    near, far = weights(300, strength=(5, 5)), weights(300, strength=(0.1, 0.1))
    assert np.abs(near - PRIOR.weights).mean() < np.abs(far - PRIOR.weights).mean() / 2
    assert (far == 0).mean() > (near == 0).mean()


def test_same_seed_same_mixtures() -> None:
    np.testing.assert_array_equal(weights(10, 3), weights(10, 3))
    assert len(weights(7)) == 7


@pytest.mark.parametrize("settings", [{"strength": (0, 1)}, {"strength": (2, 1)}, {"minimum_weight": 1.0}])
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(MixtureError):
        weights(3, **settings)
