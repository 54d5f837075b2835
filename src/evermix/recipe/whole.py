"""The recipe: one YAML file, read into frozen pydantic models, that says everything about a project."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from evermix.domains import DomainSet
from evermix.errors import ConstraintError, DomainError
from evermix.recipe.parts import (
    ConstraintRecipe,
    CorpusRecipe,
    DecisionRecipe,
    DomainRecipe,
    Model,
    ModelRecipe,
    ObjectiveRecipe,
    TokenizerRecipe,
    TrainingRecipe,
    Weight,
)
from evermix.recipe.study import StudyRecipe
from evermix.recipe.swarm import SwarmRecipe
from evermix.recipe.tasks import TaskRecipe
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error, unknown_key


def _folder_name(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must name a folder")
    return value


Method = Literal["op-mix", "olmix"]
Arm = Literal["natural", "uniform", "evermix", "best-run"]
_OF_METHOD: dict[Method, tuple[str, ...]] = {
    "op-mix": ("start", "decision", "objective", "constraints"),
    "olmix": ("swarm", "tasks", "study"),
}
Start = Literal["natural", "uniform"] | dict[str, Weight]


class Recipe(Model):
    """Everything about one project. `base` is the folder that relative paths start from."""

    project: Annotated[str, AfterValidator(_folder_name)]
    method: Method = Field(
        "op-mix",
        description="op-mix: probes of the model itself decide on the way (start, decision, objective, constraints); "
        "olmix: a swarm of small proxies decides beforehand (swarm, tasks, study)",
    )
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    domains: tuple[DomainRecipe, ...] = Field(min_length=1)
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    corpus: CorpusRecipe = CorpusRecipe()
    model: ModelRecipe = ModelRecipe()
    training: TrainingRecipe
    start: Start = Field("uniform", description="the mixture before the first decision")
    decision: DecisionRecipe = DecisionRecipe()
    objective: ObjectiveRecipe = ObjectiveRecipe()
    constraints: ConstraintRecipe = ConstraintRecipe()
    swarm: SwarmRecipe = SwarmRecipe()
    tasks: tuple[TaskRecipe, ...] = ()
    study: StudyRecipe = StudyRecipe()
    arms: tuple[Arm, ...] = Field(
        ("evermix",), description="what the model is trained on; with olmix none at all ends with the mixture"
    )
    base: Path = Field(Path(), exclude=True)

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [domain.name for domain in self.domains]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise LocatedError(
                    ("domains", position, "name"), f"domain names must be unique: '{name}' is given twice"
                )
        mentioned: dict[tuple[str, ...], dict[str, float]] = {
            ("objective", "weights"): self.objective.weights or {},
            ("start",): self.start if isinstance(self.start, dict) else {},
            ("constraints", "floors"): self.constraints.floors,
            ("constraints", "caps"): self.constraints.caps,
            ("constraints", "fixed"): self.constraints.fixed,
        }
        for key, weights in mentioned.items():
            for name in weights:
                if name not in names:
                    raise LocatedError((*key, name), f"unknown domain '{name}' (known: {', '.join(names)})")
        return self

    @model_validator(mode="after")
    def _parts_are_of_the_method(self) -> Self:
        for method, parts in _OF_METHOD.items():
            for part in parts:
                if method != self.method and part in self.model_fields_set:
                    raise LocatedError((part,), f"belongs to method {method} (this recipe's method: {self.method})")
        if self.method == "op-mix" and "best-run" in self.arms:
            raise LocatedError(("arms",), "arm best-run belongs to method olmix")
        if self.method == "op-mix" and not self.arms:
            raise LocatedError(("arms",), "at least one arm must be trained")
        return self

    @model_validator(mode="after")
    def _tasks_have_names_of_their_own(self) -> Self:
        taken = {domain.name for domain in self.domains}
        for position, task in enumerate(self.tasks):
            if task.name in taken:
                message = f"a task must have a name of its own: '{task.name}' names a domain or another task"
                raise LocatedError(("tasks", position, "name"), message)
            taken.add(task.name)
        return self

    @model_validator(mode="after")
    def _sums_fit(self) -> Self:
        if self.objective.weights is not None and sum(self.objective.weights.values()) <= 0:
            raise LocatedError(("objective", "weights"), "at least one weight must be positive")
        if isinstance(self.start, dict) and abs(sum(self.start.values()) - 1) > 1e-6:
            raise LocatedError(("start",), f"the shares must sum to 1 (they sum to {sum(self.start.values()):g})")
        fixed = sum(self.constraints.fixed.values())
        if fixed > 1 + 1e-9:
            raise LocatedError(("constraints", "fixed"), f"fixed shares must sum to at most 1 (they sum to {fixed:g})")
        if len(set(self.arms)) != len(self.arms):
            raise LocatedError(("arms",), f"arms must be unique (given: {', '.join(self.arms)})")
        return self

    @model_validator(mode="after")
    def _some_mixture_is_allowed(self) -> Self:
        """All rules but repetition caps, which need token counts, are judged before any text is read."""
        try:
            domains = DomainSet(domain.name for domain in self.domains)
        except DomainError as error:
            raise LocatedError(("domains",), str(error)) from error
        rules, key = (
            (self.study.constraints, ("study", "constraints"))
            if self.method == "olmix"
            else (self.constraints, ("constraints",))
        )
        try:
            replace(rules.build(), max_epochs=None).bounds(domains, 1.0)
        except ConstraintError as error:
            raise LocatedError(key, str(error)) from error
        return self

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a YAML recipe; RecipeError names the file, the line and the key of the first fault."""
        path = Path(path)
        data, node = read_yaml(path)
        if "base" in data:
            raise unknown_key(path, node, "base", cls)
        try:
            return cls.model_validate({**data, "base": path.resolve().parent})
        except ValidationError as error:
            raise recipe_error(path, node, error, cls) from error

    @property
    def project_folder(self) -> Path:
        """The project folder, relative to the current folder as the user typed it."""
        return Path(self.project)

    def fingerprint(self) -> str:
        """Hash of everything that can change the result (not the project folder)."""
        content = self.model_dump(mode="json", exclude={"project", "base"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
