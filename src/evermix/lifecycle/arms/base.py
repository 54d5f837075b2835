"""Arm: a way to go through the phases of a run, from one model state to the next. One class each, one registry line."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from evermix.lifecycle.context import RunContext
from evermix.lifecycle.course import Course
from evermix.lifecycle.evidence.probe_budget import decided_at
from evermix.lifecycle.evidence.timetable import timetable
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work, trainings
from evermix.mixture import Mixture
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Compute, Decision, Expectation

ArmRecord = dict[str, float | str | dict[str, float]]


@dataclass(frozen=True)
class PhaseOutcome:
    """A phase that an arm has gone through.

    Attributes:
        state: what goes on into the next phase.
        judged: what the phase is judged by: on a trunk its branch, else the same.
        mixture: what was trained on last, over all texts of the run.
        compute: of everything the arm did.
        first_row: of their history that belongs to the phase.
        decisions: that it made.
        stayed: what deciding was expected to gain, where none was made because of that.
        record: what else it has to tell.
    """

    state: ModelState
    judged: ModelState
    mixture: Mixture
    compute: Compute
    first_row: int
    decisions: tuple[Decision, ...] = ()
    stayed: Expectation | None = None
    record: ArmRecord = field(default_factory=dict)


class Arm(ABC):
    """A way to go through phases.

    Attributes:
        name: in recipes. label: for readers. colour, mark: in every plot (a mark of matplotlib).
        decides: whether it spends compute on choosing mixtures beyond that of its training; then baselines are given
            as much (`lifecycle/equal_compute.py`).
    """

    name: ClassVar[str]
    label: ClassVar[str]
    colour: ClassVar[str]
    mark: ClassVar[str]
    decides: ClassVar[bool] = False

    @abstractmethod
    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """Go through the last of the phases so far.

        Raises:
            EvermixError: if a decision cannot be made, or a training cannot be done.
        """

    @abstractmethod
    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """What it will do in the last of the phases so far."""


class MixtureArm(Arm):
    """An arm that trains every phase on one mixture which costs nothing to choose."""

    @abstractmethod
    def mixture(self, context: RunContext, phase: Phase) -> Mixture:
        """What the phase is trained on, over its own domains."""

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """Train the last phase on its mixture."""
        phase = phases[-1]
        return on_mixture(context, state, phase, self.mixture(context, phase))

    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """The training of the phase."""
        return trainings(recipe, phases[-1])


def on_mixture(context: RunContext, state: ModelState, phase: Phase, mixture: Mixture) -> PhaseOutcome:
    """The outcome of training a phase on one mixture over its domains.

    Where probes decide on the way, the start is trained in pieces that end where they decide: arms that begin alike
    share them, and the weights are the same. Not within a branch: a trunk beside it would be there for that alone. A
    phase that is lengthened is cut where the recipe's own begins to decay, too: up to there they are the same.
    """
    over_all, course = context.over_all(mixture), Course.begin(state, phase)
    shared = context.recipe.decided_by == "probes" and phase.recipe.kind == "pretrain"
    is_start = mixture == context.named_mixture(phase)
    shared = shared and timetable(context.recipe, phase) is None
    ends = decided_at(context.recipe, phase) if shared and is_start else ()
    ends = (*ends, phase.own_fork) if phase.extra_steps else ends
    if phase.on_trunk:
        ends = tuple(end for end in ends if end <= phase.fork_step)
    for end in (*ends, phase.n_steps):
        course = course.on(context, over_all, end)
    return trained(state, course, over_all)


def trained(before: ModelState, course: Course, mixture: Mixture) -> PhaseOutcome:
    """The outcome of a training that has come to the end of its phase."""
    first_row = before.history.n_rows
    return PhaseOutcome(course.state, course.judged, mixture, course.compute, first_row, record=course.record)
