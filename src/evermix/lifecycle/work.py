"""Work: a piece of what an arm will do, estimated before any text is read.

FLOPs are counted as everywhere (METHODS 2): with N parameters 6 N per token of training, 4 N per token of an adapter's,
2 N per token read. A row counts `corpus.sequence_length` tokens, the most that a conversation has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evermix.recipe import Recipe
from evermix.recipe.phases import Phase

TRAINING, ADAPTER, READING = 6.0, 4.0, 2.0
DECAY = "decay"  # where the training of branches is booked


@dataclass(frozen=True)
class Work:
    """A piece of an arm's work.

    Attributes:
        part: under which it is booked.
        n_tokens: gone through by a model.
        flops_per_parameter_token: 6, 4 or 2.
        n_parameters: of a model that is not the recipe's; None for the recipe's.
    """

    part: str
    n_tokens: float
    flops_per_parameter_token: float
    n_parameters: int | None = None

    def flops(self, n_parameters: int) -> float:
        """With the recipe's model of that size."""
        own = n_parameters if self.n_parameters is None else self.n_parameters
        return self.flops_per_parameter_token * own * self.n_tokens


def training(recipe: Recipe, phase: Phase, part: str | None = None, share: float = 1.0) -> Work:
    """A share of a phase's training; with trainer sdft every row is learnt once for each generation."""
    times = phase.recipe.distillation.generations if phase.recipe.trainer == "sdft" else 1
    tokens = share * times * phase.n_rows * recipe.corpus.sequence_length
    return Work(part or part_of(recipe, phase), tokens, TRAINING)


def trainings(recipe: Recipe, phase: Phase, decided: Sequence[int] = ()) -> list[Work]:
    """All training of a phase, branch and trunk (lifecycle/course.py): up to the first decision, after it, the decay.

    Args:
        recipe: whose phase it is.
        phase: that is trained.
        decided: steps of it at which is decided on the way.
    """
    trunk = phase.n_steps
    if phase.on_trunk and phase.is_last:
        trunk = max(phase.fork_step, *decided, 0)
    first = min(decided, default=trunk)
    decay = phase.n_steps - phase.fork_step if phase.on_trunk else 0
    parts = ((None, first), ("training", trunk - first), (DECAY, decay))
    return [training(recipe, phase, part, steps / phase.n_steps) for part, steps in parts if steps]


def part_of(recipe: Recipe, phase: Phase) -> str:
    """Where a phase's training is booked: what all phases begin with is their prefix, whatever the arm."""
    return "prefix" if recipe.phases and not phase.number else "training"


def scoring(recipe: Recipe, phase: Phase, n_models: int, most: int | None = None) -> Work:
    """Reading at most so many sequences of one side of every domain, by default all."""
    sequences = min(recipe.corpus.heldout_sequences, most or recipe.corpus.heldout_sequences) * len(phase.domains)
    return Work("evaluation", n_models * sequences * recipe.corpus.sequence_length, READING)
