"""Arm `fixed-replay`: 90% new, 10% spread evenly over what was learnt before (METHODS 2, baselines)."""

from __future__ import annotations

from collections.abc import Sequence

from evermix.lifecycle.continual.arms.base import Outcome, blended, on_mixture, on_start, spread
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Learner
from evermix.recipe.timeline import Phase

NEW_SHARE = 0.9


def fixed_replay(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train the last stage with a fixed share of replay."""
    stage = stages[-1]
    if not stage.number:
        return on_start(bench, learner, stage)
    old = spread(bench, stage.known) if stage.known else None
    return on_mixture(bench, learner, stage, blended(bench, stage, NEW_SHARE, old))
