"""A change of the domain set with the text of what is new, from values or from a YAML file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from evermix.recipe.parts import DomainRecipe, Model
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error


@dataclass(frozen=True)
class TextUpdate:
    """What changes, with the text of what is new.

    Attributes:
        add: new domains.
        remove: names.
        revise: domains under their old names, with their text now.
        partition: name -> its parts.
    """

    add: tuple[DomainRecipe, ...] = ()
    remove: tuple[str, ...] = ()
    revise: tuple[DomainRecipe, ...] = ()
    partition: Mapping[str, tuple[DomainRecipe, ...]] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, DomainRecipe]:
        """Name -> text of every domain that is new, revised or a part."""
        parts = [part for group in self.partition.values() for part in group]
        return {domain.name: domain for domain in (*self.add, *self.revise, *parts)}

    @classmethod
    def load(cls, path: str | Path) -> TextUpdate:
        """Read a YAML file with keys add, remove, revise, partition; its paths are relative to its own folder.

        Raises:
            RecipeError: naming the file, the line and the key of the first fault.
        """
        path = Path(path)
        data, node = read_yaml(path)
        try:
            found = _UpdateFile.model_validate(data)
        except ValidationError as error:
            raise recipe_error(path, node, error, _UpdateFile) from error
        folder = path.parent
        return cls(
            tuple(_placed(domain, folder) for domain in found.add),
            found.remove,
            tuple(_placed(domain, folder) for domain in found.revise),
            {name: tuple(_placed(part, folder) for part in parts) for name, parts in found.partition.items()},
        )


def absolute(patterns: Sequence[str] | None, folder: Path | None = None) -> list[str] | None:
    """Patterns from a folder, by default the current one, that mean the same from anywhere."""
    if not patterns:
        return None
    start = (folder or Path()).absolute()
    return [f"{_sign(pattern)}{os.path.normpath(start / pattern.removeprefix('!'))}" for pattern in patterns]


def _sign(pattern: str) -> str:
    return "!" if pattern.startswith("!") else ""


class _UpdateFile(Model):
    """The YAML file."""

    add: tuple[DomainRecipe, ...] = ()
    remove: tuple[str, ...] = ()
    revise: tuple[DomainRecipe, ...] = ()
    partition: dict[str, tuple[DomainRecipe, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.add or self.remove or self.revise or self.partition):
            raise ValueError("must add, remove, revise or partition a domain")
        for name, parts in self.partition.items():
            if len(parts) < 2:
                raise LocatedError(("partition", name), f"must have at least two parts (has {len(parts)})")
        return self


def _placed(domain: DomainRecipe, folder: Path) -> DomainRecipe:
    patterns = absolute(domain.files, folder)
    return domain if patterns is None else domain.model_copy(update={"files": tuple(patterns)})
