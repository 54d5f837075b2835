"""What a mixture is chosen for, what it may not do, and how it is found: the same words whatever the evidence is.

`objective`, `constraints` and `decision` of a recipe, and `StudyRecipe`: what is asked of a table of runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from evermix.constraints import Constraints, GroupTotal
from evermix.objective import Objective, Quantity
from evermix.recipe.measured import DesignRecipe
from evermix.recipe.parts import Amount, Fraction, Model, Name, Share, Weight
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error

Groups = dict[Name, tuple[Name, ...] | dict[Name, tuple[Name, ...]]]
PriorName = Literal["auto", "natural", "uniform", "start", "half-new", "swarm"]
Mode = Literal["in-run", "probe-law", "interpolation", "gradient"]
ProbeMode = Literal["probe-law", "interpolation", "gradient"]
ProbeDesign = Literal["auto", "pure", "designed"]
Kl = Annotated[float, Field(ge=0, allow_inf_nan=False)] | Literal["auto"]


class ObjectiveRecipe(Model):
    """What is improved: a weighted mean over the domains' held-out text, or over the metrics of a table of runs."""

    quantity: Quantity = Field(
        "perplexity",
        description="what held-out text is counted in; metric, as it was measured: for a table of runs, whose unit is "
        "unknown, and its default; any other says of the table that it holds losses in nats per token",
    )
    weights: dict[Name, Weight] | None = Field(
        None, description="domain (of a table: metric) -> weight; default: all alike; 0 leaves out"
    )
    groups: Groups | None = Field(
        None, description="instead of weights: family -> names, or family -> task -> names; means of means"
    )
    group_weights: dict[Name, Weight] | None = Field(None, description="family -> weight; default: all alike")
    bits_per_byte_factor: dict[Name, Weight] | None = Field(
        None,
        description="of a table of runs counted in bits_per_byte: metric -> tokens / (bytes ln 2) of its text; a "
        "recipe's own text tells it",
    )
    maximise: tuple[Name, ...] = Field((), description="metrics where higher is better; names or patterns (`*acc*`)")
    drop: tuple[Name, ...] = Field((), description="metrics to leave out; names or patterns")
    unit: Literal["metric", "deviations"] = Field(
        "metric", description="count every metric in its own unit, or in standard deviations over the runs"
    )
    aggregate: Literal["mean", "worst metric", "worst law"] = Field(
        "mean",
        description="what is minimised: the weighted mean; the metric that gains least over the prior; or the mean "
        "under the least kind of the laws that resampled runs give",
    )

    @property
    def names(self) -> tuple[str, ...]:
        """Every name with a weight or in a group, in order."""
        if self.groups is None:
            return tuple(self.weights or ())
        members = [each for inner in self.groups.values() for each in _members(inner)]
        return tuple(members)

    def weights_over(self, names: Sequence[str]) -> dict[str, float] | None:
        """name -> weight, summing to 1, where groups are given; else the weights as they are, None for all alike.

        Raises:
            ConstraintError: one of `names` is in no group, or a group names what is not among them.
        """
        if self.groups is None:
            return self.weights
        found = Objective.from_groups(names, self.groups, self.group_weights)
        return dict(zip(names, found.weights, strict=True))

    def renamed(self, names: Mapping[str, str]) -> Self:
        """The same for metrics of other names: old name -> new name; what is left out keeps its name."""

        def new(old: Sequence[str]) -> tuple[str, ...]:
            return tuple(names.get(name, name) for name in old)

        weights, groups = self.weights, self.groups
        if weights is not None:
            weights = {names.get(name, name): weight for name, weight in weights.items()}
        if groups is not None:
            groups = {
                family: {task: new(inner) for task, inner in members.items()}
                if isinstance(members, dict)
                else new(members)
                for family, members in groups.items()
            }
        return self.model_copy(update={"weights": weights, "groups": groups})

    def maximised(self, metrics: Sequence[str]) -> frozenset[str]:
        """Those of `metrics` where higher is better."""
        return frozenset(m for m in metrics if any(fnmatchcase(m, pattern) for pattern in self.maximise))

    def dropped(self, metrics: Sequence[str]) -> frozenset[str]:
        """Those of `metrics` that are left out."""
        return frozenset(m for m in metrics if any(fnmatchcase(m, pattern) for pattern in self.drop))

    def without(self, metrics: Collection[str]) -> Self:
        """The same without some metrics, and without the groups that are then empty."""
        weights, groups, shares = self.weights, self.groups, self.group_weights
        if weights is not None:
            weights = {name: weight for name, weight in weights.items() if name not in metrics}
        if groups is not None:
            before, groups = _group_paths(groups), _groups_without(groups, metrics)
            emptied = before - _group_paths(groups)
            if shares is not None:
                shares = {name: weight for name, weight in shares.items() if name not in emptied}
        return self.model_copy(update={"weights": weights, "groups": groups, "group_weights": shares})

    @model_validator(mode="after")
    def _weights_or_groups(self) -> Self:
        if self.weights is not None and self.groups is not None:
            raise LocatedError(("groups",), "give weights or groups, not both")
        if self.group_weights is not None and self.groups is None:
            raise LocatedError(("group_weights",), "group_weights need groups")
        return self


def _groups_without(groups: Groups, metrics: Collection[str]) -> Groups:
    left: Groups = {}
    for family, inner in groups.items():
        if isinstance(inner, dict):
            tasks = {task: tuple(n for n in names if n not in metrics) for task, names in inner.items()}
            kept: tuple[str, ...] | dict[str, tuple[str, ...]] = {task: names for task, names in tasks.items() if names}
        else:
            kept = tuple(name for name in inner if name not in metrics)
        if kept:
            left[family] = kept
    return left


def _group_paths(groups: Groups) -> set[str]:
    """Names and paths of all groups, as weights may give them."""
    tasks = [(family, task) for family, inner in groups.items() if isinstance(inner, dict) for task in inner]
    return {*groups, *(task for _, task in tasks), *(f"{family}/{task}" for family, task in tasks)}


def _members(inner: tuple[str, ...] | dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    return tuple(name for names in inner.values() for name in names) if isinstance(inner, dict) else inner


class GroupRecipe(Model):
    """A rule on the summed share of several domains; `code:` as a member means every domain nested under it."""

    members: tuple[Name, ...] = Field(min_length=1, description="domains, or `code:` for every domain nested under it")
    least: Share = Field(0.0, description="of the sum of their shares")
    greatest: Share = Field(1.0, description="of the sum of their shares")


class ConstraintRecipe(Model):
    """What the mixture may not do."""

    max_epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        4.0, description="most passes over any domain's text, those already made included; null: no such rule"
    )
    floor: Share = Field(0.0, description="least share of every domain")
    floors: dict[Name, Share] = Field({}, description="domain -> least share, instead of floor")
    caps: dict[Name, Share] = Field({}, description="domain -> greatest share")
    fixed: dict[Name, Share] = Field({}, description="domain -> exact share")
    groups: dict[Name, GroupRecipe] = Field({}, description="rules on summed shares")

    def build(self) -> Constraints:
        """The same rules as a `Constraints`; ConstraintError if they contradict each other."""
        groups = {name: GroupTotal(g.members, g.least, g.greatest) for name, g in self.groups.items()}
        return Constraints(self.max_epochs, self.floor, self.floors, self.caps, self.fixed, groups)


class GuardRecipe(Model):
    """No metric worse than under a reference mixture by more than a tolerance."""

    reference: Literal["natural", "uniform", "prior", "best observed"] | dict[Name, Weight] = Field(
        "natural", description="the mixture to compare with; best observed is the best run"
    )
    tolerance: Weight = Field(0.0, description="a fraction of the metric's value; in its own unit if absolute")
    absolute: bool = Field(False, description="whether the tolerance is in the unit of the metric")
    metrics: tuple[Name, ...] | None = Field(None, description="default: every metric")


Level = Annotated[float, Field(gt=0, lt=10, allow_inf_nan=False)]


class ProbeRecipe(Model):
    """LoRA probes of the current model (arXiv 2605.15220; METHODS 2.1)."""

    budget: Fraction = Field(
        0.03,
        description="part of the run's training FLOPs that all decisions may spend; before a phase as much of it as is "
        "expected to pay",
    )
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="steps of one probe; default: what the budget allows, from 5 to 200"
    )
    design: ProbeDesign = Field(
        "auto",
        description="what probes are trained on: pure, a domain each; designed, a mixture each, balanced over domains, "
        "so that their number does not grow with them; auto: designed where that is fewer in mode probe-law",
    )
    number: Annotated[int, Field(ge=2, le=64)] = Field(
        6, description="of designed probes, a multiple of the number of levels"
    )
    levels: tuple[Level, ...] = Field(
        (0.05, 0.15, 0.4, 0.9, 1.6, 2.9),
        min_length=2,
        description="of every domain's share in designed probes, in its own of the prior",
    )
    purities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.9,), min_length=1, description="shares of the domain in its probes; the rest is the mixture used so far"
    )
    horizon: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        2.0,
        description="mode probe-law: the training moves losses, and their answers to shares, about so many times as "
        "far as probes do; of losses, what came of earlier phases tells more",
    )
    rank: Annotated[int, Field(ge=1)] = Field(16, description="of the LoRA adapters")
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(32.0, description="of the LoRA adapters")
    learning_rate_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(
        2.0, description="a probe's learning rate, in that of the training at this point"
    )
    evaluation_sequences: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="sequences of decision text per domain that score probes and candidates; default: what the budget "
        "allows",
    )

    @model_validator(mode="after")
    def _blocks(self) -> Self:
        _check_blocks("levels", self.levels, "number", self.number)
        return self


def _check_blocks(key: str, levels: tuple[float, ...], n_key: str, n: int) -> None:
    """That n mixtures can be made in which every domain takes every level equally often."""
    if len(set(levels)) != len(levels):
        raise LocatedError((key,), f"levels must differ (given: {list(levels)})")
    if n % len(levels):
        raise LocatedError((n_key,), f"must be a multiple of the {len(levels)} {key} (given: {n})")


class ExperimentRecipe(Model):
    """Experiments within the run: it trains on designed mixtures, segment by segment, and is its own evidence."""

    budget: Fraction = Field(
        0.01, description="part of the run's training FLOPs that may be spent on reading held-out text for decisions"
    )
    begin: Fraction | None = Field(
        None,
        description="of the steps, trained on the start before the first experiment; default: 0.13, less in long runs",
    )
    segments: Annotated[int, Field(ge=6, le=64)] = Field(
        8, description="of an experiment, each on another mixture; a multiple of the number of levels"
    )
    levels: tuple[Level, ...] = Field(
        (0.5, 0.8, 1.15, 1.55), min_length=2, description="of every domain's share in the first experiment, in its own"
    )
    later_levels: tuple[Level, ...] | None = Field(
        (0.7, 0.9, 1.07, 1.3),
        min_length=2,
        description="of the experiments after the first decision, as many levels; null: none, it is decided once",
    )
    evaluation_sequences: Annotated[int, Field(ge=2)] | None = Field(
        None, description="held-out sequences per domain, read after every segment; default: what the budget allows"
    )

    @model_validator(mode="after")
    def _blocks(self) -> Self:
        for key, levels in (("levels", self.levels), ("later_levels", self.later_levels)):
            if levels is not None:
                _check_blocks(key, levels, "segments", self.segments)
        return self


class ProposalRecipe(Model):
    """From observations to a mixture."""

    law: str = Field(
        "auto",
        description="of runs: a family of `evermix list-laws`; auto: the convex one that cross-validation prefers; "
        "auto-any: of all",
    )
    prior: PriorName | dict[Name, Weight] = Field(
        "auto",
        description="what the KL pulls towards: natural, uniform, start (the recipe's), half-new (of phases: half for "
        "what is new, half for what was learnt before, as it was; start where nothing was), swarm (the runs' mean), or "
        "domain -> share; auto: start for probes; for runs natural where token counts are known, else swarm",
    )
    kl: Kl | None = Field(
        None,
        description="pull towards the prior, relative to the predicted spread of the objective; auto: chosen by "
        "cross-fitting, which needs runs; default: auto for runs, 0.5 for probe-law, 2 for gradient, 5 for "
        "interpolation",
    )
    kl_weight: Weight | None = Field(
        None, description="instead of kl: the pull in the objective's unit per nat (Olmix and OP-Mix: 0.05)"
    )
    guards: tuple[GuardRecipe, ...] = ()
    compare: dict[Name, dict[Name, Weight]] = Field({}, description="name -> mixture to compare the proposal with")
    resamples: Annotated[int, Field(ge=0)] = Field(200, description="bootstrap resamples of the runs; 0: no intervals")

    @property
    def given_kl(self) -> float | None:
        """The relative pull that is asked for; None where it is to be chosen."""
        return None if self.kl == "auto" else self.kl

    @model_validator(mode="after")
    def _one_pull(self) -> Self:
        if self.kl is not None and self.kl_weight is not None:
            raise LocatedError(("kl_weight",), "give kl or kl_weight, not both")
        return self


class DecisionRecipe(ProposalRecipe):
    """When and how the mixture is decided."""

    at: tuple[Fraction, ...] | None = Field(
        None,
        description="decision points of a pretraining as fractions of its steps; default: 0.4 by probes; in-run at the "
        "end of each experiment, whose segments grow with the run",
    )
    mode: Mode = Field(
        "in-run",
        description="in-run: a pretraining is decided by experiments within it, and what follows it (or is decided by "
        "tasks) by probe-law; the others are of probes, and say what stands for the trained model",
    )
    by: Literal["loss", "tasks", "accuracy"] = Field(
        "loss",
        description="loss: what the objective says of held-out text, smooth; tasks: the first metric of the tasks of "
        "role fit, by their weights; accuracy: the share of wrong answers to them, which with probes costs writing all "
        "these answers once per probe (mode probe-law) or candidate (interpolation)",
    )
    candidates: Annotated[int, Field(ge=2)] = Field(
        20, description="interpolated candidates of mode interpolation; raised to domains + 3 where the law needs it"
    )
    gradient_evaluations: Annotated[int, Field(ge=2)] = Field(5, description="steps of mode gradient")
    always: bool = Field(
        False,
        description="decide even where no gain is expected for what deciding costs, and by the whole budget; by "
        "default such a phase is trained on its start",
    )
    cross_checks: bool = Field(False, description="also run the other modes on the same probes, for the report")
    probes: ProbeRecipe = ProbeRecipe()
    experiments: ExperimentRecipe = ExperimentRecipe()

    @property
    def probe_mode(self) -> ProbeMode:
        """How probes are read where they decide."""
        return "probe-law" if self.mode == "in-run" else self.mode

    @property
    def probed_at(self) -> tuple[float, ...]:
        """Where probes decide on the way."""
        return self.at or (0.4,)

    def designs_probes(self, n_pure: int) -> bool:
        """Whether probes are trained on designed mixtures, where pure ones would be so many."""
        if self.probe_mode != "probe-law":
            return False
        return self.probes.design == "designed" or (self.probes.design == "auto" and n_pure > self.probes.number)

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if self.at is not None and (not self.at or list(self.at) != sorted(set(self.at))):
            raise LocatedError(("at",), f"there must be decision points, and they must increase (at: {list(self.at)})")
        if self.probes.design == "designed" and self.probe_mode != "probe-law":
            message = f"mode {self.mode} interpolates between pure probes; take auto or pure, or mode probe-law"
            raise LocatedError(("probes", "design"), f"{message} (given: designed)")
        return self


class StudyRecipe(ProposalRecipe):
    """Everything that turns a table of runs into a mixture. All of it has defaults."""

    tokens: Amount | None = Field(None, description="R, tokens that the target run asks for; caps need it")
    objective: ObjectiveRecipe = ObjectiveRecipe(quantity="metric")
    constraints: ConstraintRecipe = ConstraintRecipe()
    design: DesignRecipe = DesignRecipe()
    seed: Annotated[int, Field(ge=0, lt=2**31)] = Field(0, description="of everything that is drawn at random")

    @field_validator("objective", mode="after")
    @classmethod
    def _of_unknown_unit(cls, value: ObjectiveRecipe) -> ObjectiveRecipe:
        return value if "quantity" in value.model_fields_set else value.model_copy(update={"quantity": "metric"})

    @field_validator("prior", mode="after")
    @classmethod
    def _of_runs(cls, value: PriorName | dict[str, float]) -> PriorName | dict[str, float]:
        if value in ("start", "half-new"):
            raise ValueError("a table of runs has no start and no phases: give auto, natural, uniform, swarm or shares")
        return value

    @classmethod
    def load(cls, path: str | Path) -> StudyRecipe:
        """Read a YAML file; RecipeError names the file, the line and the key of the first fault."""
        path = Path(path)
        data, node = read_yaml(path)
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise recipe_error(path, node, error, cls) from error
