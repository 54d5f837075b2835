"""Arm `oracle`: the stage trained at every share of a grid, and the best kept: what a decision could gain.

Its choice is made on the held-out text that it is judged by. What it costs is counted like everything else.
"""

from __future__ import annotations

from collections.abc import Sequence

from evermix.lifecycle.continual.arms.base import Outcome, on_start, train_stage
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Cost, Learner
from evermix.lifecycle.continual.scoring import score
from evermix.lifecycle.continual.sharing import Sharing
from evermix.recipe.timeline import Phase

SHARES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8)


def oracle(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train the last stage at every share of its new domains, the old ones in their proportions."""
    stage = stages[-1]
    sharing = Sharing.of(bench, learner.life, stage)
    if sharing is None or not stage.new:
        return on_start(bench, learner, stage)
    objective = bench.objective(stage.domains)
    costs: list[Cost] = []
    tried: dict[float, tuple[float, Learner]] = {}
    for share in SHARES:
        mixture = bench.over_all(sharing.mixture_of(share, stage.new))
        reached, cost = train_stage(bench, learner, stage, mixture)
        assert reached.checkpoint is not None  # it was trained
        scored = score(bench, reached.run_id, reached.checkpoint, stage.domains)
        costs += [cost, scored.cost]
        tried[share] = (float(objective.value(scored.loss_nats)), reached)
    best = min(tried, key=lambda share: tried[share][0])
    reached = tried[best][1]
    assert reached.checkpoint is not None  # it was trained
    mixture = bench.over_all(sharing.mixture_of(best, stage.new))
    record = {"new_share": best, "sweep": {str(share): value for share, (value, _) in tried.items()}}
    return Outcome(reached, reached.checkpoint, reached.run_id, mixture, tuple(costs), record)
