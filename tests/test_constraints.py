"""Bounds hold every rule, contradictions say by how much, and clip is the KL projection."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.optimize import minimize

from evermix.constraints import Bounds, Constraints
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError

DOMAINS = DomainSet([Domain("web", 1000), Domain("code", 100), Domain("books", 10)])


def test_repetition_cap_and_what_was_spent() -> None:
    box = Constraints(max_epochs=4).bounds(DOMAINS, 1000)
    np.testing.assert_allclose(box.upper, [1, 0.4, 0.04])
    assert box.reasons == ("", "epochs", "epochs")
    spent = Constraints(max_epochs=4).bounds(DOMAINS, 1000, np.array([0.0, 300.0, 50.0]))
    np.testing.assert_allclose(spent.upper, [1, 0.1, 0.0])


def test_rules_combine_and_the_tightest_names_itself() -> None:
    rules = Constraints(max_epochs=4, floor=0.05, floors={"web": 0.2}, caps={"code": 0.3}, fixed={"books": 0.04})
    box = rules.bounds(DOMAINS, 1000)
    np.testing.assert_allclose(box.lower, [0.2, 0.05, 0.04])
    np.testing.assert_allclose(box.upper, [1, 0.3, 0.04])
    assert box.reasons == ("", "cap", "fixed")


def test_the_general_floor_yields_to_the_repetition_cap() -> None:
    box = Constraints(max_epochs=1, floor=0.05).bounds(DOMAINS, 1000)
    np.testing.assert_allclose(box.lower, [0.05, 0.05, 0.01])


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"max_epochs": 0.5},
            r"allows 555 \(445 too few\)\. Hint: ask for at most 555 tokens, or set max_epochs to 0\.90",
        ),
        ({"floor": 0.4}, r"floors and fixed shares must sum to at most 1, got 1\.2.* by 0\.2000"),
        ({"caps": {"web": 0.1, "code": 0.1, "books": 0.1}}, r"leave room for a sum of 1, got 0\.3"),
        ({"max_epochs": 4, "floors": {"books": 0.1}}, r"floor of 'books' must not exceed its epochs bound of 0\.0400"),
        ({"max_epochs": 4, "fixed": {"books": 0.1}}, r"fixed share of 'books' must not exceed its epochs bound"),
        ({"fixed": {"web": 0.3}, "caps": {"code": 0.2, "books": 0.2}}, r"leave room for a sum of 1, got 0\.7"),
    ],
)
def test_contradictions_say_by_how_much(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        Constraints(**rules).bounds(DOMAINS, 1000)


@pytest.mark.parametrize(
    "rules",
    [
        {"floor": -0.1},
        {"floor": float("nan")},
        {"caps": {"web": 1.5}},
        {"max_epochs": 0},
        {"fixed": {"a": 0.6, "b": 0.6}},
    ],
)
def test_shares_out_of_range_are_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ConstraintError):
        Constraints(**rules)


shares = st.lists(st.floats(0, 1), min_size=4, max_size=4).map(np.array)


@given(shares, shares, st.lists(st.floats(1e-6, 1), min_size=4, max_size=4).map(np.array))
def test_clip_is_feasible_idempotent_and_the_kl_projection(a: np.ndarray, b: np.ndarray, weights: np.ndarray) -> None:
    lower, upper = np.minimum(a, b) / 4, np.maximum(a, b)
    assume(upper.sum() > 1.001)
    assume(lower.sum() < 0.999)
    box = Bounds(lower, upper, ("",) * 4)
    q = box.clip(weights)
    assert q.sum() == pytest.approx(1, abs=1e-12)
    assert np.all((q >= lower - 1e-9) & (q <= upper + 1e-9))
    np.testing.assert_allclose(box.clip(np.maximum(q, 1e-12)), q, atol=1e-9)
    # optimality: q = s * weights wherever no bound holds, below it at upper bounds, above it at lower ones
    ratio = q / weights
    inside = (q > lower + 1e-7) & (q < upper - 1e-7)
    if inside.any():
        s = ratio[inside].mean()
        np.testing.assert_allclose(ratio[inside], s, rtol=1e-6)
        assert np.all(ratio[~inside & (q >= upper - 1e-7) & (q > lower + 1e-7)] <= s * (1 + 1e-6))
        assert np.all(ratio[~inside & (q <= lower + 1e-7) & (q < upper - 1e-7)] >= s * (1 - 1e-6))


def test_clip_agrees_with_slsqp() -> None:
    weights = np.array([0.7, 0.2, 0.1])
    box = Bounds(np.array([0.0, 0.0, 0.3]), np.array([0.4, 1.0, 1.0]), ("", "", ""))
    other = minimize(
        lambda q: float((q * np.log(np.maximum(q, 1e-12) / weights)).sum()),
        [0.3, 0.3, 0.4],
        bounds=list(zip(box.lower, box.upper, strict=True)),
        constraints={"type": "eq", "fun": lambda q: q.sum() - 1},
        method="SLSQP",
    )
    np.testing.assert_allclose(box.clip(weights), other.x, atol=1e-5)


def test_clip_of_a_box_that_is_one_point_or_of_zeros() -> None:
    point = Bounds(np.array([0.2, 0.8]), np.array([0.2, 0.8]), ("fixed", "fixed"))
    np.testing.assert_allclose(point.clip(np.array([0.9, 0.1])), [0.2, 0.8])
    box = Bounds(np.array([0.0, 0.0, 0.1]), np.array([0.3, 1.0, 1.0]), ("", "", ""))
    np.testing.assert_allclose(box.clip(np.array([1.0, 0.0, 0.0])), [0.3, 0.35, 0.35])
