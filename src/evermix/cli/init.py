"""`evermix init`: a commented recipe from a folder of data files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="A folder of data files; each sub-folder or file becomes a domain.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the recipe is written.")] = Path("recipe.yaml"),
    force: Annotated[bool, typer.Option("--force", help="Overwrite the output if it exists.")] = False,
) -> None:
    """Write a commented recipe for a folder of data files.

    Reads JSONL, Parquet and plain text, also as .gz or .zst. Text field, model size and token budget
    are guessed from the data: look through the recipe before you run it.

    \b
    Examples:
      evermix init my-data/
      evermix init my-data/ --output experiments/first.yaml
    """
    from evermix.draft import write_recipe

    written = write_recipe(folder, output, overwrite=force)
    typer.echo(f"recipe: {written}")
    typer.echo(f"next:   evermix run {written} --dry-run")
