"""What a recipe has measured: proxies of a swarm, at which mixtures and how they are trained, and tasks."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from evermix.recipe.parts import Amount, Model, Name, Schedule, Share, Weight, check_schedule
from evermix.recipe.yaml_faults import LocatedError

TOKENS_PER_PARAMETER = 20  # Chinchilla (arXiv 2203.15556)
DesignKind = Literal["auto", "dirichlet", "sparse", "dense", "nested", "space-filling"]

Strength = tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], Annotated[float, Field(gt=0, allow_inf_nan=False)]]


class ScatterRecipe(Model):
    """How far the mixtures of a swarm scatter around their prior."""

    strength: Strength | None = Field(
        None,
        description="least and greatest concentration of the Dirichlet, spread log-uniformly; per domain, but of kind "
        "sparse in total; default: 0.1 and 5, of kind dense 0.5 and 5",
    )
    temperature: Weight = Field(1.0, description="the prior to this power: 1 as it is, 0 uniform over what it holds")
    minimum_weight: Annotated[float, Field(ge=0, lt=1)] | None = Field(
        None,
        description="shares under it become zero; default: 0.002, or a tenth of the uniform share where that is less; "
        "of kinds dense and space-filling 0",
    )

    @model_validator(mode="after")
    def _least_first(self) -> Self:
        if self.strength is not None and self.strength[0] > self.strength[1]:
            raise LocatedError(("strength",), f"the least comes first (given: {list(self.strength)})")
        return self


class LevelRecipe(ScatterRecipe):
    """One level of nested names: how a node's share is divided among its children."""

    prior: dict[Name, Weight] = Field(
        {}, description="path of a node of this level (`web:science`) -> amount; default: the prior of the decision"
    )
    fixed_ratio: bool | tuple[Name, ...] = Field(
        False, description="true: no node of this level is divided anew, each keeps its prior's proportions; or names"
    )


class DesignRecipe(ScatterRecipe):
    """Which mixtures a swarm is measured at: drawn around the prior."""

    kind: DesignKind = Field(
        "auto",
        description="dirichlet: around the prior; sparse: with many zeros, for topics; dense: no zeros, for curated "
        "sources; nested: level by level; space-filling; auto: nested where names are (`a:b`), else dirichlet",
    )
    levels: tuple[LevelRecipe, ...] = Field(
        (), description="of kind nested, from the outermost; what a level leaves out is as above"
    )
    grid: Annotated[float, Field(gt=0, le=1)] | None = Field(
        None, description="shares are multiples of it, 1 / whole number; default: any share"
    )
    coverage: Annotated[int, Field(ge=0)] | None = Field(
        None, description="least runs with every domain; default 3: what fewer hold keeps its share of the prior"
    )
    floor: Share = Field(0.0, description="least share of every domain in every run")
    caps: dict[Name, Share] = Field({}, description="domain -> greatest share in every run")

    @model_validator(mode="after")
    def _grid_and_levels_fit(self) -> Self:
        if self.grid is not None and abs(round(1 / self.grid) * self.grid - 1) > 1e-6:
            raise LocatedError(("grid",), f"must be 1 / whole number, such as 0.01 (given: {self.grid:g})")
        if self.levels and self.kind not in ("auto", "nested"):
            raise LocatedError(("levels",), f"belong to kind nested (kind: {self.kind})")
        if self.kind == "space-filling":
            given = self.changed("strength", "temperature")
            if given:
                raise LocatedError((given[0],), "kind space-filling is drawn around no prior")
        return self

    def level(self, number: int) -> LevelRecipe:
        """Level `number` from 0, what it leaves out as for all levels."""
        own = self.levels[number] if number < len(self.levels) else LevelRecipe()
        common = {key: getattr(self, key) for key in ScatterRecipe.model_fields}
        return LevelRecipe.model_validate({**common, **own.model_dump(exclude_unset=True)})


class ProxyTraining(Model):
    """How one proxy is trained: everything that decides its weights but text, steps and seed."""

    rung: str = Field("1M", description="a model of the ladder")
    batch_sequences: Annotated[int, Field(ge=1)] = Field(16, description="sequences per optimiser step")
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(3e-3, description="at its highest")
    schedule: Schedule = Field("wsd", description="of the learning rate: warmup-stable-decay, or cosine to a tenth")
    warmup_fraction: Share = Field(0.02, description="first part of the steps, rising linearly from zero")
    decay_fraction: Share = Field(0.2, description="last part of a wsd schedule, falling linearly to zero")
    weight_decay: Weight = Field(0.1, description="of AdamW")
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(1.0, description="greatest gradient norm")
    checkpoints: Annotated[int, Field(ge=0)] = Field(4, description="checkpoints within a proxy, for resuming")


class SwarmRecipe(ProxyTraining):
    """The swarm of proxy runs (method olmix)."""

    tokens: Amount | None = Field(None, description="tokens of every proxy; instead of chinchilla")
    chinchilla: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(
        None, description="tokens of every proxy in multiples of 20 per parameter; default 5, as published"
    )
    runs: Annotated[int, Field(ge=2)] | None = Field(None, description="proxies; default: what the law needs")
    evaluation_sequences: Annotated[int, Field(ge=2)] = Field(128, description="sequences of decision text per domain")
    simulated_epoching: bool = Field(
        False, description="let a proxy repeat each domain as often as the target run would: it sees a part of the text"
    )
    workers: Annotated[int, Field(ge=1)] | None = Field(None, description="processes at once; default: one per core")
    design: DesignRecipe = DesignRecipe()

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.tokens is not None and self.chinchilla is not None:
            raise LocatedError(("chinchilla",), "give tokens or chinchilla, not both")
        check_schedule(self.schedule, self.changed("decay_fraction"))
        return self

    @property
    def training(self) -> ProxyTraining:
        """The part that decides a proxy's weights."""
        return ProxyTraining(**{name: getattr(self, name) for name in ProxyTraining.model_fields})

    def n_tokens(self, n_parameters: int) -> int:
        """Tokens of every proxy: as given, or multiples of 20 per parameter (non-embedding and output projection)."""
        if self.tokens is not None:
            return self.tokens
        return round((self.chinchilla or 5.0) * TOKENS_PER_PARAMETER * n_parameters)


TaskKind = Literal["answer", "choice", "exact", "scorer", "lm-eval"]
TaskRole = Literal["fit", "held-out"]


def _metric_name(value: str) -> str:
    if not value or value != value.strip() or ":" in value or not value.isprintable():
        raise ValueError("must be a name on one line, without colons and outer blanks")
    return value


TaskName = Annotated[Name, AfterValidator(_metric_name)]

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
    domain: Name | None = Field(
        None,
        description="the domain that the task belongs to; it is scored at the end of every phase from the first that "
        "has this domain; default: at the end of every phase",
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
