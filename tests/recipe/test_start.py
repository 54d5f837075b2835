"""The start: by the objective's weights where these promise enough."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.recipe.start import by_weights, default_start

NAMES = ("a", "b", "c", "d", "e", "f", "g", "h", "i", "j")
EVEN = dict.fromkeys(NAMES, 0.1)


def test_what_counts_alike_starts_uniform_with_junk_or_without() -> None:
    """Two of ten that do not count promise .3 log(.123 / .1) = .062."""
    assert default_start(NAMES, None, "perplexity") == EVEN
    assert default_start(NAMES, dict.fromkeys(NAMES, 3.0), "perplexity") == EVEN
    assert default_start(NAMES, dict.fromkeys(NAMES[2:], 1.0), "perplexity") == EVEN


@pytest.mark.parametrize("quantity", ["perplexity", "loss_nats", "bits_per_byte"])
def test_a_few_that_count_start_by_their_weights(quantity: str) -> None:
    weights = {"a": 0.5, "b": 0.3, "c": 0.2}
    found = default_start(NAMES, weights, quantity)
    assert found == by_weights(NAMES, weights, quantity)
    power = 1 / 1.3 if quantity == "perplexity" else 1.0
    assert math.log(found["a"] / found["b"]) == pytest.approx(power * math.log(0.5 / 0.3))
    assert found["j"] / found["a"] == pytest.approx(0.01 / (0.5**power / sum(w**power for w in weights.values())))


@given(st.lists(st.floats(0, 10), min_size=1, max_size=10))
def test_shares_sum_to_one_and_none_is_lost(values: list[float]) -> None:
    names = NAMES[: len(values)]
    for shares in (by_weights, default_start):
        found = shares(names, dict(zip(names, values, strict=True)), "perplexity")
        assert tuple(found) == names
        assert sum(found.values()) == pytest.approx(1)
        assert min(found.values()) > 0.04 / len(names)
