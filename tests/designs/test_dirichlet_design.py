"""The Dirichlet swarm: mean, presets, coverage, bounds, grid, distinctness, at any number of domains."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.constraints import Constraints, GroupTotal
from evermix.designs import DirichletOptions, SwarmRules, dirichlet_design
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, MixtureError
from evermix.mixture import Mixture


def prior_of(m: int, seed: int = 0) -> Mixture:
    return Mixture(DomainSet([f"d{j}" for j in range(m)]), np.random.default_rng(seed).dirichlet(np.ones(m)))


def weights(
    prior: Mixture, n: int, options: DirichletOptions | None = None, rules: SwarmRules | None = None, seed: int = 0
) -> np.ndarray:
    return np.array([x.weights for x in dirichlet_design(prior, n, np.random.default_rng(seed), options, rules)])


def test_mean_is_the_tempered_prior() -> None:
    prior = Mixture(DomainSet(["a", "b", "c"]), [0.64, 0.32, 0.04])
    drawn = weights(prior, 4000, DirichletOptions(temperature=0.5))
    expected = np.sqrt(prior.weights) / np.sqrt(prior.weights).sum()
    np.testing.assert_allclose(drawn.mean(axis=0), expected, atol=0.02)


def test_sparse_has_many_zeros_and_dense_none() -> None:
    prior = Mixture.uniform(DomainSet([f"d{j}" for j in range(24)]))
    sparse = weights(prior, 200, DirichletOptions.sparse())
    assert 0.7 < (sparse == 0).mean() < 0.95  # the published DCLM swarm: 0.86
    assert (weights(prior, 200, DirichletOptions.dense()) > 0).all()


def test_total_strength_has_the_variance_of_its_dirichlet() -> None:
    prior = Mixture(DomainSet(["a", "b", "c", "d"]), [0.4, 0.3, 0.2, 0.1])
    drawn = weights(prior, 20000, DirichletOptions((2.0, 2.0), per_domain=False, minimum_weight=0.0))
    np.testing.assert_allclose(drawn.var(axis=0), prior.weights * (1 - prior.weights) / 3, rtol=0.06)


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 5), st.floats(0.01, 5))
@settings(max_examples=40, deadline=None)
def test_every_live_domain_is_covered_and_no_weight_is_small(seed: int, m: int, coverage: int, strength: float) -> None:
    prior = prior_of(m, seed)
    options = DirichletOptions((strength, strength), per_domain=False)
    drawn = weights(prior, 2 * coverage + 3, options, SwarmRules(coverage=coverage), seed)
    assert ((drawn > 0).sum(axis=0) >= coverage).all()
    assert ((drawn == 0) | (drawn >= min(0.002, 0.1 / m, 0.5 / m) * (1 - 1e-9))).all()
    np.testing.assert_allclose(drawn.sum(axis=1), 1)


def test_a_domain_without_prior_stays_out() -> None:
    prior = Mixture(DomainSet(["a", "b", "c"]), [0.5, 0.5, 0.0])
    assert (weights(prior, 30)[:, 2] == 0).all()


@given(st.integers(0, 10**6), st.integers(3, 30), st.floats(1.3, 4), st.booleans())
@settings(max_examples=40, deadline=None)
def test_mixtures_are_feasible_and_covered_under_caps(seed: int, m: int, room: float, sparse: bool) -> None:
    prior = prior_of(m, seed)
    names = prior.domains.names
    caps = dict.fromkeys(names, min(1.0, room / m))
    bounds = Constraints(caps=caps, fixed={names[0]: 0.5 / m}, floors={names[1]: 0.2 / m}).bounds(prior.domains, 1)
    options = DirichletOptions.sparse() if sparse else DirichletOptions.dense()
    drawn = weights(prior, 20, options, SwarmRules(bounds, coverage=2), seed)
    assert bounds.hold(drawn, 1e-6).all()
    assert ((drawn > 0).sum(axis=0) >= 2).all()


def test_group_totals_hold() -> None:
    prior = prior_of(12)
    groups = {"code": GroupTotal(("d0", "d1", "d2"), 0.3, 0.4), "web": GroupTotal(("d3", "d4"), 0.0, 0.1)}
    bounds = Constraints(groups=groups).bounds(prior.domains, 1)
    for options in (DirichletOptions.sparse(), DirichletOptions.dense()):
        drawn = weights(prior, 60, options, SwarmRules(bounds))
        assert bounds.hold(drawn, 1e-6).all()
        assert ((drawn > 0).sum(axis=0) >= 1).all()


def test_a_cap_that_leaves_one_mixture_gives_it() -> None:
    prior = prior_of(100)
    bounds = Constraints(caps=dict.fromkeys(prior.domains.names, 0.01)).bounds(prior.domains, 1)
    np.testing.assert_allclose(weights(prior, 5, rules=SwarmRules(bounds)), 0.01, rtol=1e-6)


@pytest.mark.parametrize("options", [None, DirichletOptions.sparse(), DirichletOptions.dense()])
@pytest.mark.parametrize("capped", [False, True])
def test_ten_thousand_domains_take_seconds(options: DirichletOptions | None, capped: bool) -> None:
    prior = Mixture.uniform(DomainSet([f"d{j}" for j in range(10_000)]))
    caps = dict.fromkeys(prior.domains.names, 0.01) if capped else {}
    bounds = Constraints(caps=caps).bounds(prior.domains, 1)
    start = time.process_time()
    drawn = weights(prior, 100, options, SwarmRules(bounds if capped else None))
    assert time.process_time() - start < 20
    assert bounds.hold(drawn, 1e-6).all()
    assert (drawn > 0).any(axis=0).all()


@given(st.integers(0, 10**6), st.sampled_from([0.1, 0.05, 0.01]), st.booleans())
@settings(max_examples=40, deadline=None)
def test_grid(seed: int, step: float, capped: bool) -> None:
    prior = prior_of(6, seed)
    bounds = Constraints(caps=dict.fromkeys(prior.domains.names, 0.4)).bounds(prior.domains, 1)
    drawn = weights(prior, 15, DirichletOptions.sparse(), SwarmRules(bounds if capped else None, 1, step), seed)
    np.testing.assert_allclose(drawn / step, np.round(drawn / step), atol=1e-6)
    assert (drawn > 0).any(axis=0).all()
    assert not capped or drawn.max() <= 0.4 + 1e-9
    assert len(np.unique(drawn, axis=0)) == 15


def test_no_two_mixtures_are_equal() -> None:
    prior = prior_of(4)
    options = DirichletOptions((0.05, 3.0), per_domain=False, minimum_weight=0.05)
    assert len(np.unique(weights(prior, 60, options), axis=0)) == 60


def test_same_seed_same_design() -> None:
    np.testing.assert_array_equal(weights(prior_of(9), 30, seed=3), weights(prior_of(9), 30, seed=3))
    assert dirichlet_design(prior_of(9), 0, np.random.default_rng(0)) == []


def test_wrong_requests_are_refused() -> None:
    prior = prior_of(3)
    with pytest.raises(MixtureError, match="temperature"):
        DirichletOptions(temperature=-1)
    with pytest.raises(MixtureError, match="1 / whole number"):
        SwarmRules(grid=0.3)
    with pytest.raises(MixtureError, match="coverage"):
        SwarmRules(coverage=-1)
    with pytest.raises(MixtureError, match="as many runs"):
        weights(prior, 2, rules=SwarmRules(coverage=3))
    bounds = Constraints(fixed={"d0": 0.123}).bounds(prior.domains, 1)
    with pytest.raises(ConstraintError, match="finer grid"):
        weights(prior, 5, rules=SwarmRules(bounds, grid=0.1))
