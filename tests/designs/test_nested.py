"""Nested design: level by level, each with its own prior and scatter; fixed inner ratios are exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.constraints import Constraints, GroupTotal
from evermix.designs import DirichletOptions, LevelOptions, SwarmRules, nested_design, nested_prior
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, MixtureError
from evermix.mixture import Mixture

NAMES = ["web:science:high", "web:science:low", "web:games:high", "web:games:low", "code:python", "code:c", "books"]
PRIOR = Mixture(DomainSet(NAMES), [0.1, 0.2, 0.15, 0.05, 0.2, 0.1, 0.2])
WEB = slice(0, 4)
FIRM = DirichletOptions((1e7, 1e7))


def weights(
    levels: tuple[LevelOptions, ...], n: int = 50, rules: SwarmRules | None = None, seed: int = 0
) -> np.ndarray:
    design = nested_design(PRIOR, n, np.random.default_rng(seed), levels, rules)
    return np.array([x.weights for x in design])


def test_the_mean_is_the_prior_at_any_strength() -> None:
    np.testing.assert_allclose(weights((), 4000).mean(axis=0), PRIOR.weights, atol=0.02)
    np.testing.assert_allclose(weights((LevelOptions(FIRM),) * 3, 5), np.tile(PRIOR.weights, (5, 1)), atol=2e-3)


def test_each_level_has_its_own_prior_and_temperature() -> None:
    sources = LevelOptions(FIRM, prior={"web": 2.0, "code": 1.0, "books": 1.0})
    topics = LevelOptions(DirichletOptions((1e7, 1e7), temperature=0.0))
    drawn = weights((sources, topics, LevelOptions(FIRM)), 4)
    expected = [0.25 * 0.1 / 0.3, 0.25 * 0.2 / 0.3, 0.25 * 0.75, 0.25 * 0.25, 0.125, 0.125, 0.25]
    np.testing.assert_allclose(drawn, np.tile(expected, (4, 1)), atol=2e-3)
    np.testing.assert_allclose(nested_prior(PRIOR, (sources, topics)).weights, expected, atol=1e-12)


def test_each_level_has_its_own_strength() -> None:
    drawn = weights((LevelOptions(FIRM), LevelOptions(DirichletOptions((0.3, 0.3)))), 300)
    np.testing.assert_allclose(drawn[:, WEB].sum(axis=1), 0.5, atol=2e-3)
    assert drawn[:, 0].std() > 0.05


def test_levels_at_a_fixed_ratio_keep_their_inner_ratios_exactly() -> None:
    fixed = LevelOptions(fixed_ratio=True)
    drawn = weights((LevelOptions(), LevelOptions(), fixed))
    present = drawn[:, 0] > 0
    np.testing.assert_allclose(drawn[present, 1] / drawn[present, 0], 2, rtol=1e-12)
    only_web = LevelOptions(fixed_ratio=frozenset({"web"}))
    drawn = weights((LevelOptions(), only_web, fixed))
    web = drawn[:, WEB]
    np.testing.assert_allclose(web, web.sum(axis=1, keepdims=True) * PRIOR.weights[WEB] / 0.5, rtol=1e-12, atol=1e-15)
    code = drawn[drawn[:, 4:6].sum(axis=1) > 0, 4:6]
    assert np.std(code[:, 0] / code.sum(axis=1)) > 0.05


def test_frozen_topics_above_free_qualities() -> None:
    drawn = weights((LevelOptions(), LevelOptions(fixed_ratio=True), LevelOptions()))
    science, games = drawn[:, :2].sum(axis=1), drawn[:, 2:4].sum(axis=1)
    np.testing.assert_allclose(science * 0.2, games * 0.3, rtol=1e-9)


@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.02, 1))
@settings(max_examples=30, deadline=None)
def test_every_leaf_is_covered(seed: int, coverage: int, strength: float) -> None:
    level = LevelOptions(DirichletOptions((strength, strength), per_domain=False))
    drawn = weights((level,) * 3, 12, SwarmRules(coverage=coverage), seed)
    assert ((drawn > 0).sum(axis=0) >= coverage).all()
    np.testing.assert_allclose(drawn.sum(axis=1), 1)
    assert len(np.unique(drawn.round(9), axis=0)) == 12


@given(st.integers(0, 10**6), st.booleans())
@settings(max_examples=30, deadline=None)
def test_bounds_hold_with_and_without_levels_at_a_fixed_ratio(seed: int, fixed_ratio: bool) -> None:
    rules = Constraints(
        caps={"web:science:low": 0.15, "books": 0.2},
        floors={"code:c": 0.05},
        groups={"code": GroupTotal(("code:",), 0.3, 0.5)},
    )
    bounds = rules.bounds(PRIOR.domains, 1)
    drawn = weights(
        (LevelOptions(), LevelOptions(), LevelOptions(fixed_ratio=fixed_ratio)), 15, SwarmRules(bounds), seed
    )
    assert bounds.hold(drawn, 1e-6).all()
    if fixed_ratio:
        np.testing.assert_allclose(drawn[:, 1], 2 * drawn[:, 0], atol=1e-12)


def test_what_cannot_be_met_is_refused() -> None:
    tight = Constraints(caps={"web:science:low": 0.02}, floors={"web:science:high": 0.1}).bounds(PRIOR.domains, 1)
    fixed = (LevelOptions(), LevelOptions(), LevelOptions(fixed_ratio=True))
    with pytest.raises(ConstraintError, match="fixed inner ratios"):
        weights(fixed, 5, SwarmRules(tight))
    with pytest.raises(ConstraintError, match="fixed ratio above free"):
        weights((LevelOptions(), LevelOptions(fixed_ratio=True)), 5, SwarmRules(tight))
    with pytest.raises(ConstraintError, match="grid"):
        weights(fixed, 5, SwarmRules(grid=0.01))
    with pytest.raises(MixtureError, match="must name nodes of that level"):
        weights((LevelOptions(prior={"web:science": 1}),))
    with pytest.raises(MixtureError, match="must name all children"):
        weights((LevelOptions(prior={"web": 1}),))
    with pytest.raises(MixtureError, match="name at a fixed ratio"):
        weights((LevelOptions(fixed_ratio=frozenset({"web"})),))
    with pytest.raises(MixtureError, match="parent of others"):
        nested_design(Mixture.uniform(DomainSet(["web", "web:games"])), 3, np.random.default_rng(0))
    with pytest.raises(MixtureError, match="must not have more"):
        weights((LevelOptions(),) * 4)


def test_many_leaves_take_seconds() -> None:
    names = [f"s{i}:t{j}:q{k}" for i in range(20) for j in range(25) for k in range(20)]
    design = nested_design(Mixture.uniform(DomainSet(names)), 100, np.random.default_rng(0))
    drawn = np.array([x.weights for x in design])
    assert (drawn > 0).any(axis=0).all()


def test_same_seed_same_design() -> None:
    np.testing.assert_array_equal(weights((), seed=4), weights((), seed=4))
