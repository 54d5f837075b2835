"""Mixtures: the simplex, its distances, and the priors that need no measurement."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from evermix.domains import Domain, DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture

DOMAINS = DomainSet([Domain("web", 1000), Domain("code", 100), Domain("books", 10), Domain("law", 1)])
amounts = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4)


@given(amounts)
def test_normalised_is_on_the_simplex_and_idempotent(values: list[float]) -> None:
    mixture = Mixture.normalised(DOMAINS, values)
    assert mixture.weights.sum() == pytest.approx(1, abs=1e-15)
    np.testing.assert_allclose(mixture.weights * sum(values), values)
    assert Mixture.from_dict(DOMAINS, mixture.as_dict) == Mixture(DOMAINS, mixture.weights)
    assert hash(Mixture(DOMAINS, mixture.weights)) == hash(Mixture.from_dict(DOMAINS, mixture.as_dict))


@given(amounts)
def test_a_mixture_that_is_written_and_read_again_is_the_same_to_the_last_digit(values: list[float]) -> None:
    once = Mixture.normalised(DOMAINS, values)
    assert Mixture.from_dict(DOMAINS, json.loads(json.dumps(once.as_dict))) == once
    turned = DomainSet(DOMAINS.domains[::-1])
    assert Mixture.from_dict(turned, once.as_dict).as_dict == once.as_dict


@given(amounts, amounts)
def test_kl_and_total_variation(left: list[float], right: list[float]) -> None:
    p, q = Mixture.normalised(DOMAINS, left), Mixture.normalised(DOMAINS, right)
    assert p.kl(q) == pytest.approx(entropy(p.weights, q.weights), abs=1e-12)
    assert 2 * p.total_variation(q) ** 2 <= p.kl(q) + 1e-12  # Pinsker
    assert p.total_variation(q) == q.total_variation(p)
    assert p.kl(p) == 0 == p.total_variation(p)


@given(amounts, amounts, st.floats(0, 1))
def test_blend_moves_by_its_share(left: list[float], right: list[float], share: float) -> None:
    p, q = Mixture.normalised(DOMAINS, left), Mixture.normalised(DOMAINS, right)
    assert p.blend(q, share).total_variation(p) == pytest.approx(share * p.total_variation(q), abs=1e-12)


def test_kl_with_zeros() -> None:
    one, half = Mixture(DOMAINS, [1, 0, 0, 0]), Mixture(DOMAINS, [0.5, 0.5, 0, 0])
    assert one.kl(half) == pytest.approx(np.log(2))
    assert half.kl(one) == float("inf")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([0.5, 0.5], "as many weights"),
        ([0.5, 0.5, np.nan, 0], "domain 'books' must be a number >= 0, got nan"),
        ([0.6, 0.5, -0.1, 0], r"domain 'books' must be a number >= 0, got -0\.1"),
        ([50, 50, 0, 0], r"must sum to 1, got 100\.0"),
    ],
)
def test_what_is_no_mixture_is_refused(weights: list[float], message: str) -> None:
    with pytest.raises(MixtureError, match=message):
        Mixture(DOMAINS, weights)


def test_other_refusals() -> None:
    with pytest.raises(MixtureError, match="positive finite sum"):
        Mixture.normalised(DOMAINS, [0, 0, 0, 0])
    with pytest.raises(MixtureError, match="same domains"):
        Mixture.uniform(DOMAINS).kl(Mixture.uniform(DomainSet(["web"])))


def test_weights_are_a_frozen_copy() -> None:
    given_weights = np.array([0.25, 0.25, 0.25, 0.25])
    mixture = Mixture(DOMAINS, given_weights)
    given_weights[0] = 9
    assert mixture["web"] == 0.25
    with pytest.raises(ValueError, match="read-only"):
        mixture.weights[0] = 1


def test_natural_uniform_and_epochs() -> None:
    natural = Mixture.natural(DOMAINS)
    np.testing.assert_allclose(natural.weights, np.array([1000, 100, 10, 1]) / 1111)
    np.testing.assert_allclose(natural.epochs(2222), 2)
    np.testing.assert_allclose(Mixture.uniform(DOMAINS).epochs(400), [0.1, 1, 10, 100])
    empty = DomainSet([Domain("a", 10), Domain("b", 0)])
    np.testing.assert_array_equal(Mixture(empty, [1, 0]).epochs(10), [1, 0])


def test_rows_count_as_tokens_do() -> None:
    rows = DomainSet(domain.resized(domain.n_tokens, "rows") for domain in DOMAINS)
    np.testing.assert_array_equal(Mixture.natural(rows).weights, Mixture.natural(DOMAINS).weights)
    np.testing.assert_array_equal(Mixture.uniform(rows).epochs(400), Mixture.uniform(DOMAINS).epochs(400))
    unimax = Mixture.unimax(rows, 400, 4)
    np.testing.assert_array_equal(unimax.weights, Mixture.unimax(DOMAINS, 400, 4).weights)


@given(st.floats(10, 4000), st.floats(1, 8))
def test_unimax_is_capped_water_filling(n_tokens: float, max_epochs: float) -> None:
    capacity = DOMAINS.n_tokens * max_epochs
    drawn = Mixture.unimax(DOMAINS, n_tokens, max_epochs).weights * min(n_tokens, capacity.sum())
    assert np.all(drawn <= capacity * (1 + 1e-9))
    free = drawn < capacity * (1 - 1e-9)
    if free.any():
        np.testing.assert_allclose(drawn[free], drawn.max(), rtol=1e-9)
