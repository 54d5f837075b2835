"""`evermix run`: the whole lifecycle of one recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from evermix.cli.options import AsJson, RecipeFile, console, print_json

if TYPE_CHECKING:
    from rich.console import Console

    from evermix.recipe import Recipe


def run(
    recipe: RecipeFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan: stages, steps, proxies or probes, FLOPs. Train nothing.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Train, decide the mixture on the way, train on, and report.

    Start and resume are the same command: whatever was finished is kept, so an interrupted run goes
    on from its last checkpoint. Ends with tables and <project>/report.html.

    The recipe's `method` says how it is decided: op-mix probes the model itself on the way, olmix trains a
    swarm of small proxies beforehand, and shows its plan and cost before it starts. A recipe with phases goes
    through all of them, by every arm and in every order that it asks for.

    \b
    Examples:
      evermix run recipe.yaml
      evermix run recipe.yaml --dry-run
      evermix run recipe.yaml --json > result.json
    """
    from evermix.recipe import Recipe

    loaded = Recipe.load(recipe)
    # Imported after the recipe was judged: a typing error should not wait for torch.
    import evermix.lifecycle as lifecycle

    if dry_run:
        show_plan(_plan(loaded), console(), json)
        return
    if loaded.method == "olmix":
        show_plan(_plan(loaded), console(stderr=True), json=False)
    show_result(loaded.project_folder, lifecycle.run(loaded, console=console(stderr=True)), json)


def _plan(recipe: Recipe) -> dict[str, Any]:
    """The plan, and for a swarm that has begun how far it is."""
    import evermix.lifecycle as lifecycle

    plan = lifecycle.plan(recipe)
    if recipe.method == "olmix":
        from evermix.reports.olmix.plans import so_far

        plan["so_far"] = so_far(recipe.project_folder)
    return plan


def show_plan(plan: dict[str, Any], shown_on: Console, json: bool) -> None:
    """The plan as a table or as JSON."""
    if json:
        print_json(plan)
        return
    from evermix.reports.plan import print_plan

    print_plan(plan, shown_on)


def show_result(project: Path, result: dict[str, Any], json: bool) -> None:
    """Write the report, and print the result as tables or as JSON."""
    from evermix.reports import report
    from evermix.reports.tables import print_result

    page = report(project)
    if json:
        print_json(result)
        return
    print_result(result, console())
    typer.echo(f"report: {page}")
