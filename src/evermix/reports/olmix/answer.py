"""The answer of a swarm in words: what the mixture is predicted to gain, what the target showed, what it cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from evermix.reports import summary, units
from evermix.reports.figures import decimals_for, figure, fixed, span
from evermix.reports.summary import Gain, Result

_REFERENCES = ("natural", "prior", "uniform")
OBJECTIVE = "mean bits per byte over the domains' held-out text"


def is_swarm(result: Result) -> bool:
    """Whether a result is that of method olmix."""
    return result.get("method") == "olmix"


def headline(result: Result) -> str:
    """The answer in one line, of either method."""
    if not is_swarm(result):
        return summary.headline(result)
    if result.get("mixture") is None:
        return "Not finished: no mixture has been decided yet."
    proposal = result.get("proposal")
    if proposal is None:
        return "No runs were needed: the remaining domains keep their proportions."
    rows = comparison_rows(proposal)
    named = [name for name in _REFERENCES if name in rows]
    if not named:
        return "A mixture was proposed."
    gain = rows[named[0]].get("gain")
    words = f"{gain_words(proposal, named[0])} over {named[0]}"
    if gain is None:
        return f"Predicted gain of the mixture: {words}."
    if gain["interval"]["low"] > 0:
        return f"Predicted gain of the mixture: {words}."
    if gain["interval"]["high"] < 0:
        return f"The mixture is predicted to be no gain: {words}."
    return f"The mixture's gain is not certain: {words}."


def comparison_rows(proposal: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name -> row of the proposal's comparison."""
    return {row["name"]: row for row in proposal["comparison"]["rows"]}


def gain_words(proposal: Mapping[str, Any], over: str) -> str:
    """`1.8% (90% interval 1.2 to 2.5%)`; without resamples what the law predicts, which is too high on average."""
    rows = comparison_rows(proposal)
    gain = rows[over].get("gain")
    if gain is None:
        return f"{figure(rows[over]['objective_value'] - rows['proposal']['objective_value'])} (no interval)"
    percents = gain.get("percent_interval")
    if percents is None or gain["percent"] is None:
        ends = span(figure(gain["interval"]["low"]), figure(gain["interval"]["high"]))
        return f"{figure(gain['corrected'])} (90% interval {ends})"
    digits = decimals_for([percents["low"], percents["high"]])
    ends = span(fixed(percents["low"], digits), fixed(percents["high"], digits))
    return f"{fixed(gain['percent'], digits)}% (90% interval {ends}%)"


def target_view(result: Result) -> dict[str, Any]:
    """The result as the arms' tables read it: arms are compared by mean bits per byte over all domains."""
    arms = {
        name: {key: value for key, value in arm.items() if key != "objective_value"}
        for name, arm in (result.get("arms") or {}).items()
    }
    return {**result, "arms": arms, "objective": {"quantity": "bits_per_byte"}, "decisions": []}


def target_sentences(result: Result) -> list[str]:
    """What the trained target showed, a sentence for every arm that it is compared with."""
    return [f"Target trained: {summary.gain_sentence(gain, OBJECTIVE)}" for gain in target_gains(result)]


def target_gains(result: Result) -> list[Gain]:
    """The target on the proposed mixture against every other arm."""
    return summary.gains(target_view(result))


def swarm_sentences(result: Result) -> list[str]:
    """What the proxies were and cost; which are missing."""
    swarm = result["swarm"]
    here, everything = swarm["this_era"], swarm["all_eras"]
    size = f"proxies of {swarm['rung']}, {units.count(swarm['tokens_per_proxy'])} tokens each"
    lines = [f"Swarm: {here['n_trained']} {size}: {_cost(here)}{_overhead(result)}."]
    if result.get("proposal") is None and not here["n_trained"]:
        lines = [f"Swarm: no proxies were trained; {everything['n_trained']} are known from before."]
    elif everything["n_trained"] > here["n_trained"]:
        lines.append(f"All updates together: {everything['n_trained']} proxies, {_cost(everything)}.")
    lines += [
        f"Left out: {run['run_id']}, which failed twice ({run['reason']}); its trace: {run['log']}"
        for run in swarm["left_out"]
    ]
    return lines


def _cost(spent: Mapping[str, Any]) -> str:
    return f"{units.flops(spent['flops'])}, {units.seconds(spent['seconds'])} of work"


def _overhead(result: Result) -> str:
    """The swarm against one training of the target."""
    training = [(arm.get("flops_by_part") or {}).get("training") for arm in (result.get("arms") or {}).values()]
    if not training or not training[0]:
        return ""
    return f", {units.share(result['swarm']['all_eras']['flops'] / training[0])} of one target's training"


def reuse_sentences(result: Result) -> list[str]:
    """What keeping proportions did, and what follows."""
    diagnosis = result.get("diagnosis")
    lines = []
    if result.get("released"):
        lines.append(f"Released, because it was worth its runs: {', '.join(result['released'])}.")
    if diagnosis is None:
        return lines
    loss = diagnosis["predicted_loss"]
    lines.append(
        f"Reuse: {diagnosis['advice']}. Predicted loss against measuring everything anew: {estimate_words(loss)}; the "
        f"mixture's gain over its prior is {figure(diagnosis['gain'])}; {diagnosis['runs_saved']} runs saved."
    )
    lines.append(
        f"Coupling kappa {figure(diagnosis['kappa'])}, reuse gap {units.share(diagnosis['reuse_gap'])}, "
        f"1 - rho* {units.share(diagnosis['one_minus_rho'])}."
    )
    return lines


def estimate_words(estimate: Mapping[str, float | None]) -> str:
    """`0.0012 (80% interval 0 to 0.0031)`; "or more" where nothing is known of the upper end."""
    low, high = figure(estimate["low"]), figure(estimate["high"])
    ends = f"{low} or more" if high == units.NOTHING else span(low, high)
    return f"{figure(estimate['value'])} (80% interval {ends})"


def natural_shares(result: Result) -> dict[str, float]:
    """Shares in proportion to tokens."""
    tokens = {row["name"]: row.get("n_tokens") or 0 for row in result.get("domains") or []}
    total = sum(tokens.values())
    return {name: n / total for name, n in tokens.items()} if total else {}


def frozen_names(result: Result) -> dict[str, float]:
    """Domain -> share within the bundle; empty where nothing is frozen."""
    return dict((result.get("proposal") or {}).get("fixed_ratio") or {})


def moved_sentence(before: Mapping[str, float], after: Mapping[str, float]) -> str:
    """Total variation: half the sum of absolute differences."""
    names = {*before, *after}
    total = sum(abs(after.get(name, 0.0) - before.get(name, 0.0)) for name in names) / 2
    return f"{units.share(total)} of the tokens go to another domain than before (total variation)."
