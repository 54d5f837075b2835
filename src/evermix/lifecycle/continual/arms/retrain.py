"""Arm `retrain`: a new model at every stage, trained on everything there is for as long as all stages together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evermix.lifecycle.continual.arms.base import Outcome, first_mixture, on_mixture, spread
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Learner
from evermix.recipe.timeline import Phase


def retrain(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train from the first weights on the start mixture (uniform or natural) of the last stage's domains."""
    stage = stages[-1]
    n_steps = sum(each.n_rows for each in stages) // stage.batch_rows
    whole = replace(stage, n_steps=n_steps, first_row=0)
    by_rows = bench.recipe.start == "natural"
    mixture = spread(bench, stage.domains, by_rows=by_rows) if stage.number else first_mixture(bench, stage)
    return on_mixture(bench, Learner.newborn(bench), whole, mixture)
