"""Arm `evermix` (OP-Mix, arXiv 2605.15220): probes of the model itself decide every stage's mixture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from evermix.lifecycle.continual.arms.base import Outcome, first_mixture, on_mixture, on_start
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.deciding import decide_on_the_way, decide_stage
from evermix.lifecycle.continual.learner import Cost, Learner, Training, train
from evermix.lifecycle.workbench import decision_steps, optimisation_of
from evermix.recipe.timeline import Phase


def evermix(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Decide the last stage's mixture, then train it; in a pretraining decide on the way."""
    stage = stages[-1]
    if stage.recipe.kind == "pretrain":
        return _pretrain(bench, learner, stage)
    decision = decide_stage(bench, learner, stage)
    if decision is None:
        return on_start(bench, learner, stage)
    outcome = on_mixture(bench, learner, stage, decision.mixture)
    return replace(outcome, costs=(*decision.costs, *outcome.costs), record=decision.record)


def _pretrain(bench: LifeBench, learner: Learner, stage: Phase) -> Outcome:
    """The start mixture up to the first decision, then each decided one up to the next, with one optimiser."""
    at = bench.recipe.decision.at if len(stage.domains) > 1 else ()
    optimisation = optimisation_of(stage.training, stage.n_steps)
    mixture, costs, records = first_mixture(bench, stage), list[Cost](), list[dict[str, Any]]()
    reached = learner.rested()
    for end in (*decision_steps(at, stage.n_steps), stage.n_steps):
        label = f"{stage.name}: training to step {end}"
        training = Training(mixture, optimisation, end, stage.n_steps, label)
        reached, cost = train(bench, reached, training, "training" if records else "prefix")
        costs.append(cost)
        if end < stage.n_steps:
            decision = decide_on_the_way(bench, reached, stage)
            mixture = decision.mixture
            costs += decision.costs
            records.append(decision.record)
    assert reached.checkpoint is not None  # it was trained
    told = records[-1] if len(records) == 1 else {"decisions": records}
    return Outcome(reached.rested(), reached.checkpoint, reached.run_id, mixture, tuple(costs), told if records else {})
