"""What is asked of a table of runs: the part of a decision that needs no trainer, as one frozen model."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from evermix.constraints import Constraints, GroupTotal
from evermix.recipe.parts import Amount, ConstraintRecipe, Model, Share, Weight
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error

Groups = dict[str, tuple[str, ...] | dict[str, tuple[str, ...]]]
PriorName = Literal["auto", "natural", "uniform", "swarm"]


class GroupRecipe(Model):
    """A rule on the summed share of several domains; `code:` as a member means every domain nested under it."""

    members: tuple[str, ...] = Field(min_length=1)
    least: Share = 0.0
    greatest: Share = 1.0


class StudyConstraintRecipe(ConstraintRecipe):
    """What the mixture may not do. No floor by default: a swarm has seen domains left out."""

    floor: Share = Field(0.0, description="least share of every domain")
    groups: dict[str, GroupRecipe] = Field({}, description="rules on summed shares")

    def build(self) -> Constraints:
        """The same rules as a `Constraints`; ConstraintError if they contradict each other."""
        groups = {name: GroupTotal(g.members, g.least, g.greatest) for name, g in self.groups.items()}
        return Constraints(self.max_epochs, self.floor, self.floors, self.caps, self.fixed, groups)


class GuardRecipe(Model):
    """No metric worse than under a reference mixture by more than a tolerance."""

    reference: Literal["natural", "uniform", "prior", "best observed"] | dict[str, Weight] = "natural"
    tolerance: Weight = Field(0.0, description="a fraction of the metric's value; in its own unit if absolute")
    absolute: bool = False
    metrics: tuple[str, ...] | None = Field(None, description="default: every metric")


class StudyObjectiveRecipe(Model):
    """What is improved: a weighted mean of metrics, or of groups of metrics (mean of tasks, mean of families)."""

    weights: dict[str, Weight] | None = Field(None, description="metric -> weight; default: all alike; 0 leaves out")
    groups: Groups | None = Field(None, description="family -> metrics, or family -> task -> metrics; means of means")
    group_weights: dict[str, Weight] | None = Field(None, description="family -> weight; default: all alike")
    maximise: tuple[str, ...] = Field((), description="metrics where higher is better; names or patterns (`*acc*`)")
    drop: tuple[str, ...] = Field((), description="metrics to leave out; names or patterns")
    unit: Literal["metric", "deviations"] = Field(
        "metric", description="count every metric in its own unit, or in standard deviations over the runs"
    )
    aggregate: Literal["mean", "worst metric", "worst law"] = Field(
        "mean",
        description="what is minimised: the weighted mean; the metric that gains least over the prior; or the mean "
        "under the least kind of the laws that resampled runs give",
    )

    def maximised(self, metrics: Sequence[str]) -> frozenset[str]:
        """Those of `metrics` where higher is better."""
        return frozenset(m for m in metrics if any(fnmatchcase(m, pattern) for pattern in self.maximise))

    def dropped(self, metrics: Sequence[str]) -> frozenset[str]:
        """Those of `metrics` that are left out."""
        return frozenset(m for m in metrics if any(fnmatchcase(m, pattern) for pattern in self.drop))

    @model_validator(mode="after")
    def _weights_or_groups(self) -> Self:
        if self.weights is not None and self.groups is not None:
            raise LocatedError(("groups",), "give weights or groups, not both")
        if self.group_weights is not None and self.groups is None:
            raise LocatedError(("group_weights",), "group_weights need groups")
        return self


class StudyRecipe(Model):
    """Everything that turns observations into a mixture. All of it has defaults."""

    law: str = Field(
        "auto",
        description="a family of `evermix list-laws`; auto: the convex one that cross-validation prefers; "
        "auto-any: of all",
    )
    tokens: Amount | None = Field(None, description="R, tokens that the target run asks for; caps need it")
    prior: PriorName | dict[str, Weight] = Field(
        "auto",
        description="what the KL pulls towards; auto: natural where token counts are known, else the swarm's mean",
    )
    objective: StudyObjectiveRecipe = StudyObjectiveRecipe()
    constraints: StudyConstraintRecipe = StudyConstraintRecipe()
    guards: tuple[GuardRecipe, ...] = ()
    compare: dict[str, dict[str, Weight]] = Field({}, description="name -> mixture to compare the proposal with")
    kl: Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"] = Field(
        "auto", description="pull towards the prior, relative to the predicted spread; auto: chosen by cross-fitting"
    )
    kl_weight: Weight | None = Field(None, description="the same in the objective's unit per nat (Olmix: 0.05)")
    resamples: Annotated[int, Field(ge=0)] = Field(200, description="bootstrap resamples of the runs; 0: no intervals")
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0

    @classmethod
    def load(cls, path: str | Path) -> StudyRecipe:
        """Read a YAML file; RecipeError names the file, the line and the key of the first fault."""
        path = Path(path)
        data, node = read_yaml(path)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise recipe_error(path, node, error, cls) from error
