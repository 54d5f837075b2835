"""Pretraining with on-policy decisions (OP-Mix, arXiv 2605.15220): start, probe, decide, go on; and its baselines."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from evermix.files import write_json
from evermix.ledger import Project
from evermix.lifecycle.deciding import decide
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.result import ArmResult, assemble
from evermix.lifecycle.segments import TrainedTo, train_to
from evermix.lifecycle.stale import drop_stale_result
from evermix.lifecycle.text import corpus_record
from evermix.lifecycle.workbench import Workbench, open_workbench
from evermix.recipe import Recipe
from evermix.schedule import MixtureSchedule


def run(recipe: Recipe, *, console: Console | None = None) -> dict[str, Any]:
    """Run a recipe, or go on where it stopped; returns what `result.json` in the project folder holds.

    Raises:
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    project = Project(recipe.project_folder)
    with project.lock():
        reporter = Reporter(project, console)
        bench = open_workbench(recipe, project, reporter)
        drop_stale_result(project, recipe)
        project.ledger.append("recipe", recipe.fingerprint(), recipe.model_dump(mode="json"))
        project.ledger.append("corpus", bench.store.domains.fingerprint, corpus_record(bench.store))
        arms: dict[str, ArmResult] = {arm: run_arm(bench, arm) for arm in recipe.arms}
        result = assemble(bench, arms)
        write_json(project.folder / "result.json", result)
        project.ledger.append("result", recipe.fingerprint(), result)
        reporter.done()
    return result


def run_arm(bench: Workbench, arm: str) -> ArmResult:
    """One arm: `natural` and `uniform` keep their mixture, `evermix` decides at the recipe's decision points."""
    schedule = MixtureSchedule.constant(bench.mixture_named("start" if arm == "evermix" else arm))
    reached: TrainedTo | None = None
    decisions = []
    for end_step in bench.boundaries:
        reached = train_to(bench, arm, reached, schedule, end_step)
        if arm == "evermix" and end_step != bench.total_steps:
            decision = decide(bench, reached)
            decisions.append(decision)
            schedule = schedule.then(end_step * bench.batch_sequences, decision.mixture)
    assert reached is not None  # boundaries always hold the end of the run
    return ArmResult(arm, reached, tuple(decisions))
