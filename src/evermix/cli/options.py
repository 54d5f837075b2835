"""Arguments and options that several verbs share, and options that travel together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

Project = Annotated[
    Path, typer.Argument(metavar="PROJECT", help="The project folder: what the recipe's `project:` names.")
]
RecipeFile = Annotated[
    Path, typer.Argument(metavar="RECIPE", help="The recipe, a YAML file; `evermix init` writes one.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")]
Everything = Annotated[bool, typer.Option("--all", help="Show every row of every table.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Also show what the answer rests on.")]
Page = Annotated[Path | None, typer.Option("--report", metavar="FILE", help="Write all of it as one HTML page.")]
Plots = Annotated[
    Path | None, typer.Option("--plots", metavar="FOLDER", help="Write plots (SVG and PNG) into this folder.")
]

Verb = Callable[..., None]


def joined(
    options: Mapping[str, Any], bundle: Callable[[dict[str, Any]], Any], required: str
) -> Callable[[Verb], Verb]:
    """Give a verb `options` beside its own: its first parameter is `bundle` of what they were given.

    Args:
        options: name -> annotation with its typer.Argument or typer.Option, in the order of the help; a bool is off
            and anything else None unless given.
        required: the name that must be given.
    """

    def decorate(verb: Verb) -> Verb:
        @functools.wraps(verb)
        def called(**given: Any) -> None:
            own = {name: value for name, value in given.items() if name not in options}
            verb(bundle({name: given[name] for name in options}), **own)

        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters = [
            inspect.Parameter(name, keyword, annotation=annotation, default=_default(annotation, name == required))
            for name, annotation in options.items()
        ]
        own_parameters = list(inspect.signature(verb, eval_str=True).parameters.values())[1:]
        parameters += [parameter.replace(kind=keyword) for parameter in own_parameters]
        called.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        called.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return called

    return decorate


def _default(annotation: Any, is_required: bool) -> Any:
    if is_required:
        return inspect.Parameter.empty
    return False if annotation.__origin__ is bool else None
