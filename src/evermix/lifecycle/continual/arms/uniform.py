"""Arm `uniform` (ERM, uniform replay): the same share for every domain of the stage, old and new alike."""

from __future__ import annotations

from collections.abc import Sequence

from evermix.lifecycle.continual.arms.base import Outcome, on_mixture, spread
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Learner
from evermix.recipe.timeline import Phase


def uniform(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train the last stage on the uniform mixture of its domains."""
    return on_mixture(bench, learner, stages[-1], spread(bench, stages[-1].domains))
