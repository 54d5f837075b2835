"""Where a pretraining is decided on the way: whether its steps allow the decisions that a recipe asks for."""

from __future__ import annotations

from collections.abc import Sequence

from evermix.recipe.decision import DecisionRecipe
from evermix.recipe.phases import Phase
from evermix.recipe.yaml_faults import LocatedError

_AT = ("decision", "at")


def least_steps(segments: int) -> int:
    """Steps that a pretraining must have for an experiment: its segments and two before them, in four fifths."""
    return -(-5 * (segments + 2) // 4)


def check_decision_points(
    decision: DecisionRecipe, phase: Phase, in_run: bool, budget: tuple[str | int, ...], tokens_per_step: int
) -> None:
    """Nothing, if a pretraining has steps enough, and every decision falls on a step of its own.

    Args:
        decision: what is asked for.
        phase: the pretraining.
        in_run: whether experiments within it decide; else probes.
        budget: key of its tokens.
        tokens_per_step: of it.

    Raises:
        LocatedError: if the recipe cannot be honoured.
    """
    at = (decision.at or ()) if in_run else decision.probed_at
    segments, total = decision.experiments.segments, phase.n_steps
    least = least_steps(segments) if in_run else 2 * (len(at) + 1)
    if total < least:
        what = f"an experiment of {segments} segments" if in_run else f"{len(at)} decisions on the way"
        message = f"must pay for at least {least} steps of {tokens_per_step} tokens, for {what}"
        raise LocatedError(budget, f"{message} (it pays for {total})")
    ends = [max(1, round(fraction * total)) for fraction in at]
    if in_run:
        _check_experiments(decision, phase, ends)
    if len({*ends, total}) != len(ends) + 1:
        message = f"must fall on different steps before the end, step {total} (they fall on {ends})"
        raise LocatedError(_AT, message)


def _check_experiments(decision: DecisionRecipe, phase: Phase, ends: Sequence[int]) -> None:
    """Where decision points are given: segments enough before each, and none while the learning rate decays."""
    segments, begin = decision.experiments.segments, decision.experiments.begin or 0
    starts = [max(1, round(begin * phase.n_steps)), *ends]
    for start, end in zip(starts, ends, strict=False):
        if end - start < segments:
            message = f"an experiment of {segments} segments must have as many steps before step {end}"
            raise LocatedError(_AT, f"{message} (it has {max(end - start, 0)})")
    if ends and ends[-1] > phase.fork_step:
        message = f"must fall before the learning rate decays, at step {phase.fork_step} (the last is {ends[-1]})"
        raise LocatedError(_AT, message)
