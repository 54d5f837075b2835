"""The timetable of experiments within a run: when each segment ends, when is decided, on how much text is measured.

The run trains on its start up to step `begin`; then experiments follow each other, each of n segments, and at the end
of each is decided. Segments grow with the run, t_(k+1) = g t_k, so that each is the same part of what was learnt before
it and each experiment reaches G = g^n = 2.4 times as far as the one before: decisions at 1, 2.4, 5.8 times the tokens
of the first one, the last before the learning rate decays.

The first begins after warm-up and plateau: at 13% of the steps, in long runs earlier, but no earlier than at 4%, and
not before a segment is long enough to hold 50 rows of every domain of a uniform start. Where decision points are given,
experiments end there.

With M = 1 + the number of segments, m domains, S steps of b rows, a part B of the training's FLOPs (6 N per token
trained on, 2 N per token read) pays for q rows of held-out text per domain and measurement:

    2 M m q <= B 6 b S,   4 <= q

Where deciding is not expected to be worth its reading (worth.py), there is none, unless decision points are given or
decision.always is.
Later experiments are left out, the last first, for as long as q would be under 8; none of those that are asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from evermix.lifecycle.evidence.worth import prospect_of_experiments
from evermix.lifecycle.work import READING, TRAINING, Work
from evermix.recipe import Recipe
from evermix.recipe.decision import ExperimentRecipe
from evermix.recipe.phases import Phase
from evermix.results import Expectation

_GROWTH = 2.4
_BEGIN, _EARLIEST = 0.13, 0.04
_ROWS_PER_DOMAIN = 50
_LEAST_SEQUENCES, _ENOUGH_SEQUENCES = 4, 8
_NOTHING = Expectation(gain=0.0, low=0.0, high=0.0, probability=0.0)


@dataclass(frozen=True)
class Timetable:
    """Experiments within a phase, in its optimiser steps.

    Attributes:
        begin: up to which it trains on the start.
        experiments: per experiment, the steps at which its segments end; at the last of each is decided. None at all
            where deciding is not expected to be worth what it costs.
        evaluation_sequences: held-out sequences per domain read at every measurement.
        expected: of deciding, before anything is known of the run.
    """

    begin: int
    experiments: tuple[tuple[int, ...], ...]
    evaluation_sequences: int
    expected: Expectation

    @property
    def decided_at(self) -> tuple[int, ...]:
        """Steps at which is decided."""
        return tuple(ends[-1] for ends in self.experiments)

    @property
    def n_measurements(self) -> int:
        """At the beginning of the first experiment, and at every segment's end."""
        return 1 + sum(map(len, self.experiments)) if self.experiments else 0

    def work(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """What reading for decisions costs."""
        tokens = self.evaluation_sequences * len(phase.domains) * recipe.corpus.sequence_length
        return [Work("evaluation", self.n_measurements * tokens, READING)]


def timetable(recipe: Recipe, phase: Phase) -> Timetable | None:
    """The experiments of a phase; None where nothing is decided in it by such."""
    if not recipe.experiments_in(phase):
        return None
    asked, last = recipe.decision.experiments, _last_step(phase)
    begin = _begin(asked, phase, recipe.decision.at)
    points = [round(f * phase.n_steps) for f in recipe.decision.at] if recipe.decision.at else _points(begin, last)
    if asked.later_levels is None:
        points = points[:1]
    experiments, start = list[tuple[int, ...]](), begin
    for point in points:
        experiments.append(_ends(start, point, asked.segments))
        start = experiments[-1][-1]
    n = len(experiments)
    while recipe.decision.at is None and n > 1 and _affordable(recipe, phase, n) < _ENOUGH_SEQUENCES:
        n -= 1
    del experiments[n:]
    wished = asked.evaluation_sequences or max(_LEAST_SEQUENCES, _affordable(recipe, phase, len(experiments)))
    found = Timetable(begin, tuple(experiments), min(wished, recipe.corpus.heldout_sequences), _NOTHING)
    expected = _expected(recipe, phase, found)
    stays = expected.stays and recipe.decision.at is None and not recipe.decision.always
    return replace(
        found, experiments=() if stays else found.experiments, expected=expected.model_copy(update={"stays": stays})
    )


def _expected(recipe: Recipe, phase: Phase, planned: Timetable) -> Expectation:
    """Of deciding over the start."""
    read = planned.n_measurements * planned.evaluation_sequences * len(phase.domains)
    return prospect_of_experiments(recipe, phase, READING * read / (TRAINING * phase.n_rows))


def _begin(asked: ExperimentRecipe, phase: Phase, at: tuple[float, ...] | None) -> int:
    S, warmup = phase.n_steps, round(phase.training.warmup_fraction * phase.n_steps)
    first = round(at[0] * S) if at else S
    if asked.begin is not None:
        return max(1, round(asked.begin * S))
    growth = _GROWTH ** (1 / asked.segments) - 1
    long_enough = _ROWS_PER_DOMAIN * len(phase.domains) / (phase.batch_rows * growth)
    wished = min(_BEGIN * S, max(_EARLIEST * S, long_enough))
    latest = min(round(first / _GROWTH), first - asked.segments, round(_BEGIN * S))
    return max(1, min(max(round(wished), 2 * warmup), latest))


def _last_step(phase: Phase) -> int:
    """The last at which is decided: before the learning rate decays."""
    return min(phase.fork_step, round(0.8 * phase.n_steps))


def _points(begin: int, last: int) -> list[int]:
    """Ends of experiments: the first in any case, others while they are early enough."""
    points = [round(begin * _GROWTH)]
    while round(points[-1] * _GROWTH) <= last:
        points.append(round(points[-1] * _GROWTH))
    return points


def _ends(start: int, end: int, n: int) -> tuple[int, ...]:
    """n steps from after `start` to `end` in geometric sequence, at least one apart."""
    wished = np.rint(start * (end / start) ** (np.arange(1, n + 1) / n)).astype(int).tolist()
    ends, before = list[int](), start
    for step in wished:
        before = max(before + 1, step)
        ends.append(before)
    return tuple(ends)


def _affordable(recipe: Recipe, phase: Phase, n_experiments: int) -> int:
    """Rows of every domain that the budget pays for at every measurement."""
    asked = recipe.decision.experiments
    n_measurements = 1 + n_experiments * asked.segments
    allowed = asked.budget * TRAINING * phase.batch_rows * phase.n_steps
    return int(allowed / (READING * n_measurements * len(phase.domains)))
