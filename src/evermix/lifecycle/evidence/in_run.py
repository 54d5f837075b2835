"""Evidence by experiments within the run: it trains on designed mixtures, and its own held-out losses answer.

No training is spent on deciding, only the reading of some held-out text after every segment. An experiment is centred
on the mixture in force, so that on average it is trained as without it. After each the law of responses
(laws/response.py) decides anew; what earlier experiments found is its prior, which ages. Whether a change is worth it
is asked of the same slopes, drawn from all that they leave open: with no expected gain the mixture in force stays.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.deciding.by_law import LawDecision, LawProblem, decide_by_law
from evermix.designs.balanced import balanced_design
from evermix.domains import DomainSet
from evermix.laws.base import MixingLaw
from evermix.laws.horizon import Horizon, Moves, learnt
from evermix.laws.response import Estimate, ResponseLaw
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import (
    DecisionRequest,
    Evidence,
    finite,
    guard_of,
    named,
    named_references,
    positive,
)
from evermix.lifecycle.evidence.timetable import Timetable, timetable
from evermix.lifecycle.evidence.worth import DRAWS, INTERVAL, STAYS, expected_after
from evermix.lifecycle.state import Measuring, ModelState
from evermix.lifecycle.work import Work
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Compute, Decision, ResponseRecord, SegmentRecord
from evermix.results.run_result import EvidenceName

Floats = npt.NDArray[np.float64]
KL = 0.25  # in spreads of the predicted objective
_TREND_ERROR = 0.3  # standard deviation, of the mean fall that was foretold
_AGEING = 0.5  # of a response: the standard error that it gains from one experiment to the next
_NOT_RESAMPLED = "segments of one run are no independent runs: intervals are of slopes drawn from what they leave open"


class InRunEvidence(Evidence):
    """Segments of the run itself."""

    name: EvidenceName = "in-run"
    before_phases = False

    def request(
        self, context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str
    ) -> DecisionRequest | None:
        """None: nothing is known before a phase."""
        return None

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """When and on how much text is measured."""
        planned = _planned(context.recipe, request.phase)
        return [planned.begin, planned.experiments, planned.evaluation_sequences]

    def experiment(
        self, context: RunContext, state: ModelState, phase: Phase, centre: Mixture, number: int
    ) -> list[tuple[Mixture, int]]:
        """The segments of an experiment around the mixture in force: over all texts, and up to which step of the phase.

        Args:
            context: of the run.
            state: the model when it begins.
            phase: in which.
            centre: over the phase's domains.
            number: of the experiment, from 0.

        Raises:
            ConstraintError: if no mixture is allowed.
        """
        asked, ends = context.recipe.decision.experiments, _planned(context.recipe, phase).experiments[number]
        levels = asked.later_levels if number and asked.later_levels is not None else asked.levels
        rng = np.random.default_rng([context.recipe.seed, phase.number, number])
        drawn, n_rows = (
            balanced_design(centre, len(ends), levels, rng),
            phase.n_rows - state.phase_step * phase.batch_rows,
        )
        allowed = [context.within_rules(state.history, mixture, n_rows) for mixture in drawn]
        return [(context.over_all(mixture), end) for mixture, end in zip(allowed, ends, strict=True)]

    def measuring(self, context: RunContext, phase: Phase) -> Measuring:
        """What is read at the end of every segment."""
        return Measuring(phase.domains, _planned(context.recipe, phase).evaluation_sequences)

    def measure(self, context: RunContext, state: ModelState, request: DecisionRequest) -> SegmentsMeasured:
        """What was measured on the way."""
        phase, planned = request.phase, _planned(context.recipe, request.phase)
        done = [ends for ends in planned.experiments if ends[-1] <= state.phase_step]
        starts = [planned.begin, *(ends[-1] for ends in done)]
        steps = [(start, *ends) for start, ends in zip(starts, done, strict=False)]
        n_read = len(steps[-1]) - (len(steps) > 1)  # where an experiment begins was read by the one before
        n_tokens = n_read * context.heldout(phase.domains, "decision", planned.evaluation_sequences).n_tokens
        seconds = sum(each.seconds for each in state.measured[-n_read:])
        compute = Compute.of("evaluation", context.size.evaluation(n_tokens), n_tokens, seconds)
        experiments = tuple(_segments(state, request, each) for each in steps)
        return SegmentsMeasured(request.components.leaves, experiments, compute)

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """What is read."""
        planned = timetable(recipe, phase)
        return [] if planned is None else planned.work(recipe, phase)


@dataclass(frozen=True)
class Segments:
    """An experiment: the segment before it and its own, in order.

    Attributes:
        steps: at which they end.
        tokens: of the phase until then, shape (segments,).
        mixtures: over the phase's domains, shape (segments, domains).
        losses: of held-out text at the end, shape (segments, domains).
    """

    steps: tuple[int, ...]
    tokens: Floats
    mixtures: Floats
    losses: Floats


@dataclass(frozen=True)
class SegmentsMeasured:
    """The experiments so far; the last is the one after which is decided.

    Attributes:
        domains: of the phase.
        experiments: in order.
        compute: of what was read since the decision before.
    """

    domains: DomainSet
    experiments: tuple[Segments, ...]
    compute: Compute

    @property
    def observations(self) -> Observations:
        """The last experiment's segments as runs."""
        last = self.experiments[-1]
        return Observations(self.domains, last.mixtures, self.domains.names, last.losses)

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """The optimum of the law of responses, or the mixture in force where no gain is expected of a change."""
        started, names = time.monotonic(), request.phase.domains
        with context.reporter.part("decision", f"deciding {request.label}", None):
            law, in_force = self.law(context, request), _in_force(request)
            found = decide_by_law(_problem(context, state, request, law))
            slopes = law.drawn_slopes(DRAWS, np.random.default_rng([context.recipe.seed, request.at_step]))
            gained = self._spent(context, request) * law.fall_per_log_token
            expected = expected_after(law, found.problem.objective, found.mixture, in_force, slopes, gained)
            if expected.gain <= 0 and not context.recipe.decision.always and _may_stay(context, state, request, found):
                expected = expected.model_copy(update={"stays": True})
        mixture = in_force if expected.stays else found.mixture
        references = {"chosen": mixture, "so far": in_force, **named_references(context, request)}
        objective = found.problem.objective
        values = {name: finite(float(objective.value(law.predict(m.weights)))) for name, m in references.items()}
        return Decision(
            **request.describe(context, state, mixture),
            evidence="in-run",
            mode="in-run",
            prior=dict(found.problem.prior.as_dict),
            kl_weight=found.kl.weight,
            kl_source=found.kl.source,
            binding=() if expected.stays else found.proposal.binding,
            status=STAYS if expected.stays else found.proposal.status,
            base_loss_nats=named(names, law.level_),
            horizon=named(names, np.broadcast_to(law.horizon_.factor, len(names))),
            segments=self._records(context, request),
            responses=_responses(law, names, slopes),
            expected=expected,
            predicted_loss_nats=named(names, law.predict(mixture.weights)),
            predicted_objective=values,
            ceilings=_ceilings(found, names),
            assessment_absent=found.assessment_absent,
            compute=self.compute + Compute.of("evaluation", 0.0, 0.0, time.monotonic() - started),
        )

    def law(self, context: RunContext, request: DecisionRequest) -> ResponseLaw:
        """That of the last experiment: what earlier ones found is its prior, what came of them its horizon."""
        total = float(context.mean_length(context.over_all(request.prior)) * request.phase.n_rows)
        names, horizon, moves = request.phase.domains, Horizon(), list[Moves]()
        before: ResponseLaw | None = None
        for each in self.experiments:
            centre = _in_force(request).weights if each is self.experiments[-1] else each.mixtures[1:].mean(axis=0)
            fitted = partial(_fitted, request, each, total, centre, None if before is None else _aged(before.response_))
            law = fitted(horizon)
            if before is not None:
                moves.append(came_of(before, law, names))
                horizon = learnt(Horizon(), moves, names)
                law = fitted(horizon)
            before = law
        assert before is not None, "it is decided after an experiment"
        return before

    def _spent(self, context: RunContext, request: DecisionRequest) -> float:
        """FLOPs of reading, as a part of the phase's training."""
        phase = request.phase
        trained = context.size.training(context.mean_length(context.over_all(request.prior)) * phase.n_rows)
        return self.compute.flops / trained

    def _records(self, context: RunContext, request: DecisionRequest) -> tuple[SegmentRecord, ...]:
        names = request.phase.domains
        return tuple(
            SegmentRecord(
                experiment=number,
                step=step,
                n_tokens=float(tokens),
                mixture=positive(Mixture.normalised(request.components.leaves, mixture)),
                loss_nats=named(names, losses),
            )
            for number, each in enumerate(self.experiments)
            for step, tokens, mixture, losses in zip(each.steps, each.tokens, each.mixtures, each.losses, strict=True)
        )


def _in_force(request: DecisionRequest) -> Mixture:
    assert request.in_force is not None, "it is a decision on the way"
    return request.in_force


def _may_stay(context: RunContext, state: ModelState, request: DecisionRequest, found: LawDecision) -> bool:
    """Whether the rules and guards allow the mixture in force for the rest."""
    in_force, most = _in_force(request), found.problem.ceilings
    is_guarded = most is None or bool((found.problem.law.predict(in_force.weights) <= most).all())
    return is_guarded and context.within_rules(state.history, in_force, request.n_rows) is in_force


def _fitted(
    request: DecisionRequest, seen: Segments, total: float, centre: Floats, earlier: Estimate | None, horizon: Horizon
) -> ResponseLaw:
    law = ResponseLaw(request.components.own, seen.tokens, total, centre, horizon, earlier)
    return law.fit(Runs.of(seen.mixtures, seen.losses))


def _aged(response: Estimate) -> Estimate:
    """What an experiment has found, as the next one may rely on it."""
    return Estimate(response.value, np.hypot(response.error, _AGEING * response.value))


def came_of(before: ResponseLaw, after: ResponseLaw, names: tuple[str, ...]) -> Moves:
    """What the change of mixture between two experiments foretold by the end of the second, and what came.

    With t of T tokens seen by the first and t' by the second, a part w = log(t'/t) / log(T/t) of the way, the slope is
    (1 - w) + w h of what it is at a horizon of 1:
        l' - l + w F = -((1 - w) + w h) (b / h) log(p'/p) + c,   F the fall that was foretold until the end
    """
    way = 1 - after.log_rest / before.log_rest
    slope = before.slope_ / before.horizon_.factor
    moved = -slope * (before.logs(after.centre_) - before.logs(before.centre_))
    fall = way * np.maximum(before.fall_.value, 0.0)
    realised = after.level_ - before.level_ + fall - (1 - way) * moved
    return Moves(named(names, way * moved), named(names, realised), _TREND_ERROR * float(fall.mean()))


def _planned(recipe: Recipe, phase: Phase) -> Timetable:
    found = timetable(recipe, phase)
    assert found is not None, "experiments are asked for"
    return found


def _segments(state: ModelState, request: DecisionRequest, steps: tuple[int, ...]) -> Segments:
    """What the model was trained on in the segments that end at these steps of the phase, and its losses there."""
    phase, schedule = request.phase, state.history.schedule
    assert schedule is not None, "the model was trained"
    first = state.history.n_rows - state.phase_step * phase.batch_rows
    measured = {each.step: each for each in state.measured}
    rows = [first + step * phase.batch_rows - 1 for step in steps]
    mixtures = np.array([[schedule.mixture_at(row)[name] for name in phase.domains] for row in rows])
    losses = np.array([[measured[step].loss_nats[name] for name in phase.domains] for step in steps])
    return Segments(steps, np.array([measured[step].n_tokens for step in steps]), mixtures, losses)


def _problem(context: RunContext, state: ModelState, request: DecisionRequest, law: ResponseLaw) -> LawProblem:
    decision, names = context.recipe.decision, request.phase.domains
    guards = [guard_of(context, request, asked) for asked in decision.guards]

    def ceilings(by: MixingLaw) -> Floats | None:
        rows = [guard.ceilings(by.predict(guard.reference.weights), names) for guard in guards]
        return np.min(rows, axis=0) if rows else None

    return LawProblem(
        law,
        context.objective(names, "decision"),
        request.components.bounds(context, state.history, request.n_rows),
        request.components.prior(request.prior),
        _NOT_RESAMPLED,
        KL if decision.given_kl is None else decision.given_kl,
        decision.kl_weight,
        ceilings=ceilings if guards else None,
        seed=context.recipe.seed + request.phase.number + request.at_step,
    )


def _ceilings(found: LawDecision, names: tuple[str, ...]) -> dict[str, float] | None:
    """Greatest loss that the guards allow, of each domain that has one; None without guards."""
    most = found.problem.ceilings
    if most is None:
        return None
    return {name: float(value) for name, value in zip(names, most, strict=True) if np.isfinite(value)}


def _responses(law: ResponseLaw, names: tuple[str, ...], slopes: Floats) -> dict[str, ResponseRecord]:
    low, high = np.percentile(slopes, INTERVAL, axis=0)
    columns = (law.response_.value, law.response_.error, law.fall_.value, law.slope_, low, high)
    fields = ("response", "stderr", "fall", "slope", "low", "high")
    return {
        name: ResponseRecord(**dict(zip(fields, map(float, row), strict=True)))
        for name, *row in zip(names, *columns, strict=True)
    }
