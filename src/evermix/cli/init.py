"""What one begins with: `evermix init`, `evermix example`, and the corpora and laws that a recipe may name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import evermix as em
from evermix.cli.options import AsJson
from evermix.cli.terminal import console, print_json, print_line

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="A folder of data files; each sub-folder or file becomes a domain.")
]
Into = Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the tables go; it is made if need be.")]
Overwrite = Annotated[bool, typer.Option("--force", help="Overwrite tables that are there.")]
Output = Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="Where the recipe is written.")]
Force = Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")]


def init(folder: Folder, output: Output = Path("recipe.yaml"), force: Force = False) -> None:
    """Write a commented recipe for a folder of data files.

    Reads JSON lines, Parquet, plain text and conversations, also compressed. Formats, text fields, model
    size and token budget are guessed from the data: look through the recipe before you run it. What is
    left out is said, and why.

    \b
    Examples:
      evermix init my-data/
      evermix init my-data/ --output experiments/first.yaml
    """
    written = em.init(folder, output, overwrite=force, say=lambda line: print_line(f"left out: {line}", stderr=True))
    print_line(f"recipe: {written}")
    print_line(f"next:   evermix run {written} --dry-run")


def example(folder: Into = Path("swarm"), force: Overwrite = False) -> None:
    """Write a small measured swarm, to try things on without torch.

    36 proxies of 0.05M parameters on seven domains of text, with bits per byte on held-out text.

    \b
    Examples:
      evermix example swarm/
      evermix propose swarm/ --tokens 10M
    """
    written = em.example(folder, overwrite=force)
    print_line(f"swarm: {written}")
    print_line(f"next:  evermix propose {written} --tokens 10M")


def list_corpora(json: AsJson = False) -> None:
    """List the corpora that a recipe may name as `registry: NAME`.

    \b
    Examples:
      evermix list-corpora
      evermix list-corpora --json
    """
    from evermix.reports.listings import print_corpora

    found = em.list_corpora()
    if json:
        print_json(found)
    else:
        print_corpora(found, console())


def list_laws(json: AsJson = False) -> None:
    """List the families of laws: formula, what they offer, where they come from.

    \b
    Examples:
      evermix list-laws
      evermix list-laws --json
    """
    from evermix.reports.listings import laws_table

    found = em.list_laws()
    if json:
        print_json(found)
    else:
        console().print(laws_table(found))
