"""Tasks of a recipe: metrics beyond the held-out loss of the domains."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from evermix.recipe.parts import Amount, Model, Weight
from evermix.recipe.yaml_faults import LocatedError

TaskKind = Literal["answer", "choice", "exact", "scorer", "lm-eval"]
TaskRole = Literal["fit", "held-out"]


def _metric_name(value: str) -> str:
    if not value or value != value.strip() or ":" in value or not value.isprintable():
        raise ValueError("must be a name on one line, without colons and outer blanks")
    return value


TaskName = Annotated[str, AfterValidator(_metric_name)]

StopText = Annotated[str, Field(min_length=1)]

_KINDS_OF_KEYS = {
    "file": ("answer", "choice", "exact", "scorer"),
    "folder": ("lm-eval",),
    "task": ("lm-eval",),
    "max_new_tokens": ("exact", "scorer"),
    "stop": ("exact", "scorer"),
    "ignore_case": ("exact",),
    "scorer": ("scorer",),
}
"""Keys that only some kinds have."""


class TaskRecipe(Model):
    """One task: questions with answers, scored by the likelihood of the right answer or by what the model writes."""

    name: TaskName = Field(
        description="name of its metric, without colon; a second metric is called name:accuracy or name:score"
    )
    kind: TaskKind = Field(
        "answer",
        description="answer: JSONL of prompt and answer; choice: prompt, choices and answer (its index from 0, or its "
        "text); exact: prompt and answer, the model's own answer compared with it; scorer: a prompt and any fields, "
        "the model's own answer judged by a Python function; lm-eval: a task of lm-evaluation-harness, which needs "
        "evermix[eval]",
    )
    file: str | None = Field(None, description="the JSONL of all kinds but lm-eval, relative to the recipe's folder")
    folder: str | None = Field(
        None,
        description="the folder of YAML files of kind lm-eval, relative likewise; default: the harness's own tasks",
    )
    task: str | None = Field(None, description="the harness's own name of the task; default: name")
    max_new_tokens: Amount | None = Field(
        None, description="of kinds exact and scorer: the longest answer that is written; default: 32"
    )
    stop: tuple[StopText, ...] | None = Field(
        None,
        description="of kinds exact and scorer: texts that end an answer; default: a new line, or with a chat template "
        "nothing but the end of turn",
    )
    ignore_case: bool = Field(False, description="of kind exact: upper and lower case are alike")
    scorer: str | None = Field(
        None,
        description="of kind scorer: module:function or file.py:function, called as function(item, answer) for a "
        "number in [0, 1]; a file is relative to the recipe's folder",
    )
    domain: str | None = Field(
        None,
        description="of a recipe with phases: the domain that the task belongs to; it is scored at the end of every "
        "stage from the first that has this domain; default: at the end of every stage",
    )
    role: TaskRole = Field("fit", description="fit: the mixture is fitted on it; held-out: only the report sees it")
    weight: Weight = Field(1.0, description="its part in the objective; 0 fits it without counting it")
    max_items: Amount | None = Field(None, description="score at most so many items, evenly spaced over the file")

    @model_validator(mode="after")
    def _keys_of_its_kind(self) -> Self:
        for key, needed in (("file", self.kind != "lm-eval"), ("scorer", self.kind == "scorer")):
            if needed and not getattr(self, key):
                raise LocatedError((key,), f"a task of kind {self.kind} must have a {key}")
        for key, kinds in _KINDS_OF_KEYS.items():
            if self.kind not in kinds and getattr(self, key) not in (None, False):
                raise LocatedError((key,), f"a task of kind {self.kind} has no {key}")
        return self
