"""Objectives: transforms, weights and the chain rule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import ConstraintError
from evermix.objective import Objective, Quantity

FACTOR = [0.4, 0.5, 0.6]
quantities = st.sampled_from(["loss_nats", "bits_per_byte", "perplexity"])
losses = st.lists(st.floats(0.1, 8), min_size=3, max_size=3).map(np.array)


def make(quantity: Quantity) -> Objective:
    return Objective.from_dict(["a", "b", "c"], {"a": 2.0, "b": 1.0, "c": 1.0}, quantity, FACTOR)


@given(quantities, losses)
def test_value_is_the_weighted_mean(quantity: Quantity, x: np.ndarray) -> None:
    by_hand = {"loss_nats": x, "bits_per_byte": x * FACTOR, "perplexity": np.exp(x)}[quantity]
    assert float(make(quantity).value(x)) == pytest.approx(float(by_hand @ [0.5, 0.25, 0.25]))
    stacked = make(quantity).value(np.stack([x, x]))
    assert stacked.shape == (2,)


@given(quantities, losses)
def test_gradient_is_the_chain_rule(quantity: Quantity, x: np.ndarray) -> None:
    goal = make(quantity)
    inner = np.random.default_rng(0).normal(size=(3, 4))
    step = 1e-6
    numeric = [(goal.value(x + step * inner[:, j]) - goal.value(x - step * inner[:, j])) / (2 * step) for j in range(4)]
    np.testing.assert_allclose(goal.gradient(x, inner), numeric, rtol=1e-4, atol=1e-4 * np.abs(numeric).max())


def test_a_metric_of_weight_zero_may_be_nan() -> None:
    goal = Objective.from_dict(["a", "b"], {"b": 3.0})
    assert goal.weights == (0.0, 1.0)
    assert float(goal.value(np.array([np.nan, 2.0]))) == 2.0
    slope = goal.gradient(np.array([np.nan, 2.0]), np.array([[np.nan], [4.0]]))
    np.testing.assert_array_equal(slope, [4.0])


def test_perplexity_of_a_metric_of_weight_zero_may_be_nan_too() -> None:
    goal = Objective.from_dict(["a", "b"], {"b": 3.0}, "perplexity")
    assert float(goal.value(np.array([np.nan, 0.0]))) == 1.0
    np.testing.assert_array_equal(goal.gradient(np.array([np.nan, 0.0]), np.array([[1.0], [4.0]])), [4.0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": -1.0}, r"weight of 'a' must be a number >= 0, got -1\.0"),
        ({"a": float("nan")}, "weight of 'a' must be a number >= 0, got nan"),
        ({"a": 0.0}, "at least one objective weight must be positive"),
        ({"x": 1.0}, "must name a metric, got 'x'. Hint: known: a, b"),
    ],
)
def test_bad_weights_are_refused(weights: dict[str, float], message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        Objective.from_dict(["a", "b"], weights)


def test_bits_per_byte_needs_its_factors() -> None:
    with pytest.raises(ConstraintError, match="tokens per byte"):
        Objective.from_dict(["a"], None, "bits_per_byte")
    with pytest.raises(ConstraintError):
        Objective.from_dict(["a", "b"], None, "bits_per_byte", [0.4])
    with pytest.raises(ConstraintError):
        Objective.from_dict(["a", "b"], None, "bits_per_byte", [0.4, float("nan")])


GROUPS = {"knowledge": {"trivia": ["t1", "t2"], "science": ["s1"]}, "code": ["c1", "c2"]}
NAMES = ["c1", "c2", "s1", "t1", "t2"]


def test_groups_are_means_of_tasks_and_of_families() -> None:
    goal = Objective.from_groups(NAMES, GROUPS)
    np.testing.assert_allclose(goal.weights, [0.25, 0.25, 0.25, 0.125, 0.125])
    assert goal.quantity == "metric"
    values = np.array([1.0, 3.0, 10.0, 4.0, 8.0])
    assert float(goal.value(values)) == pytest.approx((np.mean([np.mean([4, 8]), 10]) + np.mean([1, 3])) / 2)


def test_groups_have_weights_by_name_or_path() -> None:
    goal = Objective.from_groups(NAMES, GROUPS, {"knowledge": 3.0, "knowledge/trivia": 0.0})
    np.testing.assert_allclose(goal.weights, [0.125, 0.125, 0.75, 0, 0])


@pytest.mark.parametrize(
    ("groups", "weights", "message"),
    [
        ({"a": ["t1"], "b": ["t1", "t2", "s1", "c1", "c2"]}, None, "metric 't1' must be in one group only"),
        ({"a": ["t1", "t2"]}, None, r"metric 'c1' must be in a group \(3 of 5 are in none\)"),
        ({"a": [*NAMES, "zz"]}, None, "must name a metric, got 'zz'"),
        ({"a": NAMES, "b": []}, None, "group 'b' must have members"),
        ({"a": {}, "b": NAMES}, None, "group 'a/' must have members"),
        (GROUPS, {"maths": 1.0}, "must name a group, got 'maths'"),
        (GROUPS, {"science": -1.0}, "weight of group 'knowledge/science' must be a number >= 0"),
        (GROUPS, {"knowledge": 0.0, "code": 0.0}, "at least one objective weight must be positive"),
    ],
)
def test_faulty_groups_are_named(groups: dict[str, Any], weights: dict[str, float] | None, message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        Objective.from_groups(NAMES, groups, weights)


def test_curvature_is_the_second_derivative_of_the_transform() -> None:
    losses = np.array([1.0, 2.0])
    for quantity in ("metric", "perplexity"):
        goal = Objective.from_dict("ab", None, quantity)  # type: ignore[arg-type]
        numeric = (goal.transform_slope(losses + 1e-5) - goal.transform_slope(losses - 1e-5)) / 2e-5
        np.testing.assert_allclose(goal.curvature(losses), numeric, rtol=1e-6, atol=1e-9)
