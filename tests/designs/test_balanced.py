"""Balanced designs: every domain takes every level equally often, whatever the number of domains."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.designs.balanced import balanced_design, balanced_levels
from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture

LEVELS = (0.5, 0.8, 1.15, 1.55)


@settings(max_examples=25, deadline=None)
@given(m=st.integers(2, 40), blocks=st.integers(1, 3), seed=st.integers(0, 1000))
def test_every_domain_takes_every_level_once_per_block(m: int, blocks: int, seed: int) -> None:
    levels = balanced_levels(np.full(m, 1 / m), 4 * blocks, LEVELS, np.random.default_rng(seed))
    assert levels.shape == (4 * blocks, m)
    for block in np.split(levels, blocks):
        np.testing.assert_array_equal(np.sort(block, axis=0), np.tile(np.sort(LEVELS)[:, None], m))


@pytest.mark.parametrize("m", [4, 10, 21, 64])
def test_no_domain_is_confounded_with_time_and_rows_are_what_was_meant(m: int) -> None:
    levels = balanced_levels(np.full(m, 1 / m), 8, LEVELS, np.random.default_rng(0))
    logs = np.log(levels) - np.log(levels).mean(axis=0)
    time = np.column_stack([np.linspace(-1, 1, 8), np.linspace(-1, 1, 8) ** 2])
    correlation = np.corrcoef(np.column_stack([logs, time]).T)[:m, m:]
    assert np.abs(correlation).max() < 0.35
    assert levels.mean(axis=1).std() < 0.1


def test_domains_correlate_less_than_if_they_were_drawn() -> None:
    rng = np.random.default_rng(3)
    found = np.log(balanced_levels(np.full(10, 0.1), 8, LEVELS, rng))
    drawn = [np.log(np.vstack([np.array([rng.permutation(LEVELS) for _ in range(10)]).T] * 2)) for _ in range(20)]

    def confounding(logs: np.ndarray) -> float:
        return float(((np.corrcoef(logs.T) - np.eye(10)) ** 4).sum())

    assert confounding(found) < 0.5 * min(map(confounding, drawn))


def test_the_mean_of_a_block_is_near_the_centre_also_if_that_is_uneven() -> None:
    centre = Mixture(DomainSet("abcde"), [0.5, 0.25, 0.15, 0.08, 0.02])
    mixtures = balanced_design(centre, 8, LEVELS, np.random.default_rng(0))
    mean = np.mean([mixture.weights for mixture in mixtures], axis=0)
    np.testing.assert_allclose(mean, centre.weights, rtol=0.15)


def test_the_same_seed_gives_the_same_design_and_a_zero_stays_zero() -> None:
    centre = Mixture(DomainSet("abc"), [0.6, 0.4, 0.0])
    one, two = (balanced_design(centre, 4, LEVELS, np.random.default_rng(5)) for _ in range(2))
    assert one == two
    assert all(mixture["c"] == 0 for mixture in one)


@pytest.mark.parametrize(
    ("levels", "n", "said"),
    [
        ((1.0,), 4, "two different"),
        ((0.5, 0.0), 4, "above 0"),
        ((0.5, 1.5), 5, "multiple of 2"),
        (LEVELS, 2, "multiple"),
    ],
)
def test_levels_that_cannot_be_are_refused(levels: tuple[float, ...], n: int, said: str) -> None:
    with pytest.raises(MixtureError, match=said):
        balanced_levels(np.full(3, 1 / 3), n, levels, np.random.default_rng(0))
