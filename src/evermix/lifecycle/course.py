"""Course: the training of a phase as far as it has come, on a trunk or not, cut where its rate begins to fall.

Up to there the rate is constant after the warm-up, whatever follows: the piece is named by that (`LearningRate.until`),
and stays as a checkpoint with its optimiser. Trainings of other lengths that are cut there too have it in common.

On a trunk the rate stays constant to the phase's end, so that the next phase goes on with the same optimiser and
without a warm-up. What is judged is a branch: it leaves the trunk where the rate would fall, reads the very rows that
the trunk goes on with, and decays. Decisions within that stretch are made from the trunk. Of the last phase nothing
goes on, so that the trunk ends at the fork, or at the last decision after it.

    steps of a phase        0 ------------------- fork_step ------------- n_steps
    trunk, constant         ===================================================>   next phase
    branch, decaying                                  \\______________________ judged
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from evermix.lifecycle.context import RunContext
from evermix.lifecycle.state import Measuring, ModelState, Piece, Stretch, train
from evermix.lifecycle.work import DECAY, part_of
from evermix.mixture import Mixture
from evermix.recipe import TrainingRecipe
from evermix.recipe.phases import Phase
from evermix.results import Compute
from evermix.training.segment import LearningRate, Optimisation


@dataclass(frozen=True)
class Course:
    """A phase's training as far as it has come.

    Attributes:
        phase: which.
        state: the model there, on the trunk if there is one: what decisions are made from, and the next phase.
        branch: on a trunk, what has left it to decay; None before that.
        n_steps: trained, of trunk and branch together.
        compute: of all of them.
    """

    phase: Phase
    state: ModelState
    branch: ModelState | None = None
    n_steps: int = 0
    compute: Compute = field(default_factory=Compute)

    @classmethod
    def begin(cls, state: ModelState, phase: Phase) -> Course:
        """Nothing of the phase is trained yet."""
        return cls(phase, state.with_its_optimizer() if phase.carries_on else state.with_new_optimizer())

    @property
    def start(self) -> int:
        """Steps that the optimiser has done before the phase."""
        return self.state.began

    @property
    def judged(self) -> ModelState:
        """What the phase is judged by: the branch, where there is one."""
        return self.branch or self.state

    @property
    def record(self) -> dict[str, float | str | dict[str, float]]:
        """What there is to tell of a trunk."""
        if not self.phase.on_trunk:
            return {}
        decay = float(self.phase.n_steps - self.phase.fork_step)
        trunk = {} if self.phase.is_last else {"trunk": self.state.run_id}
        return {"optimiser": "carried on" if self.start else "new", "decay_steps": decay, **trunk}

    def on(self, context: RunContext, mixture: Mixture, end: int, part: str | None = None) -> Course:
        """Go on with a mixture up to step `end` of the phase.

        Args:
            context: of the run.
            mixture: over all texts of the run.
            end: optimiser steps of the phase.
            part: under which compute is booked, by default the phase's own; a branch is always booked as decay.
        """
        course, phase, fork = self, self.phase, self.phase.fork_step
        part = part or part_of(context.recipe, phase)
        if course.state.phase_step < min(fork, end):
            course = course._along(context, mixture, min(fork, end), part)
        if end <= fork:
            return course
        if not phase.on_trunk:
            return course._along(context, mixture, end, part)
        course = replace(course, branch=course.branch or course.state)
        if end == phase.n_steps and phase.is_last:
            course = course._decaying(context, mixture, end)
            return replace(course, state=course.judged)
        return course._along(context, mixture, end, part)._decaying(context, mixture, end)

    def through(self, context: RunContext, mixtures: Sequence[tuple[Mixture, int]], measuring: Measuring) -> Course:
        """Go on with an experiment: several mixtures in one piece, losses measured at the end of each.

        Args:
            context: of the run.
            mixtures: over all texts of the run, and up to which step of the phase, before the rate begins to fall.
            measuring: what is read.
        """
        stretches = tuple(Stretch(mixture, self.start + end) for mixture, end in mixtures)
        rate = LearningRate("constant", stretches[-1].end_step, self._schedule.warmup_steps)
        words, part = f"training to step {mixtures[-1][1]}", part_of(context.recipe, self.phase)
        piece = replace(self._piece(mixtures[-1][0], rate, mixtures[-1][1], words, part), stretches=stretches)
        state, compute = train(context, self.state, replace(piece, measuring=measuring))
        return replace(self, state=state, **self._with(compute, self.state, state))

    def _along(self, context: RunContext, mixture: Mixture, end: int, part: str) -> Course:
        """Train `state`: at a constant rate on a trunk, else as the phase's schedule is."""
        rate = self._schedule
        if self.phase.on_trunk:
            rate = LearningRate("constant", self.start + end, rate.warmup_steps)
        words = "training" if end == self.phase.n_steps else f"training to step {end}"
        state, compute = train(context, self.state, self._piece(mixture, rate, end, words, part))
        return replace(self, state=state, **self._with(compute, self.state, state))

    def _decaying(self, context: RunContext, mixture: Mixture, end: int) -> Course:
        """Train the branch."""
        branch, compute = train(context, self.judged, self._piece(mixture, self._schedule, end, "decay", DECAY))
        return replace(self, branch=branch, **self._with(compute, self.judged, branch))

    def _with(self, compute: Compute, before: ModelState, after: ModelState) -> dict[str, Any]:
        return {"compute": self.compute + compute, "n_steps": self.n_steps + after.step - before.step}

    @property
    def _schedule(self) -> LearningRate:
        """The phase's, its steps counted as the optimiser counts them; one that is carried on is warm."""
        schedule = schedule_of(self.phase)
        warmup = 0 if self.start else schedule.warmup_steps
        return replace(schedule, total_steps=self.start + self.phase.n_steps, warmup_steps=warmup)

    def _piece(self, mixture: Mixture, rate: LearningRate, end: int, words: str, part: str) -> Piece:
        return Piece(
            (Stretch(mixture, self.start + end),),
            optimisation_of(self.phase.training, rate),
            self.phase,
            f"{self.phase.name}: {words}",
            part,
            self.start,
            self.n_steps,
        )


def schedule_of(phase: Phase) -> LearningRate:
    """The learning rate's schedule, stretched over the phase."""
    training, n_steps = phase.training, phase.n_steps
    return LearningRate(training.schedule, n_steps, phase.warmup_steps, training.decay_steps(n_steps))


def optimisation_of(training: TrainingRecipe, schedule: LearningRate) -> Optimisation:
    """How weights are updated."""
    return Optimisation(
        learning_rate=training.learning_rate,
        schedule=schedule,
        batch_sequences=training.batch_sequences,
        gradient_accumulation=training.gradient_accumulation,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        workers=training.workers,
        precision=training.precision,
    )
