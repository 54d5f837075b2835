"""When experiments within a run are made, and what reading for them costs."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.errors import RecipeError
from evermix.lifecycle.evidence.timetable import Timetable, timetable
from evermix.recipe import Recipe
from evermix.recipe.decision_points import least_steps

LENGTH, BATCH = 16, 4


def recipe(n_steps: int, m: int = 4, **decision: Any) -> Recipe:
    return Recipe.model_validate(
        {
            "project": "p",
            "domains": [{"name": f"d{j}", "files": f"d{j}.txt"} for j in range(m)],
            "corpus": {"sequence_length": LENGTH, "heldout_sequences": 400},
            "training": {"tokens": n_steps * LENGTH * BATCH, "batch_sequences": BATCH},
            "decision": decision,
        }
    )


def planned(n_steps: int, m: int = 4, **decision: Any) -> Timetable:
    asked = recipe(n_steps, m, **decision)
    found = timetable(asked, asked.timeline(asked.phase_orders[0])[0])
    assert found is not None
    return found


@settings(max_examples=60, deadline=None)
@given(n_steps=st.integers(least_steps(8), 20_000), m=st.integers(2, 64))
def test_experiments_follow_each_other_and_end_before_the_decay(n_steps: int, m: int) -> None:
    found = planned(n_steps, m)
    steps = [found.begin, *(end for ends in found.experiments for end in ends)]
    assert found.begin >= 1
    assert all(b > a for a, b in pairwise(steps))
    assert all(len(ends) == 8 for ends in found.experiments)
    assert steps[-1] <= 0.8 * n_steps + 1
    assert found.n_measurements == (len(steps) if found.experiments else 0)
    assert bool(found.experiments) != found.expected.stays


def test_segments_grow_with_the_run_and_each_experiment_reaches_as_much_further() -> None:
    found = planned(50_000)
    steps = [found.begin, *(end for ends in found.experiments for end in ends)]
    growth = [b / a for a, b in pairwise(steps)]
    assert growth == pytest.approx([2.4 ** (1 / 8)] * len(growth), rel=0.01)
    assert found.begin == 0.04 * 50_000
    assert found.decided_at[0] == pytest.approx(0.04 * 2.4 * 50_000, rel=0.01)
    assert len(found.experiments) == 3


def test_reading_stays_within_its_budget_of_the_training() -> None:
    for n_steps in (20_000, 50_000):
        found, asked = planned(n_steps, 10), recipe(n_steps, 10)
        phase = asked.timeline(asked.phase_orders[0])[0]
        (work,) = found.work(asked, phase)
        part = work.flops(1) / (6 * n_steps * BATCH * LENGTH)
        assert 0.5 * 0.01 < part <= 0.01


def test_a_short_run_is_decided_once_because_it_cannot_pay_for_more() -> None:
    assert len(planned(2_000, 10).experiments) == 1
    assert len(planned(2_000, 5, experiments={"budget": 0.05}).experiments) == 2


def test_where_reading_costs_more_than_it_promises_the_start_stays() -> None:
    tiny = planned(60, 4)
    assert (tiny.experiments, tiny.decided_at, tiny.n_measurements) == ((), (), 0)
    assert tiny.expected.stays
    assert tiny.expected.gain <= tiny.expected.cost
    assert planned(60, 4, at=[0.5]).decided_at == (30,)
    assert planned(20_000, 10).expected.gain > 1 > planned(20_000, 10).expected.cost


def test_decision_points_that_are_given_end_experiments() -> None:
    found = planned(1000, at=[0.3, 0.7], experiments={"budget": 0.1})
    assert found.decided_at == (300, 700)
    assert planned(9000, experiments={"later_levels": None}).decided_at == planned(9000).decided_at[:1]
    assert planned(1000, experiments={"begin": 0.2}).begin == 200
    assert planned(1000, experiments={"evaluation_sequences": 7}).evaluation_sequences == 7


def test_probes_and_single_domains_have_no_experiments() -> None:
    for asked in (recipe(100, mode="probe-law"), recipe(100, 1)):
        assert timetable(asked, asked.timeline(asked.phase_orders[0])[0]) is None


@pytest.mark.parametrize(
    ("n_steps", "decision", "said"),
    [
        (12, {}, "at least 13 steps of 64 tokens, for an experiment of 8 segments"),
        (100, {"experiments": {"segments": 9}}, "multiple of the 4 levels"),
        (100, {"experiments": {"levels": [0.5, 0.5]}}, "levels must differ"),
        (100, {"experiments": {"levels": [0.5, -1.0]}}, "greater than 0"),
        (100, {"mode": "probe-law", "experiments": {"segments": 8}}, "belongs to decision.mode in-run"),
        (100, {"cross_checks": True}, "compares decisions by probes"),
        (100, {"at": []}, "there must be decision points"),
        (100, {"at": [0.05]}, "an experiment of 8 segments must have as many steps before step 5"),
        (100, {"at": [0.3, 0.35]}, "before step 35 .it has 5"),
        (100, {"at": [0.9]}, "before the learning rate decays, at step 80 .the last is 90"),
    ],
)
def test_experiments_that_cannot_be_are_refused(n_steps: int, decision: dict[str, Any], said: str) -> None:
    with pytest.raises((RecipeError, ValueError), match=said):
        recipe(n_steps, **decision)
