"""Arms whose mixtures are known beforehand: the baselines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from evermix.lifecycle.arms.base import Arm, MixtureArm, PhaseOutcome, on_mixture
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work, training
from evermix.mixture import Mixture
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase


class Natural(MixtureArm):
    """Every domain of the phase in proportion to its size, old and new alike (ERM)."""

    name, label, colour, mark = "natural", "natural", "#E69F00", "^"

    def mixture(self, context: RunContext, phase: Phase) -> Mixture:
        """In proportion to rows."""
        return context.named_mixture(phase, "natural")


class Uniform(MixtureArm):
    """The same share for every domain of the phase, old and new alike (ERM, uniform replay)."""

    name, label, colour, mark = "uniform", "uniform", "#56B4E9", "D"

    def mixture(self, context: RunContext, phase: Phase) -> Mixture:
        """All alike."""
        return context.named_mixture(phase, "uniform")


class Weights(MixtureArm):
    """What the objective's weights say without any evidence (recipe/start.py)."""

    name, label, colour, mark = "weights", "by weights", "#7B3294", ">"

    def mixture(self, context: RunContext, phase: Phase) -> Mixture:
        """By the weights of the recipe's objective."""
        return context.named_mixture(phase, "weights")


class Naive(MixtureArm):
    """Only what is new, nothing replayed; the recipe's start in the first phase."""

    name, label, colour, mark = "naive", "naive", "#D55E00", "P"

    def mixture(self, context: RunContext, phase: Phase) -> Mixture:
        """New domains alike."""
        return blended(context, phase, 1.0)


class FixedReplay(MixtureArm):
    """90% new, 10% spread evenly over what was learnt before (METHODS 2, baselines)."""

    name, label, colour, mark = "fixed-replay", "fixed replay", "#CC79A7", "v"
    new_share = 0.9

    def mixture(self, context: RunContext, phase: Phase) -> Mixture:
        """Nine tenths for what is new."""
        return blended(context, phase, self.new_share)


class Retrain(Arm):
    """A new model at every phase, trained on everything there is for as long as all phases together. No trunk."""

    name, label, colour, mark = "retrain", "retrain", "#0072B2", "s"

    def run(self, context: RunContext, state: ModelState, phases: Sequence[Phase]) -> PhaseOutcome:
        """From the first weights on the domains of the last phase, on the recipe's start."""
        start = context.named_mixture(phases[-1], "start")
        return on_mixture(context, ModelState.initial(context), _whole(phases), start)

    def estimate(self, recipe: Recipe, phases: Sequence[Phase]) -> list[Work]:
        """All phases so far."""
        return [training(recipe, _whole(phases))]


def _whole(phases: Sequence[Phase]) -> Phase:
    """The last phase, as long as all together; nothing goes on from it."""
    last = phases[-1].by_itself
    return replace(last, n_steps=sum(phase.n_rows for phase in phases) // last.batch_rows, first_row=0)


def blended(context: RunContext, phase: Phase, new_share: float) -> Mixture:
    """`new_share` spread evenly over a phase's new domains, the rest evenly over the known ones; the start at first."""
    if not phase.number:
        return context.named_mixture(phase, "start")
    leaves = context.leaves(phase.domains)
    new, known = (
        Mixture.normalised(leaves, [float(name in names) for name in phase.domains]) if names else None
        for names in (phase.new, phase.known)
    )
    if new is None or known is None:
        return context.named_mixture(phase, "uniform")
    return known.blend(new, new_share)
