"""Phases of a recipe: how the domain set changes over a model's life, and what each change is trained with."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from evermix.recipe.parts import (
    Amount,
    DomainRecipe,
    Model,
    Schedule,
    Share,
    TrainingRecipe,
    Weight,
    check_schedule,
)
from evermix.recipe.yaml_faults import LocatedError

PhaseKind = Literal["pretrain", "midtrain", "instruct"]
TrainerKind = Literal["plain", "sft", "sdft"]


def _phase_name(value: str) -> str:
    if not value or value != value.strip() or not value.isprintable():
        raise ValueError("must be a name on one line, without outer blanks")
    return value


PhaseName = Annotated[str, AfterValidator(_phase_name)]


_AS_THERE = "default: as in training"


class PhaseTraining(Model):
    """What a phase trains with instead of the recipe's `training`; what is left out is as there."""

    batch_sequences: Annotated[int, Field(ge=1)] | None = Field(None, description=_AS_THERE)
    gradient_accumulation: Annotated[int, Field(ge=1)] | None = Field(None, description=_AS_THERE)
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(None, description=_AS_THERE)
    schedule: Schedule | None = Field(None, description=_AS_THERE)
    warmup_fraction: Share | None = Field(None, description=_AS_THERE)
    decay_fraction: Share | None = Field(None, description=_AS_THERE)
    weight_decay: Weight | None = Field(None, description=_AS_THERE)
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = Field(None, description=_AS_THERE)

    @model_validator(mode="after")
    def _has_a_decay(self) -> Self:
        check_schedule(self.schedule, self.changed("decay_fraction"))
        return self


class PhaseRecipe(Model):
    """One phase: what changes in the domain set, and how long is trained on it."""

    name: PhaseName = Field(description="on one line")
    kind: PhaseKind = Field(
        "midtrain",
        description="pretrain: decisions on the way, at decision.at; midtrain: raw text, a decision at its beginning; "
        "instruct: conversations or prompts with answers (format chat), likewise",
    )
    add: tuple[DomainRecipe, ...] = Field((), description="domains that are new")
    remove: tuple[str, ...] = Field((), description="names of domains that are gone")
    revise: tuple[DomainRecipe, ...] = Field((), description="domains under their old names, with their text now")
    tokens: Amount | None = Field(None, description="budget in tokens; default: training.tokens")
    examples: Amount | None = Field(None, description="budget in conversations, for kind instruct, instead of tokens")
    trainer: TrainerKind = Field(
        "plain",
        description="instruct only: plain and sft (TRL) learn the answers; sdft: the model, shown the answer, teaches "
        "itself on what it writes without (arXiv 2601.19897)",
    )
    training: PhaseTraining = PhaseTraining()

    @model_validator(mode="after")
    def _budget_and_trainer_fit_the_kind(self) -> Self:
        if self.examples is not None and self.tokens is not None:
            raise LocatedError(("examples",), "a phase has tokens or examples, not both")
        if self.kind != "instruct":
            if self.examples is not None:
                raise LocatedError(("examples",), f"a phase of kind {self.kind} has a budget in tokens")
            if self.trainer != "plain":
                raise LocatedError(("trainer",), f"a phase of kind {self.kind} is trained by trainer plain")
        return self

    @property
    def changes(self) -> bool:
        """Whether the domain set is another one in this phase than before."""
        return bool(self.add or self.remove or self.revise)

    def trained_with(self, training: TrainingRecipe) -> TrainingRecipe:
        """The recipe's training with this phase's own values on top.

        Raises:
            LocatedError: if together they do not fit.
        """
        own = self.training.model_dump(exclude_none=True)
        if self.tokens is not None:
            own["tokens"] = self.tokens
        try:
            return TrainingRecipe.model_validate({**training.model_dump(), **own})
        except ValueError as error:
            first = str(error.errors()[0]["msg"]) if hasattr(error, "errors") else str(error)
            raise LocatedError(("training",), first.removeprefix("Value error, ")) from error


class RetentionRecipe(Model):
    """What a phase may not undo."""

    max_rise: Weight | None = Field(
        None,
        description="nats per token: no domain learnt before may be predicted to be worse after the phase than before "
        "it by more than this; default: no such rule",
    )


Release = Literal["none", "auto", "all"]


class ReplayRecipe(Model):
    """How domains learnt before are mixed in."""

    release: Release | tuple[str, ...] = Field(
        "all",
        description="all: the share of every domain is decided anew; none: those learnt before keep the proportions in "
        "which they were learnt, as one virtual domain; auto: those whose release is predicted to pay get shares of "
        "their own (partial reuse); or the names of such domains",
    )
    horizon: Annotated[float, Field(ge=1, allow_inf_nan=False)] = Field(
        2.0, description="mode probe-law: a stage moves every loss about so many times as far as its probes do"
    )
    purities: tuple[Share, ...] = Field(
        (0.1, 0.9), min_length=1, description="shares of a single new domain in its probes; several get the last each"
    )
