"""Pages made from what they describe: docs/cli.md, docs/recipe.md, and the table of families in docs/laws.md.

`python -m evermix.cli.reference docs` writes them; a test compares them.
"""

from __future__ import annotations

import contextlib
import io
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, BeforeValidator
from pydantic.fields import FieldInfo

from evermix.cli.app import PAGES, app
from evermix.laws import list_laws
from evermix.recipe import Recipe

_WIDTH = 100
BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
_HEADER = """# The recipe

Every key, written by `make docs` from the models that read it; a test compares the two. `evermix init FOLDER` writes a
recipe with comments, `evermix run RECIPE --dry-run` shows what it would do, and an unknown key is an error. Every path
starts from the recipe's folder (on the command line from the current one), with `~`, `$NAME` and `${NAME}` replaced. An
amount is an integer, or `250k`, `1.5M`, `20B`. A key that may be left out has its default, or nothing, in column three.
Rows in bold are sections: `corpus.sequence_length` is the key `sequence_length` under `corpus:`.

| key | value | default | meaning |
|---|---|---|---|
"""
_FORMS: dict[Any, tuple[str, str]] = {tuple: ("list of sections", "[]"), dict: ("name -> section", ".NAME")}
_SIGNS = ((annotated_types.Gt, "gt", "> "), (annotated_types.Ge, "ge", ">= "))
_UPPER_SIGNS = ((annotated_types.Lt, "lt", "< "), (annotated_types.Le, "le", "<= "))
_NAMES: dict[object, str] = {str: "text", int: "integer", float: "number", bool: "true or false", Any: "anything"}


def help_text(*arguments: str) -> str:
    """What `evermix ARGUMENTS --help` prints, 100 columns wide and without colour."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        app([*arguments, "--help"], prog_name="evermix", terminal_width=_WIDTH)
    return "\n".join(line.rstrip() for line in printed.getvalue().strip().splitlines())


def cli_page() -> str:
    """docs/cli.md, made from the help texts."""
    parts = [
        "# The command line",
        "Written by `make docs` from the help texts; a test compares the two.",
        f"```\n{help_text()}\n```",
    ]
    for page in PAGES:
        parts += [f"## evermix {page}", f"```\n{help_text(*page.split())}\n```"]
    return "\n\n".join(parts) + "\n"


def laws_table() -> str:
    """The table between its marks."""
    lines = ["| law | formula | convex | gradient | std | runs needed | source |", "|---|---|---|---|---|---|---|"]
    for row in list_laws():
        flags = " | ".join("yes" if row[flag] else "" for flag in ("convex", "gradient", "std"))
        source = f"{row['source']}; `evermix[{row['extra']}]`" if row["extra"] else row["source"]
        formula = row["formula"].replace("|", "\\|")
        lines.append(f"| `{row['name']}` | {formula} | {flags} | {row['runs_needed']} | {source} |")
    return "\n".join([BEGIN, *lines, END])


def laws_page(page: str) -> str:
    """docs/laws.md with its table made anew from the laws."""
    before, rest = page.split(BEGIN)
    return before + laws_table() + rest.split(END)[1]


def recipe_page() -> str:
    """docs/recipe.md, made from the recipe's models."""
    return _HEADER + "\n".join(_rows(Recipe, "")) + "\n"


def _rows(model: type[BaseModel], prefix: str) -> Iterator[str]:
    later = []
    for name, field in model.model_fields.items():
        if field.exclude:
            continue
        section = _section(field.annotation)
        if section is None:
            yield _row(f"`{prefix}{name}`", value_of(field), _default(field), field.description or "")
        else:
            later.append((name, field, section))
    for name, field, section in later:
        value, below = _FORMS.get(get_origin(field.annotation), ("section", ""))
        yield _row(f"**`{prefix}{name}`**", value, "required" if field.is_required() else "", _first_line(section))
        yield from _rows(section, f"{prefix}{name}{below}.")


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _section(annotation: Any) -> type[BaseModel] | None:
    """The model that a key holds, itself or in a list."""
    candidates = (annotation, *get_args(annotation))
    return next((c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel)), None)


def _first_line(model: type[BaseModel]) -> str:
    return " ".join((model.__doc__ or "").split())


def value_of(field: FieldInfo) -> str:
    """What may stand after the key, in words."""
    return _words(field.annotation, field.metadata)


def _words(annotation: Any, limits: list[Any]) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        inner = [part for item in arguments[1:] for part in (item.metadata if isinstance(item, FieldInfo) else [item])]
        return _words(arguments[0], inner)
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(_words(part, limits) for part in arguments if part is not type(None))
    if origin is tuple:
        return f"list of {_words(arguments[0], [])}"
    if origin is dict:
        return f"name -> {_words(arguments[1], [])}"
    name = "amount" if any(isinstance(limit, BeforeValidator) for limit in limits) else _NAMES[annotation]
    return " ".join([name, *_limits(limits)])


def _limits(limits: list[Any]) -> Iterator[str]:
    found = [
        f"{sign}{getattr(limit, attribute)}"
        for signs in (_SIGNS, _UPPER_SIGNS)
        for kind, attribute, sign in signs
        for limit in limits
        if isinstance(limit, kind)
    ]
    if found:
        yield ", ".join(found)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.default
    if default is None or default == {}:
        return ""
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def write_pages(docs: Path) -> None:
    """All of them, in the folder of the documentation."""
    (docs / "cli.md").write_text(cli_page(), encoding="utf-8")
    (docs / "recipe.md").write_text(recipe_page(), encoding="utf-8")
    laws = docs / "laws.md"
    laws.write_text(laws_page(laws.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    write_pages(Path(sys.argv[1]))
