"""The target model on the proposed mixture and on those it is compared with."""

from __future__ import annotations

from typing import Any

from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.olmix.workshop import Workshop
from evermix.lifecycle.result import ArmResult, arm_row, comparisons
from evermix.lifecycle.segments import TrainedTo, train_to
from evermix.lifecycle.workbench import Workbench, initial_size
from evermix.mixture import Mixture
from evermix.models.loading import load_to_score
from evermix.recipe.whole import Arm
from evermix.schedule import MixtureSchedule
from evermix.tasks import open_tasks


def train_targets(shop: Workshop, mixtures: dict[Arm, Mixture]) -> dict[str, Any]:
    """Train the target on each mixture; per arm its row of the result, and the paired comparisons of all."""
    if not mixtures:
        return {"arms": {}, "comparisons": []}
    bench = Workbench(shop.recipe, shop.project, shop.store, initial_size(shop.recipe, shop.store), shop.reporter)
    arms: dict[str, ArmResult] = {}
    for arm, mixture in mixtures.items():
        reached = train_to(bench, arm, None, MixtureSchedule.constant(mixture), bench.total_steps)
        arms[arm] = ArmResult(arm, reached, ())
    rows = {name: arm_row(bench, arm) | {"tasks": _task_scores(shop, arm.reached)} for name, arm in arms.items()}
    return {"arms": rows, "comparisons": comparisons(bench, arms)}


def _task_scores(shop: Workshop, reached: TrainedTo) -> dict[str, dict[str, float | None]]:
    """Every task's metrics of a trained target, those that only the report sees among them; scored once."""
    tasks = open_tasks(shop.recipe.tasks, shop.recipe.base)
    if not tasks:
        return {}
    key = content_hash([[task.name, task.fingerprint] for task in tasks])
    kept = reached.checkpoint.parent / f"tasks-{key}.json"
    if not kept.exists():
        model = load_to_score(reached.checkpoint)
        scores: dict[str, dict[str, float | None]] = {}
        with shop.reporter.part("evaluation", "scoring tasks", len(tasks)) as report:
            for done, task in enumerate(tasks):
                for name, score in task.score(model, shop.store.tokenizer).items():
                    scores[name] = {"value": score.value, "standard_error": score.standard_error}
                report(done + 1)
        write_json(kept, {"scores": scores})
    return dict(read_record(kept, "scores")["scores"])
