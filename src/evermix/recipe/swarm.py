"""The swarm of a recipe: how the proxy runs are trained, how many there are, and at which mixtures."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evermix.recipe.parts import Amount, Model, Schedule, Share, Weight, check_schedule
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

    prior: dict[str, Weight] = Field(
        {}, description="path of a node of this level (`web:science`) -> amount; default: the prior of the decision"
    )
    fixed_ratio: bool | tuple[str, ...] = Field(
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
    coverage: Annotated[int, Field(ge=0)] = Field(1, description="least runs with every domain")
    floor: Share = Field(0.0, description="least share of every domain in every run")
    caps: dict[str, Share] = Field({}, description="domain -> greatest share in every run")

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
    evaluation_sequences: Annotated[int, Field(ge=2)] = Field(128, description="held-out sequences per domain")
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
