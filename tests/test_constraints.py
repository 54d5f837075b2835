"""Bounds hold every rule, contradictions say by how much, and clip is the KL projection."""

from __future__ import annotations

import time
from typing import Any

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from evermix.constraints import Bounds, Constraints, GroupBound, GroupTotal, NoRegression
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError
from evermix.mixture import Mixture

DOMAINS = DomainSet([Domain("web", 1000), Domain("code", 100), Domain("books", 10)])


def test_repetition_cap_and_what_was_spent() -> None:
    box = Constraints(max_epochs=4).bounds(DOMAINS, 1000)
    np.testing.assert_allclose(box.upper, [1, 0.4, 0.04])
    assert box.reasons == ("", "epochs", "epochs")
    spent = Constraints(max_epochs=4).bounds(DOMAINS, 1000, np.array([0.0, 300.0, 50.0]))
    np.testing.assert_allclose(spent.upper, [1, 0.1, 0.0])


def test_rows_are_capped_as_tokens_are_and_named_as_rows() -> None:
    rows = DomainSet(domain.resized(domain.n_tokens, "rows") for domain in DOMAINS)
    box = Constraints(max_epochs=4).bounds(rows, 1000, np.array([0.0, 300.0, 50.0]))
    np.testing.assert_allclose(box.upper, [1, 0.1, 0.0])
    with pytest.raises(ConstraintError, match=r"budget of 1,000 rows .* Hint: ask for at most 555 rows, or set"):
        Constraints(max_epochs=0.5).bounds(rows, 1000)
    with pytest.raises(ConstraintError, match=r"Hint: set max_epochs to 10\.00 or more or ask for at most 400 rows"):
        Constraints(max_epochs=4, floors={"books": 0.1}).bounds(rows, 1000)


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


NESTED = DomainSet([Domain("code:python", 1000), Domain("code:c", 500), Domain("web", 4000), Domain("books", 100)])


def test_a_prefix_stands_for_every_nested_domain() -> None:
    box = Constraints(groups={"code": GroupTotal("code:", 0.2, 0.4)}).bounds(NESTED, 1000)
    assert box.groups[0].members.tolist() == [True, True, False, False]
    assert box.hold(np.array([0.1, 0.1, 0.7, 0.1]))
    assert not box.hold(np.array([0.1, 0.0, 0.8, 0.1]))
    assert not box.hold(np.array([0.4, 0.1, 0.4, 0.1]))


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            {"groups": {"g": GroupTotal(("maths",))}},
            r"members of group 'g' must be domains.*got 'maths'",
        ),
        (
            {"max_epochs": 1, "groups": {"code": GroupTotal(("code:",), least=0.8)}},
            r"group 'code' must total at least 0\.8, but the caps of its members \(code:python 0\.5000, code:c "
            r"0\.2500\) allow 0\.7500 \(0\.0500 too few\)\. Hint: lower the total, or raise the caps: set max_epochs "
            r"to 1\.07 or more or ask for at most 1,875 tokens",
        ),
        (
            {"floors": {"web": 0.5}, "groups": {"rest": GroupTotal(("web", "books"), greatest=0.4)}},
            r"total at most 0\.4, but the floors of its members .* sum to 0\.5000 \(0\.1000 too many\)",
        ),
        (
            {
                "groups": {
                    "a": GroupTotal(("code:", "web"), greatest=0.3),
                    "b": GroupTotal(("web", "books"), greatest=0.5),
                },
            },
            r"contradict each other by 0\.2000 in total: the smallest change that would do: .*group '[ab]' is 0\.2000",
        ),
    ],
)
def test_groups_that_contradict_say_which_and_by_how_much(rules: dict[str, Any], message: str) -> None:
    with pytest.raises(ConstraintError, match=message):
        Constraints(**rules).bounds(NESTED, 2000)


def test_the_named_ways_out_are_exact() -> None:
    """What the hint says works; a little less does not."""
    rules = {"max_epochs": 1.0, "caps": {"web": 0.3}, "groups": {"code": GroupTotal(("code:",), least=0.8)}}
    with pytest.raises(ConstraintError, match=r"set max_epochs to 1\.07"):
        Constraints(**rules).bounds(NESTED, 2000)  # type: ignore[arg-type]
    Constraints(**{**rules, "max_epochs": 1.07}).bounds(NESTED, 2000)  # type: ignore[arg-type]
    with pytest.raises(ConstraintError):
        Constraints(**{**rules, "max_epochs": 1.06}).bounds(NESTED, 2000)  # type: ignore[arg-type]
    Constraints(**rules).bounds(NESTED, 1875)  # type: ignore[arg-type]
    with pytest.raises(ConstraintError):
        Constraints(**rules).bounds(NESTED, 1880)  # type: ignore[arg-type]


def test_caps_that_leave_no_room_say_what_epochs_or_tokens_would() -> None:
    with pytest.raises(ConstraintError, match=r"raise them by 0\.2000 in total, or set max_epochs to 0\.75 or more"):
        Constraints(max_epochs=0.5, caps={"web": 0.4}).bounds(NESTED, 2000)
    with pytest.raises(ConstraintError, match=r"floor of 'books'.*set max_epochs to 4\.00 or more"):
        Constraints(max_epochs=1, floors={"books": 0.4}).bounds(NESTED, 1000)


@pytest.mark.parametrize("total", [{"least": 0.6, "greatest": 0.5}, {"least": -0.1}, {"greatest": float("nan")}])
def test_nonsense_totals_are_refused(total: dict[str, float]) -> None:
    with pytest.raises(ConstraintError, match="total of a group"):
        GroupTotal(("web",), **total)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 100_000), nested=st.booleans())
def test_clip_onto_groups_is_the_kl_projection(seed: int, nested: bool) -> None:
    rng = np.random.default_rng(seed)
    m = int(rng.integers(4, 12))
    inside, groups = rng.dirichlet(np.ones(m)), []
    halves = [np.arange(m) < m // 2, np.arange(m) >= m // 2, np.arange(m) < m // 4]
    for g in range(3):
        members = halves[g] if nested else rng.random(m) < 0.5
        if members.any() and not members.all():
            total = float(inside[members].sum())
            groups.append(GroupBound(f"g{g}", members, max(0.0, total - 0.02), min(1.0, total + 0.02)))
    box = Bounds(inside * 0.3, np.minimum(1, 2 * inside + 0.05), ("",) * m, tuple(groups))
    weights = np.exp(rng.normal(0, 2, m))
    q = box.clip(weights)
    assert q.sum() == pytest.approx(1, abs=1e-12)
    assert box.hold(q, 1e-9)
    np.testing.assert_allclose(box.clip(q), q, atol=1e-8)
    variable = cp.Variable(m, nonneg=True)
    rows = [variable >= box.lower, variable <= box.upper, cp.sum(variable) == 1]
    rows += [r for g in groups for r in (variable[g.members].sum() >= g.lower, variable[g.members].sum() <= g.upper)]
    cp.Problem(cp.Minimize(cp.sum(cp.kl_div(variable, weights / weights.sum()))), rows).solve(solver=cp.CLARABEL)
    other = np.maximum(variable.value, 1e-300)

    def divergence(x: np.ndarray) -> float:
        return float(np.sum(x * np.log(x / weights)))

    assert divergence(np.maximum(q, 1e-300)) <= divergence(other / other.sum()) + 1e-5


def test_clip_of_ten_thousand_domains_in_a_hundred_groups_is_quick() -> None:
    rng = np.random.default_rng(0)
    label = rng.integers(0, 100, 10_000)
    groups = tuple(GroupBound(str(g), label == g, 0.0, 0.012) for g in range(100))
    box = Bounds(np.zeros(10_000), np.full(10_000, 3e-4), ("cap",) * 10_000, groups)
    weights = rng.dirichlet(np.full(10_000, 0.1))
    box.clip(weights)
    started = time.process_time()
    for _ in range(5):
        q = box.clip(weights)
    assert time.process_time() - started < 1
    assert box.hold(q, 1e-9)


def test_a_feasible_start_is_interior() -> None:
    rng = np.random.default_rng(0)
    members = np.arange(6) < 3
    box = Bounds(np.zeros(6), np.full(6, 0.3), ("cap",) * 6, (GroupBound("g", members, 0.6, 0.7),))
    start = box.feasible_start(rng.dirichlet(np.ones(6)))
    assert box.hold(start)
    assert start.min() > 1e-4
    assert start.max() < 0.2999
    assert 0.601 < start[members].sum() < 0.699


def test_a_no_regression_guard_gives_ceilings() -> None:
    costs, reference = np.array([1.0, 2.0, 4.0]), Mixture.uniform(DOMAINS)
    np.testing.assert_allclose(NoRegression(reference, 0.01).ceilings(costs, "abc"), [1.01, 2.02, 4.04])
    some = NoRegression(reference, 0.1, ("b",), absolute=True)
    np.testing.assert_allclose(some.ceilings(costs, "abc"), [np.inf, 2.1, np.inf])
    with pytest.raises(ConstraintError, match="guard must name a metric, got 'z'"):
        NoRegression(reference, 0.1, ("z",)).ceilings(costs, "abc")
    with pytest.raises(ConstraintError, match="tolerance"):
        NoRegression(reference, -0.1)
