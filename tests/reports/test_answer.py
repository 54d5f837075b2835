"""The words must follow the numbers, above all when there is no gain: against scipy's intervals, errors by hand, and
the definition of a front."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from evermix.reports.answer import Difference, RunView, comparison, cost_sentence, headline, pareto_front
from evermix.results import ObjectiveInfo, PairedComparison, RunResult

from .synthetic_result import STEP, compute, one_phase, phases, proposal, swarm, whole, with_equal_compute


def against(result: RunResult, baseline: str) -> Difference:
    return {each.baseline: each for each in RunView(result).differences}[baseline]


def asking(result: RunResult, **objective: Any) -> RunResult:
    return result.model_copy(update={"objective": ObjectiveInfo(**objective)})


def test_gain_is_the_relative_difference_of_the_objective() -> None:
    result = one_phase(gain=0.05)
    assert {each.baseline for each in RunView(result).differences} == {"natural", "uniform"}
    found = against(result, "uniform")
    # every counted domain is exp(-0.05) times uniform's perplexity
    assert found.relative == pytest.approx(math.exp(-0.05) - 1, rel=1e-9)
    assert found.verdict == "better"
    assert (found.better_domains, found.n_domains) == (9, 10)


def test_difference_within_noise_is_no_gain() -> None:
    uniform = against(one_phase(gain=0.001), "uniform")
    assert uniform.verdict == "even"
    assert "no measurable difference to uniform" in uniform.words
    assert "no measurable difference to uniform" in headline(one_phase(gain=0.001))


def test_a_loss_is_called_a_loss() -> None:
    worse = RunView(one_phase(gain=-0.3)).differences
    assert {each.verdict for each in worse} == {"worse"}
    assert "higher than uniform" in headline(one_phase(gain=-0.3))


def test_standard_error_of_a_mean_perplexity() -> None:
    """Delta method for independent domains: sqrt(sum (v exp(L) s)^2)."""
    view = RunView(one_phase())
    row = view.row("uniform")
    counted = [one for name, one in row.per_domain.items() if name != "noise"]
    expected = math.sqrt(sum((math.exp(one.loss_nats) * 0.008 / 9) ** 2 for one in counted))
    assert view.heldout_stderr(row) == pytest.approx(expected)


def test_paired_errors_replace_unpaired_ones() -> None:
    """The same sequences score both arms, so their common part cancels: a small gain can be told from noise."""
    result = one_phase(gain=0.005)
    assert against(result, "uniform").verdict == "even"
    errors = dict.fromkeys(result.arms["uniform"].last[0].per_domain, 0.001)
    pair = PairedComparison(arm="evermix", baseline="uniform", order=0, difference_stderr_nats=errors)
    paired = against(result.model_copy(update={"comparisons": (pair,)}), "uniform")
    assert paired.verdict == "better"
    assert paired.noise < 0.001


def test_interval_over_orders_is_the_paired_one() -> None:
    view = RunView(phases(n_orders=5))
    found = view.difference("evermix", "uniform")
    ours, theirs = (np.array(view.values(arm, view.objective)) for arm in ("evermix", "uniform"))
    interval = stats.ttest_1samp((ours - theirs) / theirs, 0).confidence_interval(0.95)
    assert found.relative - found.noise == pytest.approx(interval.low)
    assert found.relative + found.noise == pytest.approx(interval.high)
    assert found.verdict == "better"


def test_interval_of_one_order_is_that_of_the_heldout_sequences() -> None:
    view = RunView(phases(n_phases=2))
    row = view.row("uniform")
    # mean of exp(3) and exp(3.1), each with s = 0.01 nats: sqrt((e^3 0.01 / 2)^2 + (e^3.1 0.01 / 2)^2)
    by_hand = math.hypot(math.exp(3) * 0.005, math.exp(3.1) * 0.005)
    assert view.heldout_stderr(row) == pytest.approx(by_hand)
    scale = math.exp(-0.06)
    found = view.difference("evermix", "uniform")
    assert found.noise == pytest.approx(1.96 * by_hand * math.hypot(1, scale) / row.objective_value)


@pytest.mark.parametrize(
    ("quantity", "slope"),
    [("loss_nats", 1.0), ("bits_per_byte", 1 / (3 * math.log(2))), ("perplexity", math.exp(3))],
)
def test_heldout_error_of_every_quantity(quantity: str, slope: float) -> None:
    view = RunView(asking(phases(n_phases=1), quantity=quantity, weights={"web": 2.0}))
    assert view.heldout_stderr(view.row("uniform")) == pytest.approx(0.01 * slope)


def test_a_weight_is_that_of_the_revised_text_too() -> None:
    view = RunView(asking(phases(n_phases=5), quantity="loss_nats", weights={"law": 1.0, "web": 0.0}))
    assert view.heldout_stderr(view.row("uniform")) == pytest.approx(0.01)  # of `law (2)` alone


def test_overhead_leaves_cross_checks_out() -> None:
    view = RunView(one_phase())
    assert view.overhead("evermix") == pytest.approx((7.1e11, 6.4e12))
    assert view.overhead("uniform") is None
    assert view.spent("evermix").flops == pytest.approx(7.11e12)
    sentence = cost_sentence(view, "evermix") or ""
    assert sentence.startswith("Deciding cost 710 GFLOP, 11.1% on top of 6.4 TFLOP of training.")
    assert "took a further 300 GFLOP" in sentence


def test_objective_is_named_by_what_it_counts() -> None:
    result = one_phase()
    assert RunView(result).objective.label == "mean perplexity of 9 domains"
    assert RunView(asking(result, quantity="loss_nats")).objective.label == "mean loss (nats per token)"
    weighted = asking(result, quantity="loss_nats", weights={"web": 0.7, "legal": 0.3})
    assert RunView(weighted).objective.label == "weighted loss (nats per token)"


def test_nothing_to_compare_with() -> None:
    result = one_phase()
    alone = result.model_copy(update={"arms": {"evermix": result.arms["evermix"]}})
    assert RunView(alone).differences == []
    assert "no other arm" in headline(alone)
    assert headline(whole(orders=(("pretraining",),), domains=())).startswith("Not finished")


def test_compute_is_compared_with_retraining() -> None:
    view = RunView(phases())
    # retrain: 1 + 2 + 3 + 4 steps; uniform: 4
    assert view.spent("retrain").flops == 10 * STEP
    assert view.saved("uniform") == pytest.approx(0.6)
    assert view.saved("evermix") == pytest.approx(1 - (4 + 3 * 0.12) / 10)
    assert view.saved("retrain") is None
    assert RunView(phases(arms={"evermix": 0.0, "uniform": 0.0})).saved("evermix") is None


def test_headline_tells_better_even_and_worse() -> None:
    text = headline(phases(n_orders=3))
    assert text.startswith("After 4 phases, mean of 3 orders, evermix has a mean perplexity of ")
    assert "lower than retrain at 56.4% less compute" in text
    even = headline(phases(arms={"evermix": 0.0001, "uniform": 0.0}))
    assert "no measurable difference to uniform (0.01% higher, " in even
    assert "higher than uniform at 9.0% more compute" in headline(phases(arms={"evermix": 0.5, "uniform": 0.0}))
    assert "no other arm" in headline(phases(arms={"naive": 0.0}))


def test_the_headline_quotes_equal_compute_alone() -> None:
    """uniform falls by 1% with the compute of evermix, whose 5% are 4% then: exp(-0.05 + 0.01) of the perplexity."""
    equal = with_equal_compute(one_phase(gain=0.05), "uniform")
    found = against(equal, "uniform+compute")
    assert (found.baseline_arm, found.at_equal_compute) == ("uniform", True)
    assert found.relative == pytest.approx(math.exp(-0.04) - 1)
    assert found.compute == pytest.approx(0)
    text = headline(equal)
    assert "3.9%" in text
    assert "lower than uniform at equal compute; 1 more arm is compared below." in text
    assert "more compute" not in text
    assert [each.baseline for each in RunView(equal).differences] == ["uniform+compute", "uniform", "natural"]
    assert against(equal, "uniform").words.endswith("lower than uniform at 11.1% more compute")
    assert "lower than uniform at 11.1% more compute" in headline(one_phase(gain=0.05))


def test_a_gain_that_equal_compute_takes_away_is_none() -> None:
    text = headline(with_equal_compute(one_phase(gain=0.05), "natural", "uniform", better=0.06))
    assert "1.0% (±0.8%) higher than uniform at equal compute" in text  # exp(0.06 - 0.05) - 1
    assert "lower than uniform" not in text


def test_equal_compute_says_what_a_step_is() -> None:
    """A baseline has whole steps: what is left over is said."""
    equal = with_equal_compute(phases(), "uniform", "naive")
    (*earlier, last) = equal.arms["uniform+compute"].orders[0]
    short = last.model_copy(update={"cumulative_compute": compute(training=0.99 * (4 + 3 * 0.12) * STEP)})
    row = equal.arms["uniform+compute"].model_copy(update={"orders": ((*earlier, short),)})
    found = against(equal.model_copy(update={"arms": {**equal.arms, "uniform+compute": row}}), "uniform+compute")
    assert found.compute_words == "at equal compute (1.0% more)"


def test_the_arm_whose_compute_was_given_is_compared() -> None:
    result = with_equal_compute(phases(arms={"evermix": 0.1, "uniform": 0.0}), "uniform")
    renamed = {
        name.replace("evermix", "mergemix"): arm.model_copy(update={"given": arm.given and "mergemix"})
        for name, arm in result.arms.items()
    }
    assert RunView(result.model_copy(update={"arms": renamed})).ours == "mergemix"


def test_without_evermix_the_best_arm_is_compared() -> None:
    assert RunView(phases(arms={"uniform": 0.0, "natural": -0.1, "naive": 1.0})).ours == "natural"


def test_qualities_are_those_that_every_row_has() -> None:
    assert [quality.label for quality in RunView(phases()).qualities] == [
        "mean perplexity",
        "mean bits per byte",
        "mean forgetting (nats)",
    ]
    accurate = RunView(phases(accuracy=True)).qualities[-1]
    assert (accurate.label, accurate.lower_is_better, accurate.best([0.2, 0.4])) == ("mean accuracy", False, 0.4)


def test_scoring_of_tasks_stands_beside_the_total() -> None:
    without, scored = RunView(phases()), RunView(phases(accuracy=True))
    assert scored.spent("uniform").flops == without.spent("uniform").flops
    assert without.spent("uniform").flops == sum(part.flops for part in without.parts("uniform").values())
    assert scored.parts("uniform")["scoring"].flops == 4 * 5e6
    assert scored.parts("uniform", 1)["scoring"].flops == 2 * 5e6
    assert "scoring" not in without.parts("uniform")


def test_comparison_is_plain() -> None:
    found = comparison(phases())
    assert found["pareto_front"] == ["uniform", "evermix"]
    assert {each["baseline"] for each in found["differences"]} == {"uniform", "naive", "retrain"}
    assert found["differences"][0]["verdict"] in ("better", "even")


def test_values_that_differ_are_not_read_as_the_same() -> None:
    result = asking(one_phase(gain=0.025), quantity="bits_per_byte")
    rows = {arm: result.arms[arm].last[0] for arm in result.arms}
    named = {
        arm: row.model_copy(update={"objective_value": row.means_over_all.bits_per_byte}) for arm, row in rows.items()
    }
    arms = {n: result.arms[n].model_copy(update={"orders": ((row,),)}) for n, row in named.items()}
    ours, theirs = against(result.model_copy(update={"arms": arms}), "uniform").exchange.split(" instead of ")
    assert ours != theirs
    assert len(ours.partition(".")[2]) >= 3


def test_gain_that_is_none_is_not_called_one() -> None:
    assert headline(swarm(proposal())).startswith("Predicted gain of the mixture: 1.5")
    content = proposal().model_dump()
    gain = content["comparison"]["rows"][1]["gain"]
    gain["interval"]["low"] = -0.01
    assert headline(swarm(proposal(**content))).startswith("The mixture's gain is not certain")
    gain["interval"]["high"] = -0.005
    assert headline(swarm(proposal(**content))).startswith("The mixture is predicted to be no gain")


points = st.lists(st.tuples(st.integers(0, 8).map(float), st.integers(0, 8).map(float)), min_size=1, max_size=12)


@given(points, st.booleans())
def test_front_holds_what_no_point_beats(given_points: list[tuple[float, float]], lower: bool) -> None:
    front = {given_points[i] for i in pareto_front(given_points, lower)}

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        as_good = a[1] <= b[1] if lower else a[1] >= b[1]
        return a[0] <= b[0] and as_good and a != b

    assert front == {point for point in given_points if not any(beats(other, point) for other in given_points)}
