"""`evermix compare`: several arms on one recipe, and the Pareto picture of quality and compute."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from evermix.cli.options import AsJson, RecipeFile, console, print_json
from evermix.errors import RecipeError

if TYPE_CHECKING:
    from evermix.recipe import Recipe

_ARMS = "Arms to run instead of the recipe's, separated by commas, such as evermix,uniform,retrain."
_ORDERS = "So many orders of the phases instead of the recipe's; the first is the recipe's own."


def compare(
    recipe: RecipeFile,
    arms: Annotated[str | None, typer.Option("--arms", metavar="A,B,C", help=_ARMS)] = None,
    orders: Annotated[int | None, typer.Option("--orders", min=1, help=_ORDERS)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show stages and cost of every arm. Train nothing.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Run several arms of one recipe and show what each ends with and what it costs.

    Start and resume are the same command, and what `evermix run` or another comparison has trained in the same
    project is not trained again. Writes report.html, pareto.svg and pareto.png into the project folder.

    A recipe with phases has the arms evermix, natural, uniform, naive, fixed-replay, retrain, mergemix,
    proxy-swarm, lora-merge, wsd-restart and oracle; one without has evermix, natural and uniform.

    \b
    Examples:
      evermix compare recipe.yaml --arms evermix,fixed-replay,retrain
      evermix compare recipe.yaml --arms evermix,uniform,oracle --orders 3 --dry-run
      evermix compare recipe.yaml --json > comparison.json
    """
    from evermix.cli.run import show_plan
    from evermix.recipe import Recipe

    asked = with_arms(Recipe.load(recipe), arms, orders)
    # Imported after the recipe was judged: a typing error should not wait for torch.
    import evermix.lifecycle as lifecycle

    if dry_run:
        show_plan(lifecycle.plan(asked), console(), json)
        return
    _show(asked.project_folder, lifecycle.run(asked, console=console(stderr=True)), json)


def with_arms(recipe: Recipe, arms: str | None, orders: int | None) -> Recipe:
    """The recipe with other arms and orders; as it is where they are None.

    Raises:
        RecipeError: naming the option that does not fit.
    """
    from pydantic import ValidationError

    from evermix.recipe import Recipe
    from evermix.recipe.whole import Arm

    if recipe.method == "olmix":
        raise RecipeError(
            "compare needs a recipe of method op-mix",
            received=recipe.method,
            hint="`evermix run` trains the arms of a swarm and compares them",
        )
    changes: dict[str, Any] = {}
    if arms is not None:
        names = tuple(name.strip() for name in arms.split(",") if name.strip())
        unknown = [name for name in names if name not in get_args(Arm)]
        if unknown or not names:
            raise RecipeError(
                "--arms must be names of arms, separated by commas",
                received=", ".join(unknown) or arms,
                hint=f"known: {', '.join(get_args(Arm))}",
            )
        changes["arms"] = names
    if orders is not None:
        if not recipe.phases:
            raise RecipeError("--orders needs a recipe with phases", received=f"{orders}")
        changes["orders"] = orders
    if not changes:
        return recipe
    try:
        return Recipe.model_validate({**recipe.model_dump(exclude_unset=True), "base": recipe.base, **changes})
    except ValidationError as error:
        message = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        option = " and ".join(f"--{name}" for name in changes)
        raise RecipeError(f"{option} must fit the recipe: {message}") from error


def _show(project: Path, result: dict[str, Any], json: bool) -> None:
    """Report and Pareto picture into the project folder; the comparison as tables or as JSON."""
    from evermix.reports import report
    from evermix.reports.lives.answer import Lives, as_life, comparison
    from evermix.reports.lives.pareto import pareto_files
    from evermix.reports.tables import print_result

    life = as_life(result)
    page, pictures = report(project), pareto_files(Lives(life), project)
    if json:
        print_json({**result, "comparison": comparison(life)})
        return
    print_result(result, console())
    typer.echo(f"picture: {next(path for path in pictures if path.suffix == '.png')}")
    typer.echo(f"report: {page}")
