"""Arm `wsd-restart`: a trunk at a constant rate through all stages; what is judged is a branch of it that decays.

Warm-up-stable-decay: the trunk never decays, so that the next stage goes on from it without a new warm-up, its
optimiser carried on. The branch leaves the trunk `decay_fraction` of a stage's steps before the stage's end and reads
the very rows that the trunk goes on with: when it is judged it has seen as many rows as the model of any other arm. In
the first stage it is an ordinary run with a decay. Trunk and branch are both counted.

Where a stage is updated otherwise than the one before (rate, batch, weight decay, trainer), the optimiser begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evermix.lifecycle.continual.arms.base import Outcome, spread
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Learner, Training, train
from evermix.lifecycle.workbench import optimisation_of
from evermix.mixture import Mixture
from evermix.recipe.timeline import Phase
from evermix.training.segment import LearningRate

_BRANCH = "decay"
_KEPT_BY_OPTIMISER = {"batch_sequences", "gradient_accumulation", "learning_rate", "weight_decay"}


def wsd_restart(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train the trunk through the last stage on the uniform mixture of its domains, and a branch to its end."""
    stage, carried = stages[-1], _carries_on(stages)
    trunk = learner if carried else learner.rested()
    route = _Route(bench, stage, trunk.step, spread(bench, stage.domains))
    part, costs = "training" if stage.number else "prefix", []
    if route.fork > trunk.step:
        trunk, cost = train(bench, trunk, route.stable(route.fork), part)
        costs.append(cost)
    branch = trunk
    if route.end > route.fork:
        branch, cost = train(bench, trunk, route.decaying(), _BRANCH)
        costs.append(cost)
        trunk, cost = train(bench, trunk, route.stable(route.end), part)
        costs.append(cost)
    assert branch.checkpoint is not None  # it was trained
    record = {
        "trunk": trunk.run_id,
        "decay_steps": route.end - route.fork,
        "optimiser": "carried on" if carried else "new",
    }
    return Outcome(trunk, branch.checkpoint, branch.run_id, route.mixture, tuple(costs), record)


@dataclass(frozen=True)
class _Route:
    """A stage in optimiser steps of the trunk, which has done `start` of them before."""

    bench: LifeBench
    stage: Phase
    start: int
    mixture: Mixture

    @property
    def end(self) -> int:
        return self.start + self.stage.n_steps

    @property
    def fork(self) -> int:
        return self.end - round(self.stage.training.decay_fraction * self.stage.n_steps)

    @property
    def _warmup(self) -> int:
        return 0 if self.start else round(self.stage.training.warmup_fraction * self.stage.n_steps)

    def stable(self, end: int) -> Training:
        """The trunk up to step `end`."""
        return self._training(LearningRate("constant", end, self._warmup), end, "trunk", is_trunk=True)

    def decaying(self) -> Training:
        """The branch from the fork on: its rate falls linearly to zero."""
        return self._training(LearningRate("wsd", self.end, self._warmup, self.end - self.fork), self.end, "branch")

    def _training(self, rate: LearningRate, end: int, what: str, *, is_trunk: bool = False) -> Training:
        optimisation = replace(optimisation_of(self.stage.training, self.stage.n_steps), schedule=rate)
        label, trainer = f"{self.stage.name}: {what}", self.stage.recipe.trainer
        return Training(self.mixture, optimisation, end, self.end, label, trainer, is_trunk)


def _carries_on(stages: Sequence[Phase]) -> bool:
    """Whether the optimiser of the stage before fits this one: it keeps its rates, and rows are counted in batches."""
    if len(stages) < 2:
        return False
    before, now = (_updates(stage) for stage in stages[-2:])
    return before == now


def _updates(stage: Phase) -> dict[str, Any]:
    return {"trainer": stage.recipe.trainer, **stage.training.model_dump(include=_KEPT_BY_OPTIMISER)}
