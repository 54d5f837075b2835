"""The phases of a recipe one after the other: which domains there are in each, which are new, and how many steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from evermix.recipe.parts import DomainRecipe, TrainingRecipe
from evermix.recipe.phases import PhaseRecipe
from evermix.recipe.yaml_faults import LocatedError

PRETRAINING = PhaseRecipe(name="pretraining", kind="pretrain")
"""The one phase of a recipe without phases."""


@dataclass(frozen=True)
class Phase:
    """A phase of a training run: a phase of the recipe at its place in an order.

    Names are those of the text: a domain that a phase revises is called `name (2)` from then on.

    Attributes:
        number: from 0.
        recipe: as it is written.
        domains: there in this stage, those known before first.
        new: the ones among them that no earlier stage had.
        training: how it is trained, its budget included.
        n_steps: optimiser steps.
        first_row: rows of all stages before it; rows are sequences of text, or conversations.
    """

    number: int
    recipe: PhaseRecipe
    domains: tuple[str, ...]
    new: tuple[str, ...]
    training: TrainingRecipe
    n_steps: int
    first_row: int

    @property
    def name(self) -> str:
        """The phase's name."""
        return self.recipe.name

    @cached_property
    def known(self) -> tuple[str, ...]:
        """Domains that an earlier stage had too, and that are still there."""
        return tuple(name for name in self.domains if name not in self.new)

    @property
    def batch_rows(self) -> int:
        """Rows per optimiser step."""
        return self.training.batch_sequences

    @property
    def n_rows(self) -> int:
        """Rows of the whole stage."""
        return self.n_steps * self.batch_rows

    @property
    def end_row(self) -> int:
        """Rows up to the end of the stage."""
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
    """The stages of one order of the phases.

    Args:
        labels: names of all texts, by default those of this order.

    Raises:
        LocatedError: a phase adds what is there, removes or revises what is not, leaves nothing, or has no step.
    """
    names = labels or Labels.of(domains, phases)
    there = {domain.name: domain.name for domain in domains}  # domain -> name of its text
    seen: set[str] = set()
    stages: list[Phase] = []
    first_row = 0
    for number, phase in enumerate(phases):
        _change(there, phase, names, number)
        own = phase.trained_with(training)
        today = tuple(there.values())
        n_steps = _steps(phase, own, sequence_length, number)
        known = [name for name in today if name in seen]
        new = tuple(name for name in today if name not in seen)
        stages.append(Phase(number, phase, (*known, *new), new, own, n_steps, first_row))
        seen.update(today)
        first_row = stages[-1].end_row
    return tuple(stages)


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
