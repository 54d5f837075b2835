"""Numbers as people read them, and the objective in the metrics' own terms."""

from __future__ import annotations

import numpy as np
import pytest

from evermix.deciding.metric_changes import ObjectiveScale, families
from evermix.domains import DomainSet
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.reports.units import apart, decimals_apart, decimals_for, extremes, figure, fixed, listed, signed, span


@pytest.mark.parametrize(
    ("values", "decimals"),
    [([1.52341, 1.52349], 6), ([1.5, 1.6], 2), ([100.0, 300.0], 0), ([2.0, 2.0], 4), ([1.0, np.nan, 1.01], 3)],
)
def test_decimals_tell_values_apart(values: list[float], decimals: int) -> None:
    assert decimals_for(values) == decimals


@pytest.mark.parametrize(
    ("ours", "theirs", "noise", "words"),
    [
        (1.3565, 1.3685, None, "1.357 instead of 1.369"),
        (1.3565, 1.3685, 0.5, "1.36 instead of 1.37"),  # one digit of the difference, though it is noise
        (1.3565, 1.36549, None, "1.3565 instead of 1.3655"),
        (17.6, 21.3, 0.1, "17.6 instead of 21.3"),
        (2.0, 2.0, None, "2.0000 instead of 2.0000"),
    ],
)
def test_two_values_have_the_digits_of_their_difference(
    ours: float, theirs: float, noise: float | None, words: str
) -> None:
    assert apart(ours, theirs, noise) == words


@pytest.mark.parametrize("difference", [3e-9, 0.012, 0.5, 7.0, 4e5])
@pytest.mark.parametrize("noise", [None, 1e-4, 0.3, 100.0])
def test_a_difference_is_never_rounded_away(difference: float, noise: float | None) -> None:
    places = decimals_apart(difference, noise)
    assert round(1.0, places) != round(1.0 + 1.5 * difference, places) or difference < 1e-8


def test_numbers() -> None:
    assert figure(0.0123456) == "0.0123"
    assert signed(0.5) == "+0.5"
    assert fixed(-0.0001, 2) == "0.00"
    assert fixed(1.23e20, 3) == "1.23e+20"
    assert figure(None) == figure(float("nan")) == span("-", "-") == "-"
    assert span("1", "2") == "1 to 2"
    assert listed(list("abcdefgh"), 3) == "a, b, c and 5 more"


def test_extremes_hold_all_rows_or_the_ends() -> None:
    assert extremes([0.1, 0.9, np.nan, 0.5], 12) == ([1, 3, 0, 2], [])
    best, worst = extremes(np.arange(30.0), 6)
    assert (best, worst) == ([29, 28, 27], [2, 1, 0])
    assert extremes(np.arange(8.0), 6)[1] == []  # no row "2 more" in place of two rows


def test_families_name_every_group() -> None:
    found = families({"maths": {"algebra": ["a", "b"], "geometry": ["c"]}, "code": ["d"]})
    assert found == {"maths": ("a", "b", "c"), "maths/algebra": ("a", "b"), "maths/geometry": ("c",), "code": ("d",)}


def observations(maximised: frozenset[str]) -> Observations:
    values = np.array([[0.2, 0.4], [0.3, 0.7], [0.5, 0.5]])
    return Observations(DomainSet(["a", "b"]), [[1, 0], [0, 1], [0.5, 0.5]], ("x", "y"), values, maximised=maximised)


@pytest.mark.parametrize("maximised", [frozenset(), frozenset({"x", "y"})])
def test_the_objective_in_the_metrics_own_terms(maximised: frozenset[str]) -> None:
    runs = observations(maximised)
    objective = Objective.from_dict(("x", "y"), {"x": 3, "y": 1}, "metric")
    scale = ObjectiveScale.of(runs, objective)
    told = [scale.value(float(cost)) for cost in objective.value(runs.costs)]
    np.testing.assert_allclose(told, 0.75 * runs.values[:, 0] + 0.25 * runs.values[:, 1])
    assert scale.direction == ("higher is better" if maximised else "lower is better")
    assert scale.percent(0.1, float(objective.value(runs.costs[0]))) == pytest.approx(100 * 0.1 / told[0])
    low, high = scale.ends(1.0, 2.0)
    assert low < high


def test_mixed_directions_have_a_cost_only() -> None:
    runs = observations(frozenset({"y"}))
    objective = Objective.from_dict(("x", "y"), None, "metric")
    scale = ObjectiveScale.of(runs, objective)
    assert scale.value(1.5) == 1.5
    assert "turned" in scale.direction
    assert np.isnan(scale.percent(0.1, 1.0))
    only_x = ObjectiveScale.of(runs, Objective.from_dict(("x", "y"), {"x": 1}, "metric"))
    assert only_x.direction == "lower is better"
