"""What deciding is expected to gain before anything is known."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from evermix.lifecycle.evidence.probe_budget import planned_probes
from evermix.lifecycle.evidence.worth import BY_EXPERIMENTS, Sight, _optimum, by_probes, expected_before
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase

UNIFORM = (0.1,) * 10


def test_unequal_objectives_and_junk_promise_more_than_equal_ones() -> None:
    alike = expected_before(UNIFORM, UNIFORM, BY_EXPERIMENTS, 0.01)
    clean = expected_before((0.125,) * 8 + (0.0,) * 2, UNIFORM, BY_EXPERIMENTS, 0.01)
    skewed = expected_before((0.5, 0.3, 0.2) + (0.0,) * 7, UNIFORM, BY_EXPERIMENTS, 0.01)
    assert 0 < alike.gain < clean.gain < skewed.gain
    assert alike.low < 0 < alike.high  # it may lose
    assert not alike.stays


def test_reading_costs_what_as_many_more_tokens_would_gain() -> None:
    assert expected_before(UNIFORM, UNIFORM, BY_EXPERIMENTS, 0.14).cost == pytest.approx(100 * (1 - 1.14**-0.45))
    assert expected_before(UNIFORM, UNIFORM, BY_EXPERIMENTS, 0.5).stays


def test_what_is_chosen_is_the_optimum_of_the_slopes_that_are_seen() -> None:
    rng = np.random.default_rng(3)
    slopes, levels = 0.2 * np.exp(0.4 * rng.normal(size=(1, 5))), 3 + 0.2 * rng.normal(size=(1, 5))
    weights = start = np.full(5, 0.2)
    found = _optimum(weights, start, slopes, levels)[0]

    def value(z: np.ndarray) -> float:
        p = np.exp(z - z.max())
        p /= p.sum()
        return float(weights @ np.exp(levels[0] - slopes[0] * np.log(p / start)))

    best = minimize(value, np.zeros(5), method="BFGS").fun
    assert value(np.log(found)) == pytest.approx(best, rel=1e-4)


def test_what_is_seen_without_errors_is_worth_the_optimum() -> None:
    """Against scipy's optimum in worlds drawn anew."""
    rng, n = np.random.default_rng(5), 400
    slopes, levels = 0.22 * np.exp(0.8 * rng.normal(size=(n, 3))), 3.3 + 0.35 * rng.normal(size=(n, 3))

    def value(p: np.ndarray, k: int) -> float:
        return float(np.exp(levels[k] - slopes[k] * np.log(3 * p)).mean())

    start = np.full(3, 1 / 3)
    simplex = {"bounds": [(1e-3, 1)] * 3, "constraints": {"type": "eq", "fun": lambda p: p.sum() - 1}}
    best = [minimize(value, start, args=(k,), method="SLSQP", **simplex).fun for k in range(n)]
    gains = 100 * (1 - np.array(best) / [value(start, k) for k in range(n)])
    found = expected_before((1 / 3,) * 3, (1 / 3,) * 3, Sight(0.8, 0.0), 0.01)
    assert found.gain == pytest.approx(gains.mean(), abs=4 * gains.std() / np.sqrt(n))


def test_longer_probes_and_more_text_promise_more() -> None:
    tried = [by_probes(6, 4), by_probes(60, 4), by_probes(60, 32)]
    short, long, read = (expected_before(UNIFORM, UNIFORM, seen, 0.02).gain for seen in tried)
    assert short < long < read


def phase_of(n_steps: int, **changes: Any) -> tuple[Recipe, Phase]:
    """The second of two phases, of two domains."""
    recipe = Recipe.model_validate(
        {
            "project": "p",
            "domains": [{"name": "a", "files": ["x"]}],
            "corpus": {"sequence_length": 64},
            "training": {"tokens": n_steps * 16 * 64, "batch_sequences": 16},
            "phases": [{"name": "one", "kind": "pretrain"}, {"name": "two", "add": [{"name": "b", "files": ["y"]}]}],
        }
        | changes
    )
    return recipe, recipe.timeline(recipe.phase_orders[0])[1]


def test_a_short_phase_keeps_its_start_and_a_long_one_spends_what_pays() -> None:
    """By default; `decision.always` decides by the whole budget."""
    short = planned_probes(*phase_of(100))
    assert short is not None
    assert short.expected is not None
    assert short.expected.stays
    assert (short.at_steps, short.work) == ((), [])
    long, always = planned_probes(*phase_of(20_000)), planned_probes(*phase_of(20_000, decision={"always": True}))
    assert long is not None
    assert always is not None
    assert long.expected is not None
    assert long.at_steps == always.at_steps == (0,)
    assert long.expected.gain > long.expected.cost
    assert long.budget < always.budget == 0.03


def test_unequal_weights_are_decided_in_a_short_phase_too() -> None:
    """But for a start that has followed them already."""
    followed = planned_probes(*phase_of(100, objective={"weights": {"a": 0.1, "b": 0.9}}))
    assert followed is not None
    assert followed.at_steps == ()
    planned = planned_probes(*phase_of(100, objective={"weights": {"a": 0.1, "b": 0.9}}, start="uniform"))
    assert planned is not None
    assert planned.at_steps == (0,)


@pytest.mark.parametrize(
    "rule",
    [{"retention": {"max_rise": 0.1}}, {"decision": {"guards": [{"reference": "natural"}]}}],
    ids=["retention", "guards"],
)
def test_where_the_start_may_be_forbidden_it_is_decided(rule: dict[str, Any]) -> None:
    planned = planned_probes(*phase_of(100, **rule))
    assert planned is not None
    assert planned.at_steps == (0,)
    assert planned.expected is None
