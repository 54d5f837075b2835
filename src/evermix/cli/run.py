"""`evermix run` and `evermix compare`: the whole lifecycle of one recipe, by its own arms or by others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import evermix as em
from evermix.cli.options import AsJson, RecipeFile
from evermix.cli.terminal import console, print_json, print_line
from evermix.errors import RecipeError

if TYPE_CHECKING:
    from rich.console import Console

    from evermix.results import RunResult
    from evermix.results.plan import RunPlan

_DRY_RUN = "Show the plan: phases, steps, proxies or probes, FLOPs. Train nothing."
_ARMS = "Arms to run instead of the recipe's, separated by commas, such as evermix,uniform,retrain."
_ORDERS = "So many orders of the phases instead of the recipe's; the first is the recipe's own."

_EQUAL = (
    "Whether baselines are trained at equal compute too: on as many more tokens as what the arm that decides spends on "
    "deciding pays for. Default: as the recipe says."
)

_ACCEPT = "Take text that has changed since the project began, and train anew what depends on it."
AcceptChanged = Annotated[bool, typer.Option("--accept-changed-text", help=_ACCEPT)]


def run(
    recipe: RecipeFile,
    accept_changed_text: AcceptChanged = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help=_DRY_RUN)] = False,
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
    loaded = em.Recipe.load(recipe)
    if dry_run:
        show_plan(em.plan(loaded), console(), json)
        return
    if loaded.method == "olmix":
        show_plan(em.plan(loaded), console(stderr=True), json=False)
    result = em.run(loaded, accept_changed_text=accept_changed_text, console=console(stderr=True))
    show_result(loaded.project_folder, result, json)


def compare(
    recipe: RecipeFile,
    arms: Annotated[str | None, typer.Option("--arms", metavar="A,B,C", help=_ARMS)] = None,
    orders: Annotated[int | None, typer.Option("--orders", metavar="N", min=1, help=_ORDERS)] = None,
    equal_compute: Annotated[
        bool | None, typer.Option("--equal-compute/--no-equal-compute", help=_EQUAL, show_default=False)
    ] = None,
    accept_changed_text: AcceptChanged = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show phases and cost of every arm. Train nothing.")
    ] = False,
    json: AsJson = False,
) -> None:
    """Run several arms of one recipe and show what each ends with and what it costs.

    Start and resume are the same command, and what `evermix run` or another comparison has trained in the same
    project is not trained again. Writes report.html, pareto.svg and pareto.png into the project folder.

    Arms are evermix, natural, uniform, weights and proxy-swarm; with method olmix also best-run; in a recipe with
    phases also naive, fixed-replay, retrain, mergemix, lora-merge and oracle.

    \b
    Examples:
      evermix compare recipe.yaml --arms evermix,fixed-replay,retrain
      evermix compare recipe.yaml --arms evermix,uniform,oracle --orders 3 --dry-run
      evermix compare recipe.yaml --json > comparison.json
    """
    loaded, names = em.Recipe.load(recipe), None if arms is None else _names(arms)
    compared = loaded.with_arms(names, orders, equal_compute)
    if dry_run:
        show_plan(em.plan(compared), console(), json)
        return
    shown_on = console(stderr=True)
    result = em.compare(
        loaded,
        names,
        orders,
        equal_compute=equal_compute,
        accept_changed_text=accept_changed_text,
        console=shown_on,
    )
    _show_comparison(loaded.project_folder, result, json)


def show_result(project: Path, result: RunResult, json: bool, **more: Any) -> None:
    """Write the report, and print the result as tables, or with `more` as JSON."""
    from evermix.reports.run_tables import print_result

    page = em.report(project)
    if json:
        print_json({**more, **result.to_json()})
        return
    print_result(result, console())
    print_line(f"report: {page}")


def show_plan(plan: RunPlan, shown_on: Console, json: bool) -> None:
    """The plan as a table or as JSON; of a swarm that has begun how far it is."""
    from evermix.reports.history import so_far
    from evermix.reports.plans import print_plan

    begun = None if plan.swarm is None else so_far(Path(plan.project))
    if json:
        print_json(plan.model_dump(mode="json") | ({"so_far": begun} if begun else {}))
    else:
        print_plan(plan, shown_on, begun)


def _names(arms: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in arms.split(",") if name.strip())
    if not names:
        raise RecipeError("--arms must be names of arms, separated by commas", received=arms)
    return names


def _show_comparison(project: Path, result: RunResult, json: bool) -> None:
    """Report and Pareto picture into the project folder; the comparison as tables or as JSON."""
    from evermix.reports.answer import comparison
    from evermix.reports.pareto import pareto_files
    from evermix.reports.run_tables import print_result

    page, pictures = em.report(project), pareto_files(result, project)
    if json:
        print_json({**result.to_json(), "comparison": comparison(result)})
        return
    print_result(result, console())
    print_line(f"picture: {next(path for path in pictures if path.suffix == '.png')}")
    print_line(f"report: {page}")
