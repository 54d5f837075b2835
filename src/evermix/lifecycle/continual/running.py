"""A life of several phases, in every order and by every arm that the recipe asks for; resumable at any moment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from evermix.files import write_json
from evermix.ledger import Project
from evermix.lifecycle.continual.arms import ARMS, Outcome
from evermix.lifecycle.continual.bench import LifeBench, open_life
from evermix.lifecycle.continual.changes import check_unchanged, note_begun
from evermix.lifecycle.continual.instruct import check_trainers
from evermix.lifecycle.continual.learner import Learner
from evermix.lifecycle.continual.result import StageRow, assemble, stage_row
from evermix.lifecycle.continual.scoring import check_tasks, score_before
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.stale import drop_stale_result
from evermix.lifecycle.text import corpus_record, pin_tokenizer
from evermix.recipe import Recipe
from evermix.recipe.timeline import Phase

Lives = dict[str, list[list[StageRow]]]


def run(recipe: Recipe, *, console: Console | None = None) -> dict[str, Any]:
    """Run a recipe with phases, or go on where it stopped; returns what `result.json` in the project folder holds.

    Raises:
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    check_trainers(recipe)
    project = Project(recipe.project_folder)
    with project.lock():
        reporter = Reporter(project, console)
        bench = open_life(recipe, project, reporter)
        check_tasks(bench)
        pin_tokenizer(project, bench.store)
        drop_stale_result(project, recipe)
        project.ledger.append("recipe", recipe.fingerprint(), recipe.model_dump(mode="json"))
        project.ledger.append("corpus", bench.rows.fingerprint, corpus_record(bench.store))
        orders = [recipe.timeline(order) for order in recipe.phase_orders]
        check_unchanged(bench, orders)
        before = score_before(bench)
        lives: Lives = {
            arm: [live(bench, arm, stages, in_first_order=not k) for k, stages in enumerate(orders)]
            for arm in recipe.arms
        }
        result = assemble(bench, lives, before)
        write_json(project.folder / "result.json", result)
        project.ledger.append("result", recipe.fingerprint(), result)
        reporter.done()
    return result


def live(bench: LifeBench, arm: str, stages: Sequence[Phase], *, in_first_order: bool = True) -> list[StageRow]:
    """One arm through the stages of one order."""
    learner, rows = Learner.newborn(bench), list[StageRow]()
    for number, stage in enumerate(stages):
        bench.reporter.say(f"{arm}, stage {number + 1} of {len(stages)}: {stage.name}")
        note_begun(bench, stages[: number + 1], in_first_order)
        outcome: Outcome = ARMS[arm](bench, learner, stages[: number + 1])
        rows.append(stage_row(bench, arm, stage, outcome, rows))
        learner = outcome.learner
    return rows
