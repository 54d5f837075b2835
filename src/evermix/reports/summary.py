"""The answer of a project in words and numbers: what the decided mixture gained, within which noise, at what cost."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from evermix.reports import units

Result = Mapping[str, Any]
QUANTITIES = {"perplexity": "perplexity", "bits_per_byte": "bits per byte", "loss_nats": "loss (nats per token)"}
_TWO_SIDED_95 = 1.96


@dataclass(frozen=True)
class Gain:
    """An arm against a baseline, on the objective.

    Attributes:
        relative: (ours - theirs) / theirs; negative is better.
        noise: half-width of the 95% interval of `relative` from the held-out sequences alone; 0 if unknown.
        better_domains, n_domains: domains on which the loss is lower, of how many.
    """

    arm: str
    baseline: str
    ours: float
    theirs: float
    relative: float
    noise: float
    better_domains: int
    n_domains: int

    @property
    def verdict(self) -> Literal["better", "even", "worse"]:
        """`even` where the difference is within the noise."""
        if abs(self.relative) <= self.noise:
            return "even"
        return "better" if self.relative < 0 else "worse"


def domain_names(result: Result) -> list[str]:
    """Domains in corpus order; where the corpus is unknown, as the arms or decisions name them."""
    named = [domain["name"] for domain in result.get("domains") or []]
    if named:
        return named
    arms = [arm.get("mixture") or {} for arm in (result.get("arms") or {}).values()]
    decided = [decision.get("mixture") or {} for decision in result.get("decisions") or []]
    return list(dict.fromkeys(name for mixture in arms + decided for name in mixture))


def mean_rows(result: Result) -> dict[str, list[Mapping[str, float]]]:
    """Label -> one set of means per arm: under the objective's weights, and over all domains where that differs."""
    arms = list((result.get("arms") or {}).values())
    weights = objective_weights(result)
    if len({round(weight, 12) for weight in weights.values()}) <= 1:
        return {"mean": arms}
    counted = sum(weight > 0 for weight in weights.values())
    label = f"mean of the {counted} in the objective" if counted < len(weights) else "mean as the objective weighs"
    return {label: arms, f"mean of all {len(weights)}": [arm.get("means_over_all_domains") or {} for arm in arms]}


def objective_weights(result: Result) -> dict[str, float]:
    """domain -> weight in the objective, summing to one; all alike if none are given."""
    names = domain_names(result)
    weights = (result.get("objective") or {}).get("weights") or dict.fromkeys(names, 1.0)
    total = sum(weights.values()) or 1.0
    return {name: weights.get(name, 0.0) / total for name in names}


def quantity(result: Result) -> str:
    """What the objective averages: a key of QUANTITIES."""
    return (result.get("objective") or {}).get("quantity") or "perplexity"


def objective_name(result: Result) -> str:
    """`mean perplexity`, `mean perplexity of 9 domains` if some count zero, `weighted` if they count differently."""
    weights = list(objective_weights(result).values())
    counted = [weight for weight in weights if weight > 0]
    if counted and max(counted) - min(counted) > 1e-9:
        return f"weighted {QUANTITIES[quantity(result)]}"
    some = f" of {len(counted)} domains" if len(counted) < len(weights) else ""
    return f"mean {QUANTITIES[quantity(result)]}{some}"


def objective_value(result: Result, arm: Mapping[str, Any]) -> float | None:
    """The arm's objective, computed from its domains if the result does not state it."""
    stated = arm.get("objective_value")
    if stated is not None:
        return float(stated)
    measured: Mapping[str, Any] = arm.get("per_domain") or {}
    weights = {name: weight for name, weight in objective_weights(result).items() if weight > 0}
    values = [(measured.get(name) or {}).get(quantity(result)) for name in weights]
    numbers = [float(value) for value in values if value is not None]
    if not numbers or len(numbers) < len(weights):
        return None
    return sum(weight * value for weight, value in zip(weights.values(), numbers, strict=True))


def objective_stderr(result: Result, arm: Mapping[str, Any]) -> float:
    """Standard error of the objective over held-out sequences, domains being independent.

    perplexity: exp(L) s; bits per byte: (B / L) s; loss: s, with L the loss in nats and s its standard error.
    """
    measured = arm.get("per_domain") or {}
    errors = {name: (measured.get(name) or {}).get("loss_stderr_nats") for name in objective_weights(result)}
    return _propagated(result, arm, errors)


def paired_stderr(result: Result, ours: str, theirs: str) -> float | None:
    """Standard error of the difference of two arms on the same held-out sequences; None if it was not recorded.

    From `comparisons`: [{arm, baseline, difference_stderr_nats: {domain: s}}], s over per-sequence differences.
    """
    for comparison in result.get("comparisons") or []:
        if (comparison.get("arm"), comparison.get("baseline")) == (ours, theirs):
            return _propagated(result, result["arms"][theirs], comparison.get("difference_stderr_nats") or {})
    return None


def _propagated(result: Result, arm: Mapping[str, Any], errors: Mapping[str, float | None]) -> float:
    """Delta method: sqrt(sum_d (v_d T'(L_d) s_d)^2)."""
    total = 0.0
    for name, weight in objective_weights(result).items():
        measured = (arm.get("per_domain") or {}).get(name) or {}
        loss, stderr = measured.get("loss_nats"), errors.get(name)
        if weight > 0 and loss and stderr is not None:
            slope = {
                "perplexity": math.exp(min(loss, 700.0)),
                "bits_per_byte": (measured.get("bits_per_byte") or 0.0) / loss,
            }.get(quantity(result), 1.0)
            total += (weight * slope * stderr) ** 2
    return math.sqrt(total)


def decided_arms(result: Result) -> list[str]:
    """Arms whose mixture was decided."""
    named = {decision.get("arm") for decision in result.get("decisions") or []}
    return [name for name in result.get("arms") or {} if name in named or name.startswith("evermix")]


def gains(result: Result) -> list[Gain]:
    """Every decided arm against every other arm, where both were evaluated."""
    arms = result.get("arms") or {}
    decided = decided_arms(result)
    found = [_gain(result, ours, theirs) for ours in decided for theirs in arms if theirs not in decided]
    return [gain for gain in found if gain is not None]


def _gain(result: Result, ours: str, theirs: str) -> Gain | None:
    first, second = result["arms"][ours], result["arms"][theirs]
    a, b = objective_value(result, first), objective_value(result, second)
    if a is None or b is None or not b:
        return None
    stderr = paired_stderr(result, ours, theirs)
    if stderr is None:
        stderr = math.hypot(objective_stderr(result, first), objective_stderr(result, second))
    noise = _TWO_SIDED_95 * stderr / abs(b)
    losses = [
        (first["per_domain"][name]["loss_nats"], second["per_domain"][name]["loss_nats"])
        for name in domain_names(result)
        if name in (first.get("per_domain") or {}) and name in (second.get("per_domain") or {})
    ]
    better = sum(mine < other for mine, other in losses)
    return Gain(ours, theirs, a, b, (a - b) / b, noise, better, len(losses))


def gain_sentence(gain: Gain, objective: str) -> str:
    """One honest sentence."""
    size = units.share(abs(gain.relative))
    interval = f" (±{units.share(gain.noise)})" if gain.noise else ""
    domains = f"; lower loss on {gain.better_domains} of {gain.n_domains} domains" if gain.n_domains else ""
    if gain.verdict == "better":
        return f"{size}{interval} lower {objective} than {gain.baseline}{domains}."
    if gain.verdict == "worse":
        return f"{size}{interval} higher {objective} than {gain.baseline}: deciding did not pay here{domains}."
    direction = "lower" if gain.relative < 0 else "higher"
    return f"No measurable difference to {gain.baseline}: {objective} is {size} {direction}{interval}{domains}."


def headline(result: Result) -> str:
    """The answer in one line."""
    found = gains(result)
    if not (result.get("arms") or {}):
        return "Not finished: no arm has been evaluated yet."
    if not found:
        return "Trained, and nothing to compare with: the recipe has one kind of arm only."
    objective = objective_name(result)
    verdicts = {gain.verdict for gain in found}
    if verdicts == {"better"}:
        parts = [f"{units.share(-gain.relative)} under {_of(gain, found)}" for gain in found]
        return f"The decided mixture lowers the {objective}: {', '.join(parts)}."
    if verdicts == {"even"}:
        return f"No measurable gain: the {objective} differs from every other arm by less than the noise."
    if "better" not in verdicts:
        return f"No gain: the decided mixture does not lower the {objective} against any other arm."
    won = ", ".join(f"{units.share(-gain.relative)} under {_of(gain, found)}" for gain in found if _won(gain))
    lost = ", ".join(_of(gain, found) for gain in found if not _won(gain))
    return f"The decided mixture's {objective} is {won}; no gain against {lost}."


def _won(gain: Gain) -> bool:
    return gain.verdict == "better"


def _of(gain: Gain, found: list[Gain]) -> str:
    several = len({other.arm for other in found}) > 1
    return f"{gain.baseline} ({gain.arm})" if several else gain.baseline


@dataclass(frozen=True)
class Cost:
    """What an arm spent.

    Attributes:
        training_flops: training steps alone, what an arm without decisions spends.
        decision_flops: probes and candidate evaluations of its decisions, without cross-checks.
        cross_check_flops: other decision modes, run for comparison only.
        overhead: decision_flops / training_flops, None if unknown.
    """

    training_flops: float | None
    decision_flops: float
    cross_check_flops: float
    overhead: float | None


def cost(result: Result, arm_name: str) -> Cost:
    """Cost of one arm; from its decisions where they state it, else from its FLOPs by part."""
    arm = (result.get("arms") or {}).get(arm_name) or {}
    parts = arm.get("flops_by_part") or {}
    own = [decision for decision in result.get("decisions") or [] if decision.get("arm") == arm_name]
    checks = sum((decision.get("flops_by_part") or {}).get("cross_checks") or 0.0 for decision in own)
    stated = [decision["flops"] for decision in own if decision.get("flops") is not None]
    spent = sum(stated) - checks if stated else parts.get("probes") or 0.0
    training = parts.get("training")
    overhead = spent / training if training else None
    return Cost(training, spent, checks or parts.get("cross_checks") or 0.0, overhead)


def cost_sentence(result: Result, arm_name: str) -> str:
    """What the decision cost, against training alone."""
    spent = cost(result, arm_name)
    if spent.overhead is None:
        return "Cost of the decision: not recorded yet."
    text = (
        f"Deciding cost {units.flops(spent.decision_flops)}, {units.share(spent.overhead)} on top of "
        f"{units.flops(spent.training_flops)} of training."
    )
    if spent.cross_check_flops:
        text += (
            f" Cross-checks by other modes, which are optional, took a further {units.flops(spent.cross_check_flops)}."
        )
    return text
