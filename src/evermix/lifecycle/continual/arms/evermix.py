"""Arm `evermix` (OP-Mix, arXiv 2605.15220): probes of the model itself decide every stage's mixture."""

from __future__ import annotations

from collections.abc import Sequence

from evermix.lifecycle.continual.arms.base import Outcome, on_mixture, start_mixture
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.deciding import decide_stage
from evermix.lifecycle.continual.learner import Learner
from evermix.recipe.timeline import Stage


def evermix(bench: LifeBench, learner: Learner, stages: Sequence[Stage]) -> Outcome:
    """Decide the last stage's mixture, then train it."""
    stage = stages[-1]
    decision = decide_stage(bench, learner, stage)
    if decision is None:
        return on_mixture(bench, learner, stage, start_mixture(bench, stage))
    outcome = on_mixture(bench, learner, stage, decision.mixture)
    return Outcome(
        outcome.learner,
        outcome.model,
        outcome.model_id,
        outcome.mixture,
        (*decision.costs, *outcome.costs),
        decision.record,
    )
