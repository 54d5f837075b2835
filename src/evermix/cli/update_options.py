"""The arguments that the verbs of `evermix update` share, and the text of new domains."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

import evermix as em
from evermix.cli.options import Verb, joined
from evermix.errors import RecipeError

_STRATEGY = (
    "full: a new swarm; swarm: keep what runs still say, measure what is new; mixture: the other domains keep their "
    "proportions; partial: all but --recompute do; auto (default): as mixture, then recompute what is worth its runs."
)
_RECIPE: dict[str, Any] = {
    "recipe": Annotated[Path, typer.Argument(metavar="RECIPE", help="The recipe of the project.")]
}
_HOW: dict[str, Any] = {
    "strategy": Annotated[str | None, typer.Option("--strategy", metavar="STRATEGY", help=_STRATEGY)],
    "recompute": Annotated[
        str | None,
        typer.Option("--recompute", metavar="A,B", help="Domains to measure anew as well; strategy partial."),
    ],
    "runs": Annotated[
        int | None, typer.Option("--runs", metavar="N", min=0, help="New proxies; default: as many as the plan says.")
    ],
    "dry_run": Annotated[bool, typer.Option("--dry-run", help="Show the plan only: nothing is recorded or trained.")],
    "json": Annotated[bool, typer.Option("--json", help="Print JSON on stdout instead of tables.")],
}
_FILES = "Paths or globs, in quotes, from the current folder; repeatable."
_READING: dict[str, Any] = {
    "text_field": Annotated[
        str | None,
        typer.Option(
            "--text-field", metavar="NAME", help="Field of the text in JSONL, Parquet and datasets; default text."
        ),
    ],
    "format": Annotated[
        str | None, typer.Option("--format", metavar="FORMAT", help="auto (default), jsonl, parquet or text.")
    ],
    "documents": Annotated[
        str | None,
        typer.Option("--documents", metavar="UNIT", help="What a document of plain text is: file, paragraph or line."),
    ],
    "max_bytes": Annotated[
        str | None,
        typer.Option("--max-bytes", metavar="AMOUNT", help="Read at most so many bytes of text, such as 20M."),
    ],
}
_TEXT: dict[str, Any] = {
    "files": Annotated[list[str] | None, typer.Option("--files", metavar="GLOB", help=_FILES)],
    "registry": Annotated[
        str | None, typer.Option("--registry", metavar="CORPUS", help="A corpus that `evermix list-corpora` lists.")
    ],
    "dataset": Annotated[
        str | None, typer.Option("--dataset", metavar="JSON", help='Of datasets.load_dataset, as {"path": ...}.')
    ],
    **_READING,
}
_REGISTRY = "registry:"


@dataclass(frozen=True)
class UpdateArguments:
    """What the shared arguments said, by their Python names."""

    given: dict[str, Any]

    @property
    def dry_run(self) -> bool:
        """Whether the plan is all that is asked for."""
        return bool(self.given["dry_run"])

    @property
    def json(self) -> bool:
        """Whether JSON is asked for."""
        return bool(self.given["json"])

    def recipe(self) -> em.Recipe:
        """The recipe of the project; RecipeError if its method has no swarm to update."""
        return recipe_of_swarm(self.given["recipe"])

    def how(self) -> em.Updating:
        """Strategy, recomputed domains, number of runs."""
        from evermix.study import Strategy

        recompute = tuple(name.strip() for name in (self.given["recompute"] or "").split(",") if name.strip())
        known: tuple[Strategy, ...] = get_args(Strategy)
        wanted = self.given["strategy"] or ("partial" if recompute else "auto")
        strategy = next((name for name in known if name == wanted), None)
        if strategy is None:
            raise RecipeError("--strategy must be a known one", received=wanted, hint=f"known: {', '.join(known)}")
        if (strategy == "partial") != bool(recompute):
            raise RecipeError(
                "--strategy partial and --recompute A,B must come together: the domains to measure anew",
                received=f"strategy {strategy}, recompute {', '.join(recompute) or 'none'}",
                hint="--strategy auto chooses them",
            )
        return em.Updating(strategy, recompute, self.given["runs"])

    def domain(self, name: str) -> em.DomainRecipe:
        """A domain with the text that --files, --registry or --dataset name."""
        from evermix.recipe.parts import absolute

        place = {"files": absolute(self.given["files"]), "registry": self.given["registry"]}
        return domain_recipe(name, {**place, "dataset": _arguments(self.given["dataset"])}, self.given)

    def parts(self, parts: Sequence[str]) -> tuple[em.DomainRecipe, ...]:
        """`["new=a/*.txt", "old=registry:legal"]` -> the domains; a part named twice has several globs."""
        from evermix.recipe.parts import absolute

        places: dict[str, dict[str, Any]] = {}
        for text in parts:
            name, sign, source = text.partition("=")
            if not sign or not name or not source:
                raise RecipeError("--part must be NAME=GLOB or NAME=registry:CORPUS", received=text)
            place = places.setdefault(name, {"files": None, "registry": None})
            if source.startswith(_REGISTRY):
                place["registry"] = source.removeprefix(_REGISTRY)
            else:
                place["files"] = [*(place["files"] or []), *(absolute([source]) or [])]
        return tuple(domain_recipe(name, place, self.given) for name, place in places.items())


def takes_update(*, text: bool = False, reading: bool = False) -> Callable[[Verb], Verb]:
    """Give a verb the shared arguments, as one `UpdateArguments`, its first parameter.

    Args:
        text: with those that name a domain's text.
        reading: with those that say how text is read.
    """
    options = {**_RECIPE, **(_TEXT if text else {}), **(_READING if reading else {}), **_HOW}
    return joined(options, UpdateArguments, "recipe")


def recipe_of_swarm(path: Path) -> em.Recipe:
    """A recipe whose project a swarm has decided.

    Raises:
        RecipeError: if it keeps no swarm, or cannot be read.
        ProjectError: if nothing has been decided yet.
    """
    from evermix.ledger import require_swarm_project

    loaded = em.Recipe.load(path)
    require_swarm_project(loaded)
    return loaded


def domain_recipe(name: str, place: Mapping[str, Any], reading: Mapping[str, Any]) -> em.DomainRecipe:
    """A domain as a recipe holds it.

    Raises:
        RecipeError: naming the domain, and the option that does not fit.
    """
    from pydantic import ValidationError

    given = {key: reading[key] for key in _READING if reading.get(key) is not None}
    where = {key: value for key, value in place.items() if value is not None}
    try:
        return em.DomainRecipe.model_validate({"name": name, **where, **given})
    except ValidationError as error:
        fault = error.errors()[0]
        option = f"--{str(fault['loc'][0]).replace('_', '-')}: " if fault["loc"] else ""
        message = str(fault["msg"]).removeprefix("Value error, ")
        received = fault["input"] if isinstance(fault["input"], str) else None
        hint = None if option else "--files GLOB, --registry CORPUS or --dataset JSON says where its text is"
        message = f"{message[:1].lower()}{message[1:]}"
        raise RecipeError(f"domain '{name}': {option}{message}", received=received, hint=hint) from error


def _arguments(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError as error:
        raise RecipeError(f"--dataset must be a JSON object ({error})", received=text) from error
    if not isinstance(found, dict):
        raise RecipeError("--dataset must be a JSON object", received=text)
    return found
