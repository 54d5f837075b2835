"""Tables of a swarm's result: what is shown, what is said where something is missing."""

import copy
import io
from typing import Any

from rich.console import Console

from evermix.reports.olmix import answer
from evermix.reports.tables import print_result

_GAIN = {
    "corrected": 0.02,
    "percent": 1.5,
    "interval": {"low": 0.01, "high": 0.03},
    "percent_interval": {"low": 0.8, "high": 2.2},
    "probability": 0.97,
}


def row(name: str, value: float, gain: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"name": name, "objective_value": value, "gain": gain, "kl_to_prior": 0.1, "effective_domains": 2.0}


def result() -> dict[str, Any]:
    spent = {"n_runs": 8, "n_trained": 8, "n_tokens": 80_000, "flops": 4e10, "seconds": 42.0}
    return {
        "method": "olmix",
        "n_tokens": 1_000_000,
        "domains": [
            {"name": "web [x]", "n_tokens": 300_000, "share": 0.6, "epochs": 2.0},
            {"name": "code", "n_tokens": 100_000, "share": 0.4, "epochs": 4.0},
        ],
        "mixture": {"web [x]": 0.6, "code": 0.4},
        "proposal": {
            "comparison": {"rows": [row("proposal", 1.30), row("natural", 1.33, _GAIN)]},
            "bootstrap": {"weights": {"code": {"share": 0.4, "low": 0.31, "high": 0.45}}},
            "warnings": [{"severity": "note", "message": "Mind this.", "remedy": "Do that."}],
            "fixed_ratio": None,
        },
        "swarm": {
            "rung": "1M",
            "tokens_per_proxy": 10_000,
            "this_era": spent,
            "all_eras": spent,
            "left_out": [{"run_id": "run-0003", "reason": "worker died: signal 9", "log": "logs/run-0003.log"}],
        },
        "held_out_tasks": {"quiz:accuracy": {"agreement": 0.81, "n_runs": 8}},
        "diagnosis": None,
        "released": [],
        "arms": {},
    }


def printed(content: dict[str, Any]) -> str:
    console = Console(record=True, width=160, file=io.StringIO())
    print_result(content, console)
    return console.export_text()


def test_answer_evidence_cost_and_what_is_missing() -> None:
    text = printed(result())
    assert "Predicted gain of the mixture: 1.5% (90% interval 0.8 to 2.2%) over natural." in text.replace("1.50", "1.5")
    for words in ("web [x]", "31.0–45.0", "75.0%", "Swarm: 8 proxies of 1M", "40 GFLOP", "Mind this. Do that."):
        assert words in text
    assert "Left out: run-0003, which failed twice (worker died: signal 9)" in text
    assert "quiz:accuracy" in text


def test_gain_that_is_none_is_not_called_one() -> None:
    content = result()
    gain = content["proposal"]["comparison"]["rows"][1]["gain"]
    unsure = copy.deepcopy(gain)
    unsure["interval"]["low"] = -0.01
    content["proposal"]["comparison"]["rows"][1]["gain"] = unsure
    assert answer.headline(content).startswith("The mixture's gain is not certain")
    unsure["interval"]["high"] = -0.005
    assert answer.headline(content).startswith("The mixture is predicted to be no gain")


def test_before_and_after_an_update() -> None:
    text = printed(result() | {"mixture_before": {"web [x]": 0.5, "code": 0.25, "spam": 0.25}})
    assert "gone" in text
    assert "25.0% of the tokens go to another domain than before" in text


def test_carried_and_unfinished_results() -> None:
    carried = result() | {"proposal": None, "held_out_tasks": {}}
    carried["swarm"] = carried["swarm"] | {"this_era": carried["swarm"]["this_era"] | {"n_trained": 0}}
    assert "No runs were needed" in printed(carried)
    assert "no proxies were trained; 8 are known from before" in printed(carried)
    assert printed({"method": "olmix", "domains": []}).strip() == "Not finished: no mixture has been decided yet."


def test_interval_without_an_upper_end() -> None:
    assert answer.estimate_words({"value": 0.1, "low": 0.0, "high": float("inf")}) == "0.1 (80% interval 0 or more)"
