"""Equal compute: who spends on deciding is compared with baselines that were given as much, as more tokens.

Every arm has a row of its own, trained on as many tokens as the phases say. Where an arm decides, every baseline whose
mixture costs nothing to choose has a second one, in which a phase of n steps that cost c FLOPs has

    max(0, round((d - c) / (c / n)))

steps more, d being what the arm that decides spent in the phase, on all that is counted (`Compute.counted`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from evermix.lifecycle.arms import ARMS
from evermix.lifecycle.arms.base import MixtureArm
from evermix.lifecycle.arms.decided import Evermix
from evermix.lifecycle.work import Work
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase, lengthened

_DARKER = 0.65


@dataclass(frozen=True)
class Entrant:
    """A row of a comparison: an arm, on the tokens that the phases say or on more of them.

    Attributes:
        arm: its name.
        given: the arm whose compute it is given; None: as many tokens as the phases say.
    """

    arm: str
    given: str | None = None

    @property
    def name(self) -> str:
        """Of the row, in results, tables and plots."""
        return self.arm if self.given is None else f"{self.arm}+compute"

    @property
    def label(self) -> str:
        """For readers."""
        return ARMS[self.arm].label if self.given is None else f"{ARMS[self.arm].label}, equal compute"

    @property
    def colour(self) -> str:
        """In every plot: the arm's, darker where it is given compute."""
        colour = ARMS[self.arm].colour
        if self.given is None:
            return colour
        return "#" + "".join(f"{round(_DARKER * int(colour[k : k + 2], 16)):02X}" for k in (1, 3, 5))

    @property
    def mark(self) -> str:
        """In every plot: the arm's."""
        return ARMS[self.arm].mark


def entrants(recipe: Recipe, arms: Sequence[str] | None = None) -> list[Entrant]:
    """Every row, in the order in which they are shown: that of the arms, each followed by its row at equal compute.

    Args:
        arms: that are trained; None for all of the recipe.
    """
    names = recipe.arms if arms is None else arms
    given = _decider(names) if recipe.equal_compute else None
    found: list[Entrant] = []
    for arm in names:
        found.append(Entrant(arm))
        if given is not None and isinstance(ARMS[arm], MixtureArm):
            found.append(Entrant(arm, given))
    return found


def in_turn(rows: Sequence[Entrant]) -> list[Entrant]:
    """The order in which they are trained: those at equal compute last, when it is known what was spent."""
    return sorted(rows, key=lambda row: row.given is not None)


def phases_of(entrant: Entrant, phases: Sequence[Phase], flops: Callable[[str], Sequence[float]]) -> tuple[Phase, ...]:
    """The phases that an entrant goes through: those of the recipe, or longer ones.

    Args:
        phases: the recipe's, in one order.
        flops: of an arm on these, per phase.
    """
    if entrant.given is None:
        return tuple(phases)
    spent = zip(phases, flops(entrant.arm), flops(entrant.given), strict=True)
    return lengthened(phases, [extra_steps(phase.n_steps, own, given) for phase, own, given in spent])


def extra_steps(n_steps: int, own: float, given: float) -> int:
    """Steps by which a phase of `n_steps` that cost `own` FLOPs is lengthened to cost `given`; 0 if it costs more."""
    return max(0, round((given - own) / (own / n_steps)))


def estimate(recipe: Recipe, entrant: Entrant, phases: Sequence[Phase], n_parameters: int) -> list[list[Work]]:
    """What an entrant will do in every phase of one order, with a model of that size."""

    def flops(arm: str) -> list[float]:
        return [sum(work.flops(n_parameters) for work in works) for works in _works(recipe, arm, phases)]

    return _works(recipe, entrant.arm, phases_of(entrant, phases, flops))


def depends_on_size(recipe: Recipe, entrant: Entrant, phases: Sequence[Phase]) -> bool:
    """Whether its tokens depend on the size of the model: where it is given compute that other models spend."""
    return entrant.given is not None and any(
        work.n_parameters is not None for works in _works(recipe, entrant.given, phases) for work in works
    )


def _works(recipe: Recipe, arm: str, phases: Sequence[Phase]) -> list[list[Work]]:
    return [ARMS[arm].estimate(recipe, phases[: k + 1]) for k in range(len(phases))]


def _decider(arms: Sequence[str]) -> str | None:
    """Whose compute baselines are given: evermix's, or that of the first arm that decides; None if none does."""
    deciding = [arm for arm in arms if ARMS[arm].decides]
    return Evermix.name if Evermix.name in deciding else next(iter(deciding), None)
