"""Several changes at once from a YAML file, as `evermix update apply` reads it."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, ValidationError, model_validator

from evermix.cli.update_options import absolute
from evermix.lifecycle import TextUpdate
from evermix.recipe import DomainRecipe
from evermix.recipe.parts import Model
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error


class UpdateFile(Model):
    """Changes of a domain set that are made at once; files are relative to the folder of the YAML file."""

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

    @classmethod
    def load(cls, path: Path) -> TextUpdate:
        """Read a file; RecipeError names the file, the line and the key of the first fault."""
        data, node = read_yaml(path)
        try:
            found = cls.model_validate(data)
        except ValidationError as error:
            raise recipe_error(path, node, error, cls) from error
        folder = path.parent
        return TextUpdate(
            tuple(_placed(domain, folder) for domain in found.add),
            found.remove,
            tuple(_placed(domain, folder) for domain in found.revise),
            {name: tuple(_placed(part, folder) for part in parts) for name, parts in found.partition.items()},
        )


def _placed(domain: DomainRecipe, folder: Path) -> DomainRecipe:
    patterns = absolute(domain.files, folder)
    return domain if patterns is None else domain.model_copy(update={"files": tuple(patterns)})
