"""Decisions of arms that do not probe, in the ledger beside those of `evermix`."""

from __future__ import annotations

from evermix.ledger import content_hash
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Cost, Learner
from evermix.mixture import Mixture
from evermix.recipe.timeline import Phase


def note_decision(bench: LifeBench, learner: Learner, stage: Phase, mode: str, mixture: Mixture, cost: Cost) -> None:
    """Add a `stage-decision` to the ledger, once.

    Args:
        mode: how it was decided: the arm's name.
        mixture: over all texts of the life.
        cost: of the decision beyond trainings that have entries of their own.
    """
    shares = {name: share for name, share in mixture.as_dict.items() if share > 0}
    record = {
        "stage": stage.name,
        "label": f"before {stage.name}",
        "mode": mode,
        "new": list(stage.new),
        "new_share": float(sum(mixture[name] for name in stage.new)),
        "mixture": shares,
        "costs": [vars(cost)],
    }
    bench.project.ledger.append("stage-decision", content_hash([mode, learner.run_id, stage.name, shares]), record)
