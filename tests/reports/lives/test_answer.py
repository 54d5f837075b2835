"""What a life is said to have shown: against scipy's intervals, errors by hand, and the definition of a front."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evermix.reports.lives.answer import Lives, as_life, comparison, headline, heldout_stderr, pareto_front

from ..synthetic_result import result as pretraining
from .synthetic_life import STEP, life


def test_interval_over_orders_is_the_paired_one() -> None:
    lives = Lives(life(n_orders=5))
    found = lives.difference("evermix", "uniform")
    ours, theirs = (np.array(lives.values(arm, "objective_value")) for arm in ("evermix", "uniform"))
    interval = stats.ttest_1samp((ours - theirs) / theirs, 0).confidence_interval(0.95)
    assert found.relative - found.noise == pytest.approx(interval.low)
    assert found.relative + found.noise == pytest.approx(interval.high)
    assert found.verdict == "better"


def test_interval_of_one_order_is_that_of_the_heldout_sequences() -> None:
    result = life(n_stages=2)
    row = result["lives"]["uniform"][0][-1]
    # mean of exp(3) and exp(3.1), each with s = 0.01 nats: sqrt((e^3 0.01 / 2)^2 + (e^3.1 0.01 / 2)^2)
    by_hand = math.hypot(math.exp(3) * 0.005, math.exp(3.1) * 0.005)
    assert heldout_stderr(row, result) == pytest.approx(by_hand)
    found = Lives(result).difference("evermix", "uniform")
    scale = math.exp(-0.06)
    assert found.noise == pytest.approx(1.96 * by_hand * math.hypot(1, scale) / row["objective_value"])


@pytest.mark.parametrize(
    ("quantity", "slope"), [("loss_nats", 1.0), ("bits_per_byte", 1 / 3), ("perplexity", math.exp(3))]
)
def test_heldout_error_of_every_quantity(quantity: str, slope: float) -> None:
    result = life(n_stages=1)
    result["objective"] = {"quantity": quantity, "weights": {"web": 2.0}}
    assert heldout_stderr(result["lives"]["uniform"][0][0], result) == pytest.approx(0.01 * slope)


def test_a_weight_is_that_of_the_revised_text_too() -> None:
    result = life(n_stages=5)
    result["objective"] = {"quantity": "loss_nats", "weights": {"law": 1.0, "web": 0.0}}
    assert heldout_stderr(result["lives"]["uniform"][0][-1], result) == pytest.approx(0.01)  # of `law (2)` alone


def test_compute_is_compared_with_retraining() -> None:
    lives = Lives(life())
    # retrain: 1 + 2 + 3 + 4 steps; uniform: 4
    assert lives.cost("retrain") == 10 * STEP
    assert lives.saved("uniform") == pytest.approx(0.6)
    assert lives.saved("evermix") == pytest.approx(1 - (4 + 3 * 0.12) / 10)
    assert lives.saved("retrain") is None
    assert Lives(life(arms={"evermix": 0.0, "uniform": 0.0})).saved("evermix") is None


def test_headline_tells_better_even_and_worse() -> None:
    text = headline(life(n_orders=3))
    assert text.startswith("After 4 stages, mean of 3 orders, evermix has a mean perplexity of ")
    assert "lower than retrain at 56.4% less compute" in text
    even = headline(life(arms={"evermix": 0.0001, "uniform": 0.0}))
    assert "no measurable difference to uniform (0.0% higher, " in even
    assert "higher than uniform at 9.0% more compute" in headline(life(arms={"evermix": 0.5, "uniform": 0.0}))
    assert "no other arm" in headline(life(arms={"naive": 0.0}))
    assert headline({"lives": {}, "segments": [{}], "stage_decisions": []}).startswith("Not finished: 1 ")


def test_without_evermix_the_best_arm_is_compared() -> None:
    assert Lives(life(arms={"uniform": 0.0, "natural": -0.1, "naive": 1.0})).ours == "natural"


def test_qualities_are_those_that_every_row_has() -> None:
    assert [quality.label for quality in Lives(life()).qualities] == [
        "mean perplexity",
        "mean bits per byte",
        "mean forgetting (nats)",
    ]
    accurate = Lives(life(accuracy=True)).qualities[-1]
    assert (accurate.label, accurate.lower_is_better, accurate.best([0.2, 0.4])) == ("mean accuracy", False, 0.4)


def test_a_pretraining_is_a_life_of_one_stage() -> None:
    result = pretraining()
    lives = Lives(as_life(result))
    assert (lives.n_stages, lives.arms) == (1, list(result["arms"]))
    parts = result["arms"]["evermix"]["flops_by_part"]
    assert lives.cost("evermix") == pytest.approx(sum(parts.values()) - parts.get("cross_checks", 0.0))
    assert as_life(life())["orders"] == life()["orders"]


def test_scoring_of_tasks_stands_beside_the_total() -> None:
    without, scored = Lives(life()), Lives(life(accuracy=True))
    assert scored.cost("uniform") == without.cost("uniform") == sum(without.parts("uniform").values())
    assert scored.parts("uniform")["scoring"] == 4 * 5e6
    assert scored.parts("uniform", stage=1)["scoring"] == 2 * 5e6
    assert "scoring" not in without.parts("uniform")


def test_comparison_is_plain() -> None:
    found = comparison(life())
    assert found["pareto_front"] == ["uniform", "evermix"]
    assert {each["baseline"] for each in found["differences"]} == {"uniform", "naive", "retrain"}
    assert found["differences"][0]["verdict"] == "better" or found["differences"][0]["verdict"] == "even"


points = st.lists(st.tuples(st.integers(0, 8).map(float), st.integers(0, 8).map(float)), min_size=1, max_size=12)


@given(points, st.booleans())
def test_front_holds_what_no_point_beats(given_points: list[tuple[float, float]], lower: bool) -> None:
    front = {given_points[i] for i in pareto_front(given_points, lower)}

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        as_good = a[1] <= b[1] if lower else a[1] >= b[1]
        return a[0] <= b[0] and as_good and a != b

    assert front == {point for point in given_points if not any(beats(other, point) for other in given_points)}
