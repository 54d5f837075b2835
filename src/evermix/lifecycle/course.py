"""Course: the training of a phase as far as it has come, cut where its rate begins to fall.

Up to there the rate is constant after the warm-up, whatever follows: the piece is named by that (`LearningRate.until`),
and stays as a checkpoint with its optimiser. Trainings of other lengths that are cut there too have it in common.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from evermix.lifecycle.context import RunContext
from evermix.lifecycle.state import Measuring, ModelState, Piece, Stretch, train
from evermix.lifecycle.work import part_of
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
        state: the model there.
        compute: of the phase's training so far.
    """

    phase: Phase
    state: ModelState
    compute: Compute = field(default_factory=Compute)

    @classmethod
    def begin(cls, state: ModelState, phase: Phase) -> Course:
        """Nothing of the phase is trained yet; the optimiser is new."""
        return cls(phase, state.with_new_optimizer())

    def on(self, context: RunContext, mixture: Mixture, end: int, part: str | None = None) -> Course:
        """Go on with a mixture over all texts up to step `end` of the phase.

        Args:
            context: of the run.
            mixture: over all texts.
            end: optimiser steps of the phase.
            part: under which the compute is booked; by default the phase's own.
        """
        fork, part = self.phase.fork_step, part or part_of(context.recipe, self.phase)
        stops = [fork] if self.state.step < fork < end else []
        course = self
        for stop in (*stops, end):
            course = course._train(context, _piece(self.phase, (Stretch(mixture, stop),), part))
        return course

    def through(self, context: RunContext, stretches: tuple[Stretch, ...], measuring: Measuring) -> Course:
        """Go on with an experiment: several mixtures in one piece, losses measured at the end of each.

        Args:
            context: of the run.
            stretches: over all texts, before the rate begins to fall.
            measuring: what is read.
        """
        piece = _piece(self.phase, stretches, part_of(context.recipe, self.phase))
        return self._train(context, replace(piece, measuring=measuring))

    def _train(self, context: RunContext, piece: Piece) -> Course:
        state, compute = train(context, self.state, piece)
        return replace(self, state=state, compute=self.compute + compute)


def _piece(phase: Phase, stretches: tuple[Stretch, ...], part: str) -> Piece:
    end = stretches[-1].end_step
    return Piece(
        stretches,
        optimisation_of(phase.training, phase.n_steps),
        phase.n_steps,
        phase.name,
        f"{phase.name}: training" + ("" if end == phase.n_steps else f" to step {end}"),
        phase.recipe.trainer,
        part,
    )


def optimisation_of(training: TrainingRecipe, n_steps: int) -> Optimisation:
    """How weights are updated over `n_steps`, the learning rate's schedule stretched over them."""
    schedule = LearningRate(
        training.schedule,
        n_steps,
        round(training.warmup_fraction * n_steps),
        training.decay_steps(n_steps),
    )
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
