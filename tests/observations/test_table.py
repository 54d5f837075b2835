"""Observations refuse what would give a confident wrong answer, and survive a round trip."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError
from evermix.observations import Observations

DOMAINS = DomainSet([Domain("web", 100), Domain("code", None, "abc"), Domain("books")])


def make(**changes: Any) -> Observations:
    fields: dict[str, Any] = {
        "domains": DOMAINS,
        "weights": [[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]],
        "metrics": ("a", "b"),
        "values": [[3.0, 2.0], [2.5, 2.2]],
        "standard_errors": [[0.1, 0.1], [0.1, 0.0]],
        "run_ids": ("first", "second"),
    }
    return Observations(**(fields | changes))


def test_arrays_are_frozen_copies() -> None:
    weights = np.array([[0.5, 0.5, 0.0], [0.2, 0.8, 0.0]])
    observed = make(weights=weights)
    weights[0, 0] = 9
    assert observed.weights[0, 0] == 0.5
    for array in (observed.weights, observed.values, observed.standard_errors):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1


@given(st.permutations(range(6)), st.permutations(range(3)), st.permutations(range(2)))
def test_the_canonical_order_of_runs_is_one_whatever_order_rows_and_columns_come_in(
    rows: list[int], domains: list[int], metrics: list[int]
) -> None:
    """Two runs that are equal but for their ids, two replicates, one of which lacks a value, two other mixtures."""
    weights = np.array([[0.5, 0.5, 0], [0.5, 0.5, 0], [0.2, 0.3, 0.5], [0.2, 0.3, 0.5], [1, 0, 0], [0, 0, 1]])
    values = np.array([[3.0, 2.0], [3.0, 2.0], [1.0, np.nan], [1.0, 5.0], [2.0, 2.0], [0.0, 1.0]])
    names, ids = ("a", "b"), np.array(["y", "x", "nan", "five", "web", "books"])
    shuffled = Observations(
        DomainSet([DOMAINS.domains[j] for j in domains]),
        weights[rows][:, domains],
        tuple(names[i] for i in metrics),
        values[rows][:, metrics],
        run_ids=tuple(ids[rows].tolist()),
    )
    ordered = shuffled.in_canonical_order()
    assert ordered.run_ids == ("web", "x", "y", "five", "nan", "books")
    assert ordered == shuffled.subset(runs=list(ordered.run_ids))
    assert ordered.in_canonical_order() is ordered


def test_sampled_domains_and_default_run_ids() -> None:
    assert make().sampled_domains == ("web", "code")
    assert make(run_ids=None).run_ids == ("0", "1")
    assert len(make()) == make().n_runs == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": [[0.5, 0.5, 0.0], [0.7, 0.8, 0.0]]}, r"weights of run 'second' must sum to 1, got 1\.5"),
        (
            {"weights": [[50, 50, 0], [0.2, 0.8, 0]]},
            r"run 'first' must sum to 1, got 100\.0\. Hint: divide percentages",
        ),
        ({"weights": [[0.5, 0.6, -0.1], [0.2, 0.8, 0]]}, r"run 'first', 'books' must be a number >= 0, got -0\.1"),
        ({"weights": [[0.5, np.nan, 0.5], [0.2, 0.8, 0]]}, r"weight of run 'first', 'code' .* got nan"),
        ({"weights": [[0.5, "x", 0.5], [0.2, 0.8, 0]]}, "rectangular table of numbers"),
        ({"weights": [[1.0], [1.0]]}, r"weights must have the shape \(2, 3\), got \(2, 1\)"),
        ({"weights": np.empty((0, 3)), "run_ids": ()}, "at least one run"),
        (
            {"values": [[3.0, 2.0], [np.inf, 2.2]]},
            r"value of run 'second', 'a' must be a number below 1e100 .* got inf",
        ),
        ({"values": [[3.0, 2.0]]}, r"values must have the shape \(2, 2\)"),
        ({"standard_errors": [[0.1, -0.1], [0, 0]]}, r"standard error of run 'first', 'b' must be >= 0, got -0\.1"),
        ({"run_ids": ("x", "x")}, "every run id must be unique, got 'x'"),
        ({"run_ids": ("x",)}, "2 runs must have as many run ids, got 1"),
        ({"metrics": ("a", "a")}, "every metric must be unique, got 'a'"),
    ],
)
def test_bad_tables_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ObservationError, match=message) as caught:
        make(**changes)
    assert "\n" not in str(caught.value)


def test_rows_rounded_to_three_decimals_are_renormalised() -> None:
    observed = make(weights=[[0.333, 0.333, 0.333], [0.2, 0.8, 0]])
    np.testing.assert_allclose(observed.weights.sum(axis=1), 1, rtol=1e-15)


@given(st.lists(st.floats(0.01, 20), min_size=2, max_size=2), st.floats(0, 1), st.booleans())
def test_json_round_trip_is_exact(values: list[float], share: float, errors: bool) -> None:
    observed = make(
        values=[values, values[::-1]],
        weights=[[share, 1 - share, 0], [0, 0, 1]],
        standard_errors=[values, values] if errors else None,
    )
    back = Observations.from_json(observed.to_json())
    assert back == observed
    assert back.domains == DOMAINS
    np.testing.assert_array_equal(back.values, observed.values)
    np.testing.assert_allclose(back.weights, observed.weights, rtol=1e-15)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"domains": [["a"]]}'])
def test_other_json_is_refused(text: str) -> None:
    with pytest.raises(ObservationError, match="JSON record"):
        Observations.from_json(text)
