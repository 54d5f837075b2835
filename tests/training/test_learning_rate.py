"""Learning-rate schedules against their closed forms."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.training.learning_rate import LearningRate


def test_warmup_stable_decay() -> None:
    rate = LearningRate("wsd", total_steps=100, warmup_steps=10, decay_steps=20)
    assert [rate(s) for s in (0, 9, 10, 80, 90, 99, 100)] == pytest.approx([0.1, 1, 1, 1, 0.5, 0.05, 0])


def test_cosine_ends_at_a_tenth() -> None:
    rate = LearningRate("cosine", total_steps=110, warmup_steps=10)
    assert [rate(s) for s in (10, 60, 110)] == pytest.approx([1, 0.55, 0.1])


@given(st.sampled_from(["wsd", "cosine", "constant"]), st.integers(1, 500), st.integers(0, 20), st.integers(0, 100))
def test_factor_stays_between_zero_and_one(kind: str, total: int, warmup: int, decay: int) -> None:
    rate = LearningRate(kind, total, warmup, decay)  # type: ignore[arg-type]
    assert all(0 <= rate(step) <= 1 for step in range(total + 1))
