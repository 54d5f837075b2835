"""Space filling: more even and further apart than random draws, on faces where asked, within bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

from evermix.constraints import Constraints
from evermix.designs import SpaceFillingOptions, SwarmRules, representative, space_filling_design
from evermix.domains import DomainSet
from evermix.errors import MixtureError


def weights(
    m: int, n: int, seed: int = 0, options: SpaceFillingOptions | None = None, rules: SwarmRules | None = None
) -> np.ndarray:
    domains = DomainSet([f"d{j}" for j in range(m)])
    design = space_filling_design(domains, n, np.random.default_rng(seed), options, rules)
    return np.array([x.weights for x in design])


def mean_distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(cdist(a, b).mean())


def energy_distance(sample: np.ndarray, truth: np.ndarray) -> float:
    return 2 * mean_distance(sample, truth) - mean_distance(sample, sample) - mean_distance(truth, truth)


def least_distance(sample: np.ndarray) -> float:
    apart = np.linalg.norm(sample[:, None] - sample[None], axis=2)
    return float(apart[np.triu_indices(len(sample), 1)].min())


@pytest.mark.parametrize(("m", "apart"), [(3, 1.5), (8, 1.2), (24, 1.0)])
def test_more_even_and_further_apart_than_random(m: int, apart: float) -> None:
    truth = np.random.default_rng(99).dirichlet(np.ones(m), 2000)
    rng = np.random.default_rng(1)
    ours = [weights(m, 40, seed) for seed in range(5)]
    random = [rng.dirichlet(np.ones(m), 40) for _ in range(5)]
    assert np.mean([energy_distance(x, truth) for x in ours]) < 0.7 * np.mean(
        [energy_distance(x, truth) for x in random]
    )
    assert np.mean([least_distance(x) for x in ours]) > apart * np.mean([least_distance(x) for x in random])


def test_faces() -> None:
    drawn = weights(10, 60, options=SpaceFillingOptions(faces=0.5))
    on_faces = (drawn == 0).any(axis=1)
    assert 0.3 < on_faces.mean() < 0.7
    assert (drawn.max(axis=1) == 1).any()


@given(st.integers(0, 1000), st.floats(1.05, 4))
@settings(max_examples=15, deadline=None)
def test_within_bounds(seed: int, room: float) -> None:
    domains = DomainSet([f"d{j}" for j in range(8)])
    bounds = Constraints(caps=dict.fromkeys(domains.names, min(room / 8, 1.0)), floor=0.01).bounds(domains, 1)
    drawn = weights(8, 12, seed, SpaceFillingOptions(faces=0.5), SwarmRules(bounds))
    assert bounds.hold(drawn, 1e-6).all()
    assert least_distance(drawn) > 1e-6


def test_ten_thousand_domains_take_seconds() -> None:
    domains = DomainSet([f"d{j}" for j in range(10_000)])
    bounds = Constraints(caps=dict.fromkeys(domains.names, 0.01)).bounds(domains, 1)
    assert bounds.hold(weights(10_000, 100, rules=SwarmRules(bounds)), 1e-6).all()


def test_representative_adds_to_what_is_chosen() -> None:
    pool = np.random.default_rng(0).dirichlet(np.ones(4), 300)
    first = representative(pool, 10)
    more = representative(pool, 10, pool[first])
    assert len(set(more) - set(first)) >= 8
    both = pool[np.concatenate([first, more])]
    assert energy_distance(both, pool) < energy_distance(pool[first], pool)
    with pytest.raises(MixtureError, match="must hold the number asked for"):
        representative(pool, 301)


def test_same_seed_same_design_and_bad_options() -> None:
    np.testing.assert_array_equal(weights(5, 9, 2), weights(5, 9, 2))
    assert weights(1, 1).tolist() == [[1.0]]
    with pytest.raises(MixtureError, match="faces"):
        SpaceFillingOptions(faces=2)
