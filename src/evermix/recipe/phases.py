"""Phases of a recipe: how the domain set changes from one to the next, and the timeline that an order of them makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, Literal, Self

import numpy as np
from pydantic import AfterValidator, Field, model_validator

from evermix.recipe.parts import (
    Amount,
    DomainRecipe,
    Model,
    Name,
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


PhaseName = Annotated[Name, AfterValidator(_phase_name)]


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


class DistillationRecipe(Model):
    """How a phase of trainer sdft lets the model teach itself; answers are written at temperature 1."""

    generations: Annotated[int, Field(ge=1)] = Field(
        1, description="answers that the model writes to every prompt; published: 8, at eight times the compute"
    )
    skipped_tokens: Annotated[int, Field(ge=0)] = Field(
        0,
        description="tokens at the beginning of an answer that are not learnt; published: 3, which leaves nothing of "
        "an answer of three",
    )
    teacher_rate: Share = Field(
        0.01,
        description="how far the teacher follows the model in every step, as an exponential moving average; 0: it "
        "stays as it was before the phase; published: 0.01",
    )


class PhaseRecipe(Model):
    """One phase: what changes in the domain set, and how long is trained on it."""

    name: PhaseName = Field(description="on one line")
    kind: PhaseKind = Field(
        "midtrain",
        description="pretrain: decisions on the way, at decision.at; midtrain: raw text, a decision at its beginning; "
        "instruct: conversations or prompts with answers (format chat), likewise",
    )
    add: tuple[DomainRecipe, ...] = Field((), description="domains that are new")
    remove: tuple[Name, ...] = Field((), description="names of domains that are gone")
    revise: tuple[DomainRecipe, ...] = Field((), description="domains under their old names, with their text now")
    tokens: Amount | None = Field(None, description="budget in tokens; default: training.tokens")
    examples: Amount | None = Field(None, description="budget in conversations, for kind instruct, instead of tokens")
    trainer: TrainerKind = Field(
        "plain",
        description="instruct only: plain and sft (TRL) learn the answers; sdft: the model, shown the answer, teaches "
        "itself on what it writes without (arXiv 2601.19897)",
    )
    distillation: DistillationRecipe = DistillationRecipe()
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
        if self.trainer != "sdft" and "distillation" in self.model_fields_set:
            raise LocatedError(("distillation",), f"belongs to trainer sdft (trainer: {self.trainer})")
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


Recompute = Literal["none", "auto", "all"]
ReplayEvidence = Literal["probes", "in-run"]


class ReplayRecipe(Model):
    """How domains learnt before are mixed in."""

    recompute: Recompute | tuple[Name, ...] = Field(
        "all",
        description="all: the share of every domain is decided anew; none: those learnt before keep the proportions in "
        "which they were learnt, as one virtual domain; auto: those that are predicted to be worth a share of "
        "their own get one (partial reuse); or the names of such domains",
    )
    evidence: ReplayEvidence = Field(
        "probes",
        description="of phases after a pretraining. probes: of the model, before the phase; in-run: experiments within "
        "it, on raw text, for long ones",
    )
    purities: tuple[Share, ...] = Field(
        (0.1, 0.9), min_length=1, description="shares of a single new domain in its probes; several get the last each"
    )


PRETRAINING = PhaseRecipe(name="pretraining", kind="pretrain")
"""The one phase of a recipe without phases."""


@dataclass(frozen=True)
class Phase:
    """A phase of a training run: a phase of the recipe at its place in an order.

    Names are those of the text: a domain that a phase revises is called `name (2)` from then on.

    Attributes:
        number: from 0.
        recipe: as it is written.
        domains: there in this phase, those known before first.
        new: the ones among them that no earlier phase had.
        training: how it is trained, its budget included.
        n_steps: optimiser steps, `extra_steps` among them.
        first_row: rows of all phases before it; rows are sequences of text, or conversations.
        on_trunk: whether it is trained on a trunk at a constant rate, and judged by a branch that decays.
        carries_on: whether its trunk goes on with the optimiser of the phase before.
        is_last: whether no phase goes on from its trunk.
        extra_steps: by which it is longer than the recipe says (`lengthened`).
    """

    number: int
    recipe: PhaseRecipe
    domains: tuple[str, ...]
    new: tuple[str, ...]
    training: TrainingRecipe
    n_steps: int
    first_row: int
    on_trunk: bool = False
    carries_on: bool = False
    is_last: bool = True
    extra_steps: int = 0

    @property
    def name(self) -> str:
        """The phase's name."""
        return self.recipe.name

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Domains that an earlier phase had too, and that are still there."""
        return tuple(name for name in self.domains if name not in self.new)

    @property
    def batch_rows(self) -> int:
        """Rows per optimiser step."""
        return self.training.batch_sequences

    @property
    def own_steps(self) -> int:
        """Optimiser steps that the recipe asks for."""
        return self.n_steps - self.extra_steps

    @property
    def warmup_steps(self) -> int:
        """Steps over which the learning rate rises: no more of them in a longer phase."""
        return round(self.training.warmup_fraction * self.own_steps)

    @property
    def n_rows(self) -> int:
        """Rows of the whole phase."""
        return self.n_steps * self.batch_rows

    @property
    def fork_step(self) -> int:
        """Step from which on the rate falls; `n_steps`, if it does not."""
        return self.n_steps - self.training.decay_steps(self.n_steps)

    @property
    def own_fork(self) -> int:
        """`fork_step` of the phase as long as the recipe says."""
        return self.own_steps - self.training.decay_steps(self.own_steps)

    @property
    def off_trunk(self) -> Phase:
        """The same without a trunk: what it is judged by is all there is."""
        return replace(self, on_trunk=False)

    @property
    def by_itself(self) -> Phase:
        """The same without a trunk and with an optimiser of its own."""
        return replace(self, on_trunk=False, carries_on=False)

    @property
    def end_row(self) -> int:
        """Rows up to the end of the phase."""
        return self.first_row + self.n_rows


@dataclass(frozen=True)
class Labels:
    """Names of the texts of all phases, the same in every order.

    Attributes:
        sources: name of the text -> where it comes from.
        revised: (phase, domain) -> the name of its revised text.
    """

    sources: dict[str, DomainRecipe]
    revised: dict[tuple[str, str], str]

    @classmethod
    def of(cls, domains: Sequence[DomainRecipe], phases: Sequence[PhaseRecipe]) -> Labels:
        """Name every text; revisions of a domain are numbered in the order of the recipe."""
        sources = {domain.name: domain for domain in domains}
        for phase in phases:
            sources |= {domain.name: domain for domain in phase.add}
        revised, versions = {}, dict.fromkeys(sources, 1)
        for phase in phases:
            for domain in phase.revise:
                versions[domain.name] = versions.get(domain.name, 1) + 1
                label = f"{domain.name} ({versions[domain.name]})"
                revised[phase.name, domain.name] = label
                sources[label] = domain.model_copy(update={"name": label})
        return cls(sources, revised)


def base_name(label: str) -> str:
    """The domain of a text: `law (2)` is a text of `law`."""
    stem, _, version = label.rpartition(" (")
    return stem if stem and version.rstrip(")").isdigit() and version.endswith(")") else label


def phase_orders(
    phases: Sequence[PhaseRecipe], orders: Sequence[Sequence[str]] | int, seed: int
) -> list[tuple[PhaseRecipe, ...]]:
    """The phases in each order asked for; the order of the recipe first where a number of orders is drawn.

    Raises:
        LocatedError: phases share a name, an order is no permutation, or a pretraining is not first.
    """
    by_name = {phase.name: phase for phase in phases}
    for position, phase in enumerate(phases):
        if by_name[phase.name] is not phase:
            raise LocatedError(("phases", position, "name"), f"phase names must be unique: '{phase.name}' is twice")
        if phase.kind == "pretrain" and position:
            raise LocatedError(("phases", position, "kind"), "only the first phase can be of kind pretrain")
    if isinstance(orders, int):
        return _drawn(tuple(phases), orders, seed) if phases else []
    for position, names in enumerate(orders):
        if sorted(names) != sorted(by_name):
            raise LocatedError(("orders", position), f"an order must name every phase once ({', '.join(by_name)})")
        if phases[0].kind == "pretrain" and names[0] != phases[0].name:
            raise LocatedError(("orders", position), f"the pretraining '{phases[0].name}' must be first")
    if not orders:
        raise LocatedError(("orders",), "there must be at least one order")
    return [tuple(by_name[name] for name in names) for names in orders]


def _drawn(phases: tuple[PhaseRecipe, ...], count: int, seed: int) -> list[tuple[PhaseRecipe, ...]]:
    fixed = 1 if phases[0].kind == "pretrain" else 0
    head, rest = phases[:fixed], phases[fixed:]
    found = [phases]
    rng, tries = np.random.default_rng([seed, len(rest)]), 0
    while len(found) < count and tries < 1000 * count:
        tries += 1
        candidate = (*head, *(rest[i] for i in rng.permutation(len(rest))))
        if candidate not in found:
            found.append(candidate)
    if len(found) < count:
        raise LocatedError(("orders",), f"{len(rest)} phases have only {len(found)} orders, not {count}")
    return found


def timeline(
    domains: Sequence[DomainRecipe],
    phases: Sequence[PhaseRecipe],
    training: TrainingRecipe,
    sequence_length: int,
    labels: Labels | None = None,
) -> tuple[Phase, ...]:
    """The phases of one order, each at its place.

    Args:
        labels: names of all texts, by default those of this order.

    Raises:
        LocatedError: a phase adds what is there, removes or revises what is not, leaves nothing, or has no step.
    """
    names = labels or Labels.of(domains, phases)
    there = {domain.name: domain.name for domain in domains}  # domain -> name of its text
    seen: set[str] = set()
    placed: list[Phase] = []
    first_row = 0
    for number, phase in enumerate(phases):
        _change(there, phase, names, number)
        own = phase.trained_with(training)
        today = tuple(there.values())
        n_steps = _steps(phase, own, sequence_length, number)
        known = [name for name in today if name in seen]
        new = tuple(name for name in today if name not in seen)
        placed.append(Phase(number, phase, (*known, *new), new, own, n_steps, first_row))
        seen.update(today)
        first_row = placed[-1].end_row
    return tuple(_joined(placed, number) for number in range(len(placed)))


_KEPT_BY_OPTIMISER = {"batch_sequences", "gradient_accumulation", "learning_rate", "weight_decay"}


def _joined(phases: Sequence[Phase], number: int) -> Phase:
    """A phase that knows what it goes on from, and what from it; without `phases` in a recipe there is no trunk."""
    phase = phases[number]
    has_trunk = phase.training.has_trunk and phase.recipe is not PRETRAINING
    carries_on = has_trunk and number > 0 and phases[number - 1].training.has_trunk
    if carries_on:
        carries_on = _updates(phases[number - 1]) == _updates(phase)
    return replace(phase, on_trunk=has_trunk, carries_on=carries_on, is_last=number == len(phases) - 1)


def _updates(phase: Phase) -> dict[str, Any]:
    """What must agree for an optimiser to be carried on: it keeps its rate, and rows are counted in batches."""
    return {"trainer": phase.recipe.trainer, **phase.training.model_dump(include=_KEPT_BY_OPTIMISER)}


def check_trunk(phases: Sequence[PhaseRecipe], training: TrainingRecipe) -> None:
    """LocatedError if training.trunk is given where it has no meaning, or true for a phase that cannot have one."""
    if training.trunk is not None and not phases:
        raise LocatedError(("training", "trunk"), "belongs to a recipe with phases")
    for position, phase in enumerate(phases):
        if training.trunk and phase.training.schedule == "cosine":
            message = "cosine has no constant rate to branch off from (training.trunk: true)"
            raise LocatedError(("phases", position, "training", "schedule"), message)


def lengthened(phases: Sequence[Phase], extra_steps: Sequence[int]) -> tuple[Phase, ...]:
    """The phases of one order, each with so many steps more at its end; later ones begin as many rows later."""
    found: list[Phase] = []
    for phase, extra in zip(phases, extra_steps, strict=True):
        first_row = found[-1].end_row if found else phase.first_row
        n_steps = phase.own_steps + extra
        found.append(replace(phase, n_steps=n_steps, extra_steps=extra, first_row=first_row))
    return tuple(found)


def _change(there: dict[str, str], phase: PhaseRecipe, names: Labels, number: int) -> None:
    """Make the phase's changes of the domain set in `there`."""

    def fail(key: str, position: int, rule: str) -> None:
        raise LocatedError(("phases", number, key, position), f"phase '{phase.name}': {rule}")

    for position, name in enumerate(phase.remove):
        if name not in there:
            fail("remove", position, f"only a domain that is there can be removed, and '{name}' is not")
        del there[name]
    for position, domain in enumerate(phase.revise):
        if domain.name not in there:
            fail("revise", position, f"only a domain that is there can be revised, and '{domain.name}' is not")
        there[domain.name] = names.revised[phase.name, domain.name]
    for position, domain in enumerate(phase.add):
        if domain.name in there:
            fail("add", position, f"'{domain.name}' is there already; revise it, or give the new one another name")
        there[domain.name] = domain.name
    if not there:
        raise LocatedError(("phases", number), f"phase '{phase.name}' must have a domain left to train on")


def _steps(phase: PhaseRecipe, training: TrainingRecipe, sequence_length: int, number: int) -> int:
    if phase.examples is not None:
        n_rows, key = phase.examples, "examples"
    else:
        n_rows, key = training.tokens // sequence_length, "tokens"
    n_steps = n_rows // training.batch_sequences
    if n_steps < 2:
        rule = f"must have at least 2 steps: {n_rows} rows in batches of {training.batch_sequences}"
        if phase is PRETRAINING:
            raise LocatedError(("training", "tokens"), f"a run {rule}")
        raise LocatedError(("phases", number, key), f"phase '{phase.name}' {rule}")
    return n_steps
