"""What an arm is: a way to go through one stage, from a learner to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.deciding import start_mixture
from evermix.lifecycle.continual.learner import Cost, Learner, Training, train
from evermix.lifecycle.workbench import optimisation_of
from evermix.mixture import Mixture
from evermix.recipe.timeline import Phase


@dataclass(frozen=True)
class Outcome:
    """A stage that an arm has gone through.

    Attributes:
        learner: what goes on into the next stage.
        model: the checkpoint that the stage is judged by; most often the learner's.
        model_id: hash of all that led to it.
        mixture: what was trained on, over all texts of the life.
        costs: of everything the arm did.
        record: what the arm has to tell, JSON-able.
    """

    learner: Learner
    model: Path
    model_id: str
    mixture: Mixture
    costs: tuple[Cost, ...]
    record: dict[str, Any] = field(default_factory=dict)


Arm = Callable[[LifeBench, Learner, Sequence[Phase]], Outcome]
"""(bench, learner, stages so far, the one to go through last) -> outcome."""


def train_stage(
    bench: LifeBench, learner: Learner, stage: Phase, mixture: Mixture, part: str | None = None
) -> tuple[Learner, Cost]:
    """The whole stage on one mixture (over the life's texts), with an optimiser of its own.

    What comes before the first decision of a life is booked as its prefix, whatever the arm.
    """
    optimisation = optimisation_of(stage.training, stage.n_steps)
    end, label = stage.n_steps, f"{stage.name}: training"
    training = Training(mixture, optimisation, end, end, label, stage.recipe.trainer)
    default = "training" if stage.number else "prefix"
    reached, cost = train(bench, learner.rested(), training, part or default)
    return reached.rested(), cost


def on_mixture(bench: LifeBench, learner: Learner, stage: Phase, mixture: Mixture) -> Outcome:
    """The outcome of training the stage on one mixture."""
    reached, cost = train_stage(bench, learner, stage, mixture)
    assert reached.checkpoint is not None  # it was trained
    return Outcome(reached, reached.checkpoint, reached.run_id, mixture, (cost,))


def on_start(bench: LifeBench, learner: Learner, stage: Phase) -> Outcome:
    """The outcome of training the stage on the recipe's start: the first one, before which nothing was learnt."""
    return on_mixture(bench, learner, stage, first_mixture(bench, stage))


def first_mixture(bench: LifeBench, stage: Phase) -> Mixture:
    """The recipe's start over all texts of the life."""
    return bench.over_all(start_mixture(bench, stage))


def spread(bench: LifeBench, names: Sequence[str], *, by_rows: bool = False) -> Mixture:
    """Uniform over `names`, or in proportion to their rows; over all texts of the life."""
    leaves = bench.leaves(names)
    return bench.over_all(Mixture.natural(leaves) if by_rows else Mixture.uniform(leaves))


def blended(bench: LifeBench, stage: Phase, new_share: float, old: Mixture | None) -> Mixture:
    """`new_share` uniformly over the stage's new domains, the rest over `old`; over all texts of the life."""
    if not stage.new:
        return old if old is not None else spread(bench, stage.domains)
    new = spread(bench, stage.new)
    return new if old is None or new_share >= 1 else Mixture(bench.rows, _blend(old, new, new_share))


def _blend(old: Mixture, new: Mixture, share: float) -> np.ndarray:
    return (1 - share) * old.weights + share * new.weights
