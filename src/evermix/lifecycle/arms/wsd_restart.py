"""Arm `wsd-restart`: a trunk at a constant rate through all phases; what is judged is a branch of it that decays.

Warm-up-stable-decay: the trunk never decays, so that the next phase goes on from it without a new warm-up, its
optimiser carried on. The branch leaves the trunk `decay_fraction` of a phase's steps before the phase's end and reads
the very rows that the trunk goes on with: when it is judged it has seen as many rows as the model of any other arm. In
the first phase it is an ordinary run with a decay. Trunk and branch are both counted.

Where a phase is updated otherwise than the one before (rate, batch, weight decay, trainer), the optimiser begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from evermix.lifecycle.arms.base import Arm, PhaseOutcome
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.state import ModelState, Piece, optimisation_of, train
from evermix.lifecycle.work import Work, part_of, training
from evermix.mixture import Mixture
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Compute
from evermix.training.segment import LearningRate

_KEPT_BY_OPTIMISER = {"batch_sequences", "gradient_accumulation", "learning_rate", "weight_decay"}


class WsdRestart(Arm):
    """A trunk at a constant rate on the uniform mixture of every phase, judged by decaying branches."""

    name, label, colour, mark = "wsd-restart", "WSD restart", "#9C6B4E", ">"

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """Train the trunk through the last phase, and a branch to its end."""
        phase, carried = phases[-1], _carries_on(phases)
        trunk = state if carried else state.with_new_optimizer()
        mixture = context.over_all(context.named_mixture(phase, "uniform"))
        route = _Route(phase, trunk.step, mixture, part_of(context.recipe, phase))
        computes = list[Compute]()
        if route.fork > trunk.step:
            trunk, compute = train(context, trunk, route.stable(route.fork))
            computes.append(compute)
        branch = trunk
        if route.end > route.fork:
            branch, compute = train(context, trunk, route.decaying())
            computes.append(compute)
            trunk, compute = train(context, trunk, route.stable(route.end))
            computes.append(compute)
        record: dict[str, Any] = {
            "trunk": trunk.run_id,
            "decay_steps": float(route.end - route.fork),
            "optimiser": "carried on" if carried else "new",
        }
        first_row = state.history.n_rows
        return PhaseOutcome(
            trunk, branch.trained, branch.run_id, route.mixture, Compute.sum(computes), first_row, record=record
        )

    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """The trunk, and a branch that decays at the end of the phase."""
        phase = phases[-1]
        decay = round(phase.training.decay_fraction * phase.n_steps) / phase.n_steps
        return [training(recipe, phase), training(recipe, phase, "decay", decay)]


@dataclass(frozen=True)
class _Route:
    """A phase in optimiser steps of the trunk, which has done `start` of them before."""

    phase: Phase
    start: int
    mixture: Mixture
    part: str

    @property
    def end(self) -> int:
        return self.start + self.phase.n_steps

    @property
    def fork(self) -> int:
        return self.end - round(self.phase.training.decay_fraction * self.phase.n_steps)

    @property
    def _warmup(self) -> int:
        return 0 if self.start else round(self.phase.training.warmup_fraction * self.phase.n_steps)

    def stable(self, end: int) -> Piece:
        """The trunk up to step `end`."""
        rate = LearningRate("constant", end, self._warmup)
        return self._piece(rate, end, "trunk", self.part, is_trunk=True)

    def decaying(self) -> Piece:
        """The branch from the fork on: its rate falls linearly to zero."""
        rate = LearningRate("wsd", self.end, self._warmup, self.end - self.fork)
        return self._piece(rate, self.end, "branch", "decay")

    def _piece(self, rate: LearningRate, end: int, what: str, part: str, *, is_trunk: bool = False) -> Piece:
        phase = self.phase
        optimisation = replace(optimisation_of(phase.training, phase.n_steps), schedule=rate)
        label = f"{phase.name}: {what}"
        return Piece(
            self.mixture,
            optimisation,
            end,
            self.end,
            phase.name,
            label,
            phase.recipe.trainer,
            is_trunk,
            part,
            phase.recipe.distillation,
        )


def _carries_on(phases: Sequence[Phase]) -> bool:
    """Whether the optimiser of the phase before fits this one: it keeps its rates, and rows are counted in batches."""
    if len(phases) < 2:
        return False
    before, now = (_updates(phase) for phase in phases[-2:])
    return before == now


def _updates(phase: Phase) -> dict[str, Any]:
    return {"trainer": phase.recipe.trainer, **phase.training.model_dump(include=_KEPT_BY_OPTIMISER)}
