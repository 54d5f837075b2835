"""A training history as one schedule, and what a decision shares out: against sums by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.domain_updates import CollapsedSpace
from evermix.domains import Domain, DomainSet
from evermix.lifecycle.components import MixtureComponents
from evermix.lifecycle.history import DataHistory
from evermix.mixture import Mixture

ROWS = DomainSet(Domain(name, n) for name, n in (("a", 100), ("b", 50), ("c", 80), ("d", 10)))
shares = st.lists(st.floats(0.01, 1), min_size=4, max_size=4)


def mixture(weights: list[float]) -> Mixture:
    return Mixture.normalised(ROWS, weights)


@given(st.lists(st.tuples(shares, st.integers(1, 500)), min_size=1, max_size=5))
def test_old_is_what_was_spent_through_all_phases(parts: list[tuple[list[float], int]]) -> None:
    history, spent = DataHistory(ROWS), np.zeros(4)
    for weights, n_rows in parts:
        history = history.then(mixture(weights), n_rows)
        spent += n_rows * mixture(weights).weights
    assert history.n_rows == sum(n for _, n in parts)
    np.testing.assert_allclose(history.spent, spent, atol=1e-6)
    some = history.proportions(("c", "a"))
    assert some is not None
    np.testing.assert_allclose(some.weights, spent[[2, 0]] / spent[[2, 0]].sum())


def test_nothing_was_learnt_before_the_first_row() -> None:
    assert DataHistory(ROWS).proportions(("a", "b")) is None
    assert DataHistory(ROWS).then(mixture([1, 1, 0, 0]), 10).proportions(("c",)) is None


def test_the_same_mixture_goes_on_as_one_segment() -> None:
    history = DataHistory(ROWS).then(mixture([1, 1, 0, 0]), 10).then(mixture([1, 1, 0, 0]), 5)
    assert history.schedule is not None
    assert len(history.schedule.segments) == 1
    assert history.n_rows == 15


def components(old: dict[str, float], recomputed: tuple[str, ...] = ()) -> MixtureComponents:
    leaves = DomainSet(ROWS.domains)
    space = CollapsedSpace.fix(leaves, {n: s for n, s in old.items() if n not in recomputed}, "old")
    return MixtureComponents(leaves, Mixture.from_dict(leaves, old), space, recomputed)


def test_one_new_domain_has_a_probe_per_purity() -> None:
    found = components({"a": 0.5, "b": 0.3, "c": 0.2})
    low, high = found.parts((0.1, 0.9), own_probes=False)
    assert low.trained_on.as_dict == pytest.approx({"a": 0.45, "b": 0.27, "c": 0.18, "d": 0.1})
    assert high.trained_on.as_dict == pytest.approx({"a": 0.05, "b": 0.03, "c": 0.02, "d": 0.9})
    assert low.shares.as_dict == pytest.approx({"old": 0.9, "d": 0.1})
    assert found.own == (0, 0, 0, 1)


def test_several_components_have_a_probe_each_beside_old() -> None:
    found = components({"a": 0.625, "b": 0.375}, recomputed=("b",))
    parts = found.parts((0.1, 0.9), own_probes=True)
    assert [part.name for part in parts] == ["old", "b", "c", "d"]
    assert [part.name for part in found.parts((0.1, 0.9), own_probes=False)] == ["old", "c", "d"]
    assert parts[0].trained_on.as_dict == pytest.approx({"a": 0.625, "b": 0.375, "c": 0, "d": 0})
    assert parts[1].trained_on.as_dict == pytest.approx({"a": 0.0625, "b": 0.9375, "c": 0, "d": 0})
    assert parts[3].trained_on.as_dict == pytest.approx({"a": 0.0625, "b": 0.0375, "c": 0, "d": 0.9})
    assert found.own == (0, 1, 2, 3)


def test_on_the_way_parts_are_old_and_each_domain_at_each_purity() -> None:
    leaves = DomainSet(["a", "b"])
    found = MixtureComponents(leaves, Mixture(leaves, [0.75, 0.25]), None, ("a", "b"))
    parts = found.parts((0.9, 0.5), own_probes=True, every_purity=True)
    assert [part.name for part in parts] == ["old", "a@0.9", "b@0.9", "a@0.5", "b@0.5"]
    trained_on = np.array([part.trained_on.weights for part in parts])
    assert trained_on == pytest.approx(
        np.array([[0.75, 0.25], [0.975, 0.025], [0.075, 0.925], [0.875, 0.125], [0.375, 0.625]])
    )
    once = found.parts((0.9,), own_probes=True, every_purity=True)
    assert [part.name for part in once] == ["old", "a", "b"]


@given(st.integers(0, 1000), st.sampled_from([(0.05, 0.15, 0.4, 0.9, 1.6, 2.9), (0.5, 1.5)]))
def test_designed_probes_are_as_many_whatever_the_components(seed: int, levels: tuple[float, ...]) -> None:
    """Over the leaves the bundle keeps its proportions; every component takes every level once."""
    found = components({"a": 0.5, "b": 0.3, "c": 0.2})
    centre = Mixture(found.components, [0.6, 0.4])
    parts = found.designed(centre, len(levels), levels, seed)
    assert len(parts) == len(levels)
    for part in parts:
        assert part.trained_on["a"] * 0.3 == pytest.approx(part.trained_on["b"] * 0.5)
        assert part.shares["d"] == pytest.approx(part.trained_on["d"])
    ratios = [part.shares["d"] / part.shares["old"] * 0.6 / 0.4 for part in parts]
    assert np.prod(ratios) == pytest.approx(1), "the levels of both components are the same in another order"
    assert len({part.name for part in parts}) == len(parts)


def test_a_component_of_no_share_is_seen_by_designed_probes() -> None:
    found = components({"a": 0.5, "b": 0.3, "c": 0.2})
    parts = found.designed(Mixture(found.components, [1.0, 0.0]), 2, (0.5, 1.5), 0)
    assert all(0 < part.shares["d"] < 0.2 for part in parts)


def test_the_published_prior_is_half_of_the_bundle_and_half_new() -> None:
    """Half new, half old in its proportions: over the components the halves themselves."""
    found = components({"a": 0.5, "b": 0.3, "c": 0.2})
    assert found.prior(found.mixture_of(0.5, ("d",))).as_dict == pytest.approx({"old": 0.5, "d": 0.5})


@given(st.floats(0, 1))
def test_a_share_of_what_is_new_leaves_the_old_proportions(share: float) -> None:
    made = components({"a": 0.5, "b": 0.3, "c": 0.2}).mixture_of(share, ("d",))
    assert made["d"] == pytest.approx(share)
    assert made["a"] * 0.3 == pytest.approx(made["b"] * 0.5)
    found = components({"a": 0.5, "b": 0.3, "c": 0.2})
    expanded = found.expand(Mixture(found.components, [1 - share, share]))
    np.testing.assert_allclose(expanded.weights, made.weights, atol=1e-12)
