"""Arguments and options that several verbs share, and the two consoles."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console

Project = Annotated[Path, typer.Argument(help="The project folder: what the recipe's `project:` names.")]
RecipeFile = Annotated[Path, typer.Argument(help="The recipe, a YAML file; `evermix init` writes one.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]


def console(*, stderr: bool = False) -> Console:
    """A console for results (stdout) or for progress (stderr).

    Piped output is wide enough for a whole table: nothing that reads it would wrap lines by itself.
    """
    from rich.console import Console

    made = Console(stderr=stderr, highlight=False)
    return made if made.is_terminal else Console(stderr=stderr, highlight=False, width=160)


def print_json(value: Any) -> None:
    """One JSON document on stdout, numbers that JSON has no word for as null."""
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
