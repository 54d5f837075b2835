"""What every verb of `evermix update` does: show the plan, make the update, show what came of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from evermix.cli.options import console, print_json
from evermix.cli.run import show_result

if TYPE_CHECKING:
    from evermix.cli.update_options import UpdateArguments
    from evermix.lifecycle import TextUpdate
    from evermix.recipe import Recipe


def make_update(asked: UpdateArguments, update: TextUpdate) -> None:
    """Plan and, unless only the plan is asked for, make an update.

    Raises:
        EvermixError: if the update does not fit the project, or the strategy cannot be had.
    """
    from evermix import lifecycle
    from evermix.reports.olmix.update_tables import print_update_plan

    recipe, how = asked.recipe(), asked.how()
    progress = console(stderr=True)
    planned = lifecycle.plan_update(recipe, update, how, console=progress)
    content = planned.as_dict
    if not (asked.json and asked.dry_run):
        print_update_plan(content, console() if asked.dry_run else progress)
    _ = planned.plan.chosen  # told before anything is recorded, if it cannot be had
    if asked.dry_run:
        if asked.json:
            print_json(content)
        return
    before = mixture_now(recipe.project_folder)
    result = lifecycle.update(recipe, update, how, console=progress)
    show_result(recipe.project_folder, {"plan": content, "mixture_before": before, **result}, asked.json)


def undo_update(recipe: Recipe, json: bool) -> None:
    """Take the last update back.

    Raises:
        ProjectError: if there is none.
    """
    from evermix import lifecycle

    progress = console(stderr=True)
    before = mixture_now(recipe.project_folder)
    result = lifecycle.undo(recipe, console=progress)
    show_result(recipe.project_folder, {"mixture_before": before, **result}, json)


def mixture_now(project: Path) -> dict[str, float] | None:
    """The mixture that a project has decided so far; None where there is none."""
    from evermix.study import Study

    if not (project / "ledger.sqlite").exists():
        return None
    mixture = Study(project).mixture
    return None if mixture is None else dict(mixture.as_dict)
