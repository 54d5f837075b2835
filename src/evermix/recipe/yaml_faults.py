"""Reading YAML so that every fault is told with the file, the line and the key it stands at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from evermix.errors import RecipeError
from evermix.yaml_text import YamlTextError, misread, yaml_data, yaml_node


class LocatedError(ValueError):
    """A rule between keys is broken; `location` says at which key of the model that raises it to point."""

    def __init__(self, location: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


def read_yaml(path: Path) -> tuple[dict[str, Any], yaml.Node | None]:
    """The mapping in a YAML file, and its syntax tree for line numbers.

    Raises:
        RecipeError: if there is no such file, or it is not UTF-8, not YAML, or no mapping.
    """
    text = _read(path)
    try:
        node = yaml_node(text)
        data = yaml_data(node)
    except YamlTextError as fault:
        line = "" if fault.line is None else f":{fault.line}"
        raise RecipeError(f"{path}{line}: {fault.rule}", hint=fault.hint) from fault
    if not isinstance(data, dict):
        raise RecipeError(
            f"{path}: a recipe must be a mapping of keys",
            received=type(data).__name__,
            hint="write one with `evermix init FOLDER`",
        )
    return data, node


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: the recipe file must exist", hint="write one with `evermix init FOLDER`") from error
    except IsADirectoryError as error:
        raise RecipeError(
            f"{path}: the recipe must be a file, not a folder", hint=f"write one with `evermix init {path}`"
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: the recipe must be UTF-8", received=f"byte {error.object[error.start]:#x} at {error.start}"
        ) from error


def recipe_error(path: Path, node: yaml.Node | None, error: ValidationError, root: type[BaseModel]) -> RecipeError:
    """The most telling of pydantic's faults as one line with file, line and key."""
    faults = sorted(
        error.errors(), key=lambda fault: (-len(_line_of(node, _location(fault))[1]), fault["type"] == "missing")
    )
    first = faults[0]
    line, known = _line_of(node, _location(first))
    key = ".".join(str(part) for part in known) or "recipe"
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{path}:{line}: {key}: unknown key", hint=_allowed_keys(first["loc"], root))
    if first["type"] == "missing":
        return RecipeError(f"{path}:{line}: {key}: required key is missing")
    received = first["input"] if isinstance(first["input"], str | int | float | bool) else None
    word = _unquoted(node, first)
    hint = None if word is None else f"quote it if it is a name: '{word}'"
    return RecipeError(f"{path}:{line}: {key}: {message}", received=received, hint=hint)


def _unquoted(node: yaml.Node | None, fault: Any) -> str | None:
    """The word at the fault, where text is wanted and YAML took the word for something else."""
    if fault["type"] != "string_type":
        return None
    for part in _location(fault):
        child, _ = _child(node, part)
        node = child if child is not None else node
    return node.value if misread(node) and isinstance(node, yaml.ScalarNode) else None


def unknown_key(path: Path, node: yaml.Node | None, key: str, root: type[BaseModel]) -> RecipeError:
    """The error for a key that a recipe may not give."""
    line, _ = _line_of(node, (key,))
    return RecipeError(f"{path}:{line}: {key}: unknown key", hint=_allowed_keys((key,), root))


def _location(fault: Any) -> tuple[int | str, ...]:
    cause = fault.get("ctx", {}).get("error")
    own = cause.location if isinstance(cause, LocatedError) else ()
    return (*fault["loc"], *own)


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int, list[int | str]]:
    """Line (from 1) and key path of the deepest YAML node on the way to `location`."""
    line, known = 1, list[int | str]()
    for part in location:
        child, mark = _child(node, part)
        if child is None:
            if isinstance(part, str) and isinstance(node, yaml.MappingNode) and part == location[-1]:
                known.append(part)
            continue
        node, line = child, mark
        known.append(part)
    return line, known


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node | None, int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None, 1


def _allowed_keys(location: tuple[int | str, ...], root: type[BaseModel]) -> str:
    """Names the keys that are allowed where the unknown one stands."""
    part: Any = root
    for step in location[:-1]:
        if isinstance(step, str) and step in part.model_fields:
            part = _model_in(part.model_fields[step].annotation) or part
    return "allowed: " + ", ".join(key for key in part.model_fields if key != "base")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
