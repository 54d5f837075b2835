"""The words must follow the numbers, above all when there is no gain."""

import math

import pytest

from evermix.reports import summary

from .synthetic_result import result


def test_gain_is_the_relative_difference_of_the_objective() -> None:
    found = {gain.baseline: gain for gain in summary.gains(result(gain=0.05))}
    assert set(found) == {"natural", "uniform"}
    # every counted domain is exp(-0.05) times uniform's perplexity
    assert found["uniform"].relative == pytest.approx(math.exp(-0.05) - 1, rel=1e-9)
    assert found["uniform"].verdict == "better"
    assert (found["uniform"].better_domains, found["uniform"].n_domains) == (9, 10)


def test_difference_within_noise_is_no_gain() -> None:
    uniform = {gain.baseline: gain for gain in summary.gains(result(gain=0.001))}["uniform"]
    assert uniform.verdict == "even"
    assert "No measurable difference" in summary.gain_sentence(uniform, "mean perplexity")
    assert "no gain against uniform" in summary.headline(result(gain=0.001))


def test_a_loss_is_called_a_loss() -> None:
    worse = summary.gains(result(gain=-0.3))
    assert {gain.verdict for gain in worse} == {"worse"}
    assert "deciding did not pay" in summary.gain_sentence(worse[0], "mean perplexity")
    assert summary.headline(result(gain=-0.3)).startswith("No gain")


def test_standard_error_of_a_mean_perplexity() -> None:
    """Delta method for independent domains: sqrt(sum (v exp(L) s)^2)."""
    found = result()
    arm = found["arms"]["uniform"]
    expected = math.sqrt(
        sum((math.exp(one["loss_nats"]) * 0.008 / 9) ** 2 for n, one in arm["per_domain"].items() if n != "noise")
    )
    assert summary.objective_stderr(found, arm) == pytest.approx(expected)


@pytest.mark.parametrize("quantity", ["loss_nats", "bits_per_byte", "perplexity"])
def test_objective_from_domains_when_not_stated(quantity: str) -> None:
    found = result()
    found["objective"]["quantity"] = quantity
    arm = found["arms"]["natural"]
    del arm["objective_value"]
    counted = [one[quantity] for name, one in arm["per_domain"].items() if name != "noise"]
    assert summary.objective_value(found, arm) == pytest.approx(sum(counted) / 9)


def test_cost_leaves_cross_checks_out_of_the_overhead() -> None:
    spent = summary.cost(result(), "evermix")
    assert spent.decision_flops == pytest.approx(7.1e11)
    assert spent.cross_check_flops == pytest.approx(3e11)
    assert spent.overhead == pytest.approx(7.1e11 / 6.4e12)
    assert summary.cost(result(), "uniform").overhead == 0


def test_objective_is_named_by_what_it_counts() -> None:
    found = result()
    assert summary.objective_name(found) == "mean perplexity of 9 domains"
    found["objective"] = {"quantity": "loss_nats", "weights": None}
    assert summary.objective_name(found) == "mean loss (nats per token)"
    found["objective"]["weights"] = {"web": 0.7, "legal": 0.3}
    assert summary.objective_name(found) == "weighted loss (nats per token)"


def test_nothing_to_compare_with() -> None:
    found = result()
    found["arms"] = {"evermix": found["arms"]["evermix"]}
    assert summary.gains(found) == []
    assert "nothing to compare with" in summary.headline(found)
    assert "Not finished" in summary.headline({"arms": {}})


def test_paired_errors_replace_unpaired_ones() -> None:
    """The same sequences score both arms, so their common part cancels: a small gain can be told from noise."""
    found = result(gain=0.005)
    uniform = {gain.baseline: gain for gain in summary.gains(found)}["uniform"]
    assert uniform.verdict == "even"
    errors = dict.fromkeys(found["arms"]["uniform"]["per_domain"], 0.001)
    found["comparisons"] = [{"arm": "evermix", "baseline": "uniform", "difference_stderr_nats": errors}]
    uniform = {gain.baseline: gain for gain in summary.gains(found)}["uniform"]
    assert uniform.verdict == "better"
    assert uniform.noise < 0.001
