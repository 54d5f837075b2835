"""`evermix update`: change the domains of a project that a swarm has decided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import evermix as em
from evermix.cli.options import AsJson, RecipeFile
from evermix.cli.run import show_result
from evermix.cli.terminal import console, print_json
from evermix.cli.update_options import UpdateArguments, recipe_of_swarm, takes_update

Name = Annotated[str, typer.Argument(metavar="DOMAIN", help="The domain.")]
Names = Annotated[list[str], typer.Argument(metavar="DOMAIN", help="The domains.")]
Part = Annotated[
    list[str],
    typer.Option("--part", metavar="NAME=GLOB", help="A part and its text, or NAME=registry:CORPUS; at least two."),
]


@takes_update(text=True)
def add(update: UpdateArguments, name: Name) -> None:
    """Add a domain.

    \b
    Examples:
      evermix update add recipe.yaml papers --files 'papers/*.jsonl.gz' --dry-run
      evermix update add recipe.yaml papers --files 'papers/*.jsonl.gz'
      evermix update add recipe.yaml code:go --files 'go/**/*.go' --strategy partial --recompute code:cpp
      evermix update add recipe.yaml licences --registry legal --max-bytes 2M
    """
    _make(update, em.TextUpdate(add=(update.domain(name),)))


@takes_update()
def remove(update: UpdateArguments, names: Names) -> None:
    """Remove domains.

    The others keep their proportions, and no proxies are trained.

    \b
    Examples:
      evermix update remove recipe.yaml spam
      evermix update remove recipe.yaml spam web:old --dry-run
    """
    _make(update, em.TextUpdate(remove=tuple(names)))


@takes_update(text=True)
def revise(update: UpdateArguments, name: Name) -> None:
    """Give a domain new text under its old name.

    Text that is the same to the last byte changes nothing, and its runs are kept.

    \b
    Examples:
      evermix update revise recipe.yaml web --files 'web-2027/*.parquet'
      evermix update revise recipe.yaml web --files 'web-2027/*.parquet' --strategy full --json
    """
    _make(update, em.TextUpdate(revise=(update.domain(name),)))


@takes_update(reading=True)
def partition(update: UpdateArguments, name: Name, part: Part) -> None:
    """Replace a domain by its parts.

    Runs on the whole still speak for the parts, by their tokens.

    \b
    Examples:
      evermix update partition recipe.yaml web --part 'web:good=good/*.jsonl' --part 'web:poor=poor/*.jsonl'
      evermix update partition recipe.yaml code --part c=registry:cpp-headers --part py=registry:python-stdlib
    """
    _make(update, em.TextUpdate(partition={name: update.parts(part)}))


@takes_update()
def apply(
    update: UpdateArguments,
    updates: Annotated[Path, typer.Argument(metavar="UPDATES", help="YAML with keys add, remove, revise, partition.")],
) -> None:
    """Make several changes at once, as one update.

    The file has domains as a recipe has them, with paths from its own folder:

    \b
      add: [{name: papers, files: papers/*.jsonl}]
      remove: [spam]
      revise: [{name: web, files: web-2027/*.parquet}]
      partition: {code: [{name: code:c, files: c/*.c}, {name: code:go, files: go/*.go}]}

    \b
    Examples:
      evermix update apply recipe.yaml spring.yaml --dry-run
      evermix update apply recipe.yaml spring.yaml
    """
    _make(update, em.TextUpdate.load(updates))


def undo(recipe: RecipeFile, json: AsJson = False) -> None:
    """Go back to the domains, runs and mixture before the last update.

    Nothing is forgotten: the ledger keeps what was taken back.

    \b
    Examples:
      evermix update undo recipe.yaml
      evermix update undo recipe.yaml --json
    """
    loaded, progress = recipe_of_swarm(recipe), console(stderr=True)
    before = _mixture_now(loaded.project_folder)
    result = em.undo(loaded, console=progress)
    show_result(loaded.project_folder, result.with_mixture_before(before), json, mixture_before=before)


def _make(asked: UpdateArguments, update: em.TextUpdate) -> None:
    """Show the plan and, unless it is all that is asked for, make the update and show what came of it.

    Raises:
        EvermixError: if the update does not fit the project, or the strategy cannot be had.
    """
    from evermix.reports.plans import print_update_plan

    recipe, how = asked.recipe(), asked.how()
    progress = console(stderr=True)
    planned = em.plan_update(recipe, update, how, console=progress)
    plan = planned.view
    if not (asked.json and asked.dry_run):
        print_update_plan(plan, console() if asked.dry_run else progress)
    _ = planned.plan.chosen  # told before anything is recorded, if it cannot be had
    if asked.dry_run:
        if asked.json:
            print_json(plan.model_dump(mode="json"))
        return
    before = _mixture_now(recipe.project_folder)
    result = em.update(recipe, update, how, console=progress)
    shown = result.with_mixture_before(before)
    show_result(recipe.project_folder, shown, asked.json, plan=plan.model_dump(mode="json"), mixture_before=before)


def _mixture_now(project: Path) -> dict[str, float] | None:
    """The mixture that a project has decided so far; None where there is none."""
    if not (project / "ledger.sqlite").exists():
        return None
    mixture = em.Study(project).mixture
    return None if mixture is None else dict(mixture.as_dict)
