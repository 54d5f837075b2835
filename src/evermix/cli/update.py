"""`evermix update`: change the domains of a project that a swarm has decided."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from evermix.cli.options import AsJson, RecipeFile
from evermix.cli.update_options import UpdateArguments, recipe_of_swarm, takes_update

Name = Annotated[str, typer.Argument(help="The domain.")]
Names = Annotated[list[str], typer.Argument(help="The domains.")]
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
      evermix update add recipe.yaml code:go --files 'go/**/*.go' --strategy partial --release code:cpp
      evermix update add recipe.yaml licences --registry legal --max-bytes 2M
    """
    from evermix.cli.updating import make_update
    from evermix.lifecycle import TextUpdate

    make_update(update, TextUpdate(add=(update.domain(name),)))


@takes_update()
def remove(update: UpdateArguments, names: Names) -> None:
    """Remove domains; the others keep their proportions, and no proxies are trained.

    \b
    Examples:
      evermix update remove recipe.yaml spam
      evermix update remove recipe.yaml spam web:old --dry-run
    """
    from evermix.cli.updating import make_update
    from evermix.lifecycle import TextUpdate

    make_update(update, TextUpdate(remove=tuple(names)))


@takes_update(text=True)
def revise(update: UpdateArguments, name: Name) -> None:
    """Give a domain new text under its old name.

    Text that is the same to the last byte changes nothing, and its runs are kept.

    \b
    Examples:
      evermix update revise recipe.yaml web --files 'web-2027/*.parquet'
      evermix update revise recipe.yaml web --files 'web-2027/*.parquet' --strategy full --json
    """
    from evermix.cli.updating import make_update
    from evermix.lifecycle import TextUpdate

    make_update(update, TextUpdate(revise=(update.domain(name),)))


@takes_update(reading=True)
def partition(update: UpdateArguments, name: Name, part: Part) -> None:
    """Replace a domain by its parts; runs on the whole still speak for them, by their tokens.

    \b
    Examples:
      evermix update partition recipe.yaml web --part 'web:good=good/*.jsonl' --part 'web:poor=poor/*.jsonl'
      evermix update partition recipe.yaml code --part c=registry:cpp-headers --part py=registry:python-stdlib
    """
    from evermix.cli.updating import make_update
    from evermix.lifecycle import TextUpdate

    make_update(update, TextUpdate(partition={name: update.parts(part)}))


@takes_update()
def apply(
    update: UpdateArguments,
    updates: Annotated[Path, typer.Argument(help="YAML with keys add, remove, revise, partition.")],
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
    from evermix.cli.update_file import UpdateFile
    from evermix.cli.updating import make_update

    make_update(update, UpdateFile.load(updates))


def undo(recipe: RecipeFile, json: AsJson = False) -> None:
    """Go back to the domains, runs and mixture before the last update; nothing is forgotten.

    \b
    Examples:
      evermix update undo recipe.yaml
      evermix update undo recipe.yaml --json
    """
    from evermix.cli.updating import undo_update

    undo_update(recipe_of_swarm(recipe), json)
