"""The swarm of a recipe: how the proxy runs are trained, how many there are, and how the mixture is found from them."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from evermix.recipe.parts import Amount, Model, Share, Weight

TOKENS_PER_PARAMETER = 20  # Chinchilla (arXiv 2203.15556)


class ProxyTraining(Model):
    """How one proxy is trained: everything that decides its weights but text, steps and seed."""

    rung: str = Field("1M", description="a model of the ladder")
    batch_sequences: Annotated[int, Field(ge=1)] = 16
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-3
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup_fraction: Share = 0.02
    decay_fraction: Share = Field(0.2, description="last part of a wsd schedule, falling linearly to zero")
    weight_decay: Weight = 0.1
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
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

    @model_validator(mode="after")
    def _one_budget(self) -> Self:
        if self.tokens is not None and self.chinchilla is not None:
            raise ValueError("give tokens or chinchilla, not both")
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
