"""Arm `naive`: only what is new, nothing replayed."""

from __future__ import annotations

from collections.abc import Sequence

from evermix.lifecycle.continual.arms.base import Outcome, blended, on_mixture, on_start
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Learner
from evermix.recipe.timeline import Phase


def naive(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train the last stage on its new domains alone."""
    stage = stages[-1]
    if not stage.number:
        return on_start(bench, learner, stage)
    return on_mixture(bench, learner, stage, blended(bench, stage, 1.0, None))
