"""Costs are positive, lower is better, and follow the unit; replicates and standard errors tell the noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.observations import Observations
from evermix.observations.runs import groups_of_equal_rows

NAN = np.nan
VALUES = arrays(np.float64, (5, 3), elements=st.one_of(st.floats(-1e6, 1e6), st.just(NAN)))


def make(values: Any, weights: Any = None, **fields: Any) -> Observations:
    table = np.asarray(values, dtype=np.float64)
    if weights is None:
        first = np.linspace(0, 1, len(table))
        weights = np.stack([first, 1 - first], axis=1)
    names = tuple("abc"[: table.shape[1]])
    return Observations(DomainSet(["web", "code"]), weights, names, table, **fields)


@given(VALUES, st.sets(st.sampled_from("abc")))
def test_costs_are_positive_and_ordered(values: Any, maximised: set[str]) -> None:
    observed = make(values, maximised=frozenset(maximised))
    costs = observed.costs
    assert (costs[~np.isnan(costs)] > 0).all()
    np.testing.assert_array_equal(np.isnan(costs), np.isnan(values))
    scale = np.nan_to_num(np.abs(values)).max(initial=1e-300)
    np.testing.assert_allclose(observed.orientation.value(costs), values, atol=1e-12 * scale)
    for i, name in enumerate("abc"):
        slope = np.subtract.outer(values[:, i], values[:, i]) * np.subtract.outer(costs[:, i], costs[:, i])
        assert (np.nan_to_num(slope) * (-1 if name in maximised else 1) >= 0).all()


@given(
    VALUES.map(lambda table: np.where(np.abs(table) < 1e-290, 0, table)),
    st.sets(st.sampled_from("abc")),
    st.integers(-20, 20),
)
def test_another_unit_scales_the_costs(values: Any, maximised: set[str], power: int) -> None:
    observed = make(values, maximised=frozenset(maximised))
    scaled = make(values * 2.0**power, maximised=frozenset(maximised))
    varies = np.nan_to_num(np.abs(values)).max(axis=0) > 0
    np.testing.assert_allclose(scaled.costs[:, varies], observed.costs[:, varies] * 2.0**power, rtol=1e-9)


def test_formulas() -> None:
    observed = make([[2.0, -1.0, 0.2], [3.0, 3.0, 0.6]], maximised=frozenset("c"))
    np.testing.assert_allclose(observed.costs, [[2, 4, 0.8], [3, 8, 0.4]])
    np.testing.assert_allclose(observed.orientation.sign, [1, 1, -1])
    np.testing.assert_allclose(observed.orientation.shift, [0, 5, 1])


def test_replicates_and_their_noise() -> None:
    weights = [[0.5, 0.5], [0.1, 0.9], [0.5, 0.5 + 1e-10], [0.1, 0.9], [0.5, 0.5], [1, 0]]
    observed = make([[1.0, 1], [2, NAN], [3, 1], [2, 5], [2, NAN], [9, 9]], weights)
    assert [group.tolist() for group in observed.replicates] == [[0, 2, 4], [1, 3]]
    np.testing.assert_allclose(observed.noise_from_replicates, [np.sqrt(2 / 3), 0])
    other_sizes = make([[1.0], [2], [3], [4], [5], [6]], weights, n_parameters=[1, 1, 2, 1, 1, 1])
    assert [group.tolist() for group in other_sizes.replicates] == [[0, 4], [1, 3]]
    assert np.isnan(make([[1.0], [2.0]]).noise_from_replicates).all()


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 0.1, 0.25, 0.1 + 1e-10])] * 3), min_size=1, max_size=12))
def test_groups_are_those_of_a_plain_search(rows: list[tuple[float, float, float]]) -> None:
    table = np.array(rows)
    keys = [tuple(np.round(row, 6)) for row in rows]
    expected = {tuple(k for k, key in enumerate(keys) if key == one) for one in keys}
    assert {tuple(g.tolist()) for g in groups_of_equal_rows(table)} == {g for g in expected if len(g) > 1}


def test_sigma() -> None:
    values = [[1.0, 1.0, 1.0], [2.0, NAN, 3.0], [3.0, 2.0, 2.0]]
    errors = [[0.1, 0.0, NAN], [0.2, NAN, NAN], [0.1, 0.3, NAN]]
    sigma = make(values, standard_errors=errors).sigma
    spread = np.std([1, 3, 2])
    np.testing.assert_allclose(sigma, [[0.1, 0.3, spread], [0.2, NAN, spread], [0.1, 0.3, spread]])
    assert make(values).sigma is None
    with pytest.raises(ObservationError, match=r"run '1', 'a' must be known where those of other runs are, got nan"):
        make(values, standard_errors=[[0.1] * 3, [NAN] * 3, [0.1] * 3])


def test_subsets() -> None:
    observed = make(
        [[1.0, 4, 7], [2, 5, 8], [3, 6, 9]], run_ids=("x", "y", "z"), n_tokens=[1, 2, 3], maximised=frozenset("c")
    )
    part = observed.subset(runs=["z", "x"], metrics=["c", "a"])
    np.testing.assert_array_equal(part.values, [[9, 3], [7, 1]])
    assert (part.run_ids, part.maximised) == (("z", "x"), {"c"})
    assert part.n_tokens is not None
    assert part.n_tokens.tolist() == [3, 1]
    assert observed.subset(runs=[2, 0], metrics=["c", "a"]) == part
    assert observed.subset(runs=np.array([True, False, True])).run_ids == ("x", "z")
    assert observed.subset(metrics=["a"]).maximised == frozenset()
    for wrong in ({"runs": ["w"]}, {"runs": [7]}, {"runs": []}, {"runs": [0, 0]}, {"metrics": ["w"]}):
        with pytest.raises(ObservationError):
            observed.subset(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ObservationError, match="maximised metric"):
        make([[1.0], [2.0]], maximised=frozenset("z"))
    with pytest.raises(ObservationError, match="n_tokens of run 1 must be a number > 0"):
        make([[1.0], [2.0]], n_tokens=[1, 0])
