"""`evermix run`: the whole lifecycle of one recipe."""

from __future__ import annotations

from typing import Annotated

import typer

from evermix.cli.options import AsJson, RecipeFile, console, print_json


def run(
    recipe: RecipeFile,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan: domains, steps, probes, FLOPs. Train nothing.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Train, decide the mixture on the way, train on, and report.

    Start and resume are the same command: whatever was finished is kept, so an interrupted run goes
    on from its last checkpoint. Ends with a table and <project>/report.html.

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
        plan = lifecycle.plan(loaded)
        if json:
            print_json(plan)
            return
        from evermix.report.plan import print_plan

        print_plan(plan, console())
        return
    result = lifecycle.run(loaded, console=console(stderr=True))
    from evermix.report import report
    from evermix.report.tables import print_result

    page = report(loaded.project_folder)
    if json:
        print_json(result)
        return
    print_result(result, console())
    typer.echo(f"report: {page}")
