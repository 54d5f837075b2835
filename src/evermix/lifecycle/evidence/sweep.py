"""Evidence by a sweep: the phase itself, trained at every share of a grid: what a decision could gain.

The choice is made on decision text; what is kept is judged on test text, as every arm is. What it costs is counted too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from evermix.lifecycle.context import RunContext
from evermix.lifecycle.course import Course
from evermix.lifecycle.evidence.base import DecisionRequest, Evidence, decides, finite, named
from evermix.lifecycle.scoring import score
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work, scoring, training
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Compute, Decision
from evermix.results.run_result import EvidenceName

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)


class SweepEvidence(Evidence):
    """The phase at every share of its new domains, the old ones in their proportions."""

    name: EvidenceName = "sweep"

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """The grid, and on how much text its models are scored."""
        return [list(SHARES), context.recipe.corpus.heldout_sequences]

    def measure(self, context: RunContext, state: ModelState, request: DecisionRequest) -> SweepMeasured:
        """Train and score the phase at every share."""
        components, phase = request.components, request.phase
        shares, losses, trained, scored = [], [], list[Compute](), list[Compute]()
        for share in SHARES:
            leaves = components.mixture_of(share, phase.new)
            course = Course.begin(state, phase.off_trunk).on(context, context.over_all(leaves), phase.n_steps)
            scores = score(context, course.state.run_id, course.state.trained, phase.domains, "decision")
            shares.append(components.shares_of(leaves).weights)
            losses.append(scores.loss_nats)
            trained.append(course.compute)
            scored.append(scores.compute)
        observations = Observations(components.components, np.array(shares), phase.domains, np.array(losses))
        return SweepMeasured(observations, tuple(trained), Compute.sum(scored))

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """The phase at every share but the one that is kept, and every model scored."""
        if not decides(phase):
            return []
        return [*[training(recipe, phase)] * (len(SHARES) - 1), scoring(recipe, phase, len(SHARES))]


@dataclass(frozen=True)
class SweepMeasured:
    """The phase at every share; the training of the one that is kept is booked by the arm."""

    observations: Observations
    trained: tuple[Compute, ...]
    scored: Compute

    @property
    def compute(self) -> Compute:
        """Of all trainings and scorings."""
        return Compute.sum((*self.trained, self.scored))

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """The share whose objective is least, without a law between."""
        names, runs, components = request.phase.domains, self.observations, request.components.components
        values = np.atleast_1d(context.objective(names, "decision").value(runs.values))
        best = int(values.argmin())
        rows = [Mixture(components, row) for row in runs.weights]
        others = [compute for k, compute in enumerate(self.trained) if k != best]
        return Decision(
            **request.describe(context, state, rows[best]),
            evidence="sweep",
            mode="best",
            candidates=tuple((dict(row.as_dict), value) for row, value in zip(rows, values.tolist(), strict=True)),
            predicted_loss_nats=named(names, runs.values[best]),
            predicted_objective={"chosen": finite(values[best])},
            status="best of what was tried",
            assessment_absent=f"the best of {len(rows)} candidates, each scored once: nothing is resampled",
            compute=Compute.sum((*others, self.scored)),
        )
