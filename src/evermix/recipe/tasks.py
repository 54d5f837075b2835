"""Tasks of a recipe: metrics beyond the held-out loss of the domains."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from evermix.recipe.parts import Amount, Model, Weight
from evermix.recipe.yaml_faults import LocatedError

TaskKind = Literal["answer", "choice", "lm-eval"]
TaskRole = Literal["fit", "held-out"]


def _metric_name(value: str) -> str:
    if not value or value != value.strip() or ":" in value or not value.isprintable():
        raise ValueError("must be a name on one line, without colons and outer blanks")
    return value


TaskName = Annotated[str, AfterValidator(_metric_name)]


class TaskRecipe(Model):
    """One task: questions with answers, scored in bits per byte of the right answer."""

    name: TaskName = Field(description="name of its metric, without colon; a second metric is called name:accuracy")
    kind: TaskKind = Field(
        "answer",
        description="answer: JSONL of prompt and answer; choice: prompt, choices and answer (its index from 0, or its "
        "text); lm-eval: a task of lm-evaluation-harness, which needs evermix[eval]",
    )
    file: str | None = Field(None, description="the JSONL of kinds answer and choice, relative to the recipe's folder")
    folder: str | None = Field(
        None,
        description="the folder of YAML files of kind lm-eval, relative likewise; default: the harness's own tasks",
    )
    task: str | None = Field(None, description="the harness's own name of the task; default: name")
    role: TaskRole = Field("fit", description="fit: the mixture is fitted on it; held-out: only the report sees it")
    weight: Weight = Field(1.0, description="its part in the objective; 0 fits it without counting it")
    max_items: Amount | None = Field(None, description="score at most so many items, evenly spaced over the file")

    @model_validator(mode="after")
    def _one_place_of_its_kind(self) -> Self:
        if self.kind != "lm-eval" and not self.file:
            raise LocatedError(("file",), f"a task of kind {self.kind} must have a file")
        for key in ("file",) if self.kind == "lm-eval" else ("folder", "task"):
            if getattr(self, key) is not None:
                raise LocatedError((key,), f"a task of kind {self.kind} has no {key}")
        return self
