"""Evidence: who makes the observations that a decision stands on. One class and one registry line per kind.

A decision is a request, what was measured for it, and what is concluded from that:

    Evidence.request -> DecisionRequest -> Evidence.measure -> Measured -> Measured.conclude -> results.Decision
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from evermix.constraints import NoRegression
from evermix.ledger import content_hash
from evermix.lifecycle.components import MixtureComponents
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe import Recipe, TaskRecipe
from evermix.recipe.decision import GuardRecipe
from evermix.recipe.phases import Phase, base_name
from evermix.results import Compute, Decision, Expectation
from evermix.results.run_result import EvidenceName
from evermix.tasks import Task
from evermix.version import TRAINING_VERSION


@dataclass(frozen=True)
class CountedTask:
    """A task that decisions count, and the metric of it that they count."""

    recipe: TaskRecipe
    task: Task
    metric: str
    is_accuracy: bool


@dataclass(frozen=True)
class DecisionRequest:
    """What is to be decided.

    Attributes:
        arm: that asks.
        phase: in which, after `at_step` of its steps.
        components: among which.
        n_rows: that the answer is for.
        prior: what KL pulls towards, over the leaves.
        label: for the reader.
        in_force: of a decision on the way, the mixture that is trained on until then, over the leaves.
        purities: of probes; `every_purity`: where several domains are probed, each at all of them.
        own_probes: whether recomputed domains have probes of their own.
        to_be_merged: whether probes must be pure, as they are merged in the end.
        n_decisions: of the phase, which share the budget of probes.
        tasks: that it is for; none: it is for the objective over decision text.
        earlier: phases before this one.
    """

    arm: str
    phase: Phase
    components: MixtureComponents
    n_rows: int
    prior: Mixture
    label: str
    at_step: int = 0
    in_force: Mixture | None = None
    purities: tuple[float, ...] = ()
    every_purity: bool = False
    own_probes: bool = False
    to_be_merged: bool = False
    n_decisions: int = 1
    tasks: tuple[CountedTask, ...] = ()
    earlier: tuple[Phase, ...] = ()

    @property
    def own(self) -> tuple[int | None, ...]:
        """Per metric, the position of its component: those of the domains, then of the tasks' domains, if any."""
        own = self.components.own
        by_domain = dict(zip(map(base_name, self.phase.domains), own, strict=True))
        return (*own, *(by_domain.get(each.recipe.domain or "") for each in self.tasks))

    def key(self, context: RunContext, state: ModelState, kind: Evidence) -> str:
        """Hash of all that the decision depends on."""
        recipe, phase = context.recipe, self.phase
        parts = ("decision", "replay", "retention", "objective", "constraints")
        return content_hash(
            {
                "evidence": [kind.name, TRAINING_VERSION, *kind.identity(context, state, self)],
                "base": state.run_id,
                "phase": [phase.name, list(phase.domains), list(phase.new), phase.n_steps, self.at_step, self.n_rows],
                "training": phase.training.model_dump(mode="json", exclude={"workers", "checkpoints", "evaluations"}),
                "texts": [[domain.name, domain.fingerprint] for domain in self.components.leaves],
                "prior": dict(self.prior.as_dict),
                "tasks": [[each.task.fingerprint, each.metric, each.recipe.weight] for each in self.tasks],
                **{part: getattr(recipe, part).model_dump(mode="json") for part in parts},
            }
        )

    def describe(self, context: RunContext, state: ModelState, shares: Mixture) -> dict[str, Any]:
        """The fields of a Decision that are the same for every kind of evidence.

        Args:
            shares: the decided ones, over the components.
        """
        phase, leaves = self.phase, self.components.expand(shares)
        return {
            "arm": self.arm,
            "phase": phase.name,
            "number": phase.number,
            "label": self.label,
            "at_step": self.at_step,
            "at_fraction": self.at_step / phase.n_steps,
            "at_token": tokens_so_far(context, state),
            "new": phase.new,
            "recomputed": self.components.recomputed,
            "shares": dict(shares.as_dict),
            "mixture": positive(leaves),
            "new_share": float(sum(leaves[name] for name in phase.new)),
            "old": {} if self.components.old is None else dict(self.components.old.as_dict),
        }


class Measured(Protocol):
    """What was measured for a decision."""

    @property
    def observations(self) -> Observations:
        """Runs: their mixtures over the components, and the metrics that they reached."""
        ...

    @property
    def compute(self) -> Compute:
        """What they cost."""
        ...

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """The decided mixture, with what it stands on, its assessment or why there is none, and its compute.

        Raises:
            ConvergenceError, ConstraintError, ObservationError: if no mixture can be decided.
        """
        ...


class Evidence(ABC):
    """A kind of evidence: what it decides about, what it measures, and what that will cost.

    Attributes:
        name: in results.
        before_phases: whether it can decide before a phase; else only on the way through one, which the arm asks for.
    """

    name: EvidenceName
    before_phases: ClassVar[bool] = True

    def request(
        self, context: RunContext, state: ModelState, phases: Sequence[Phase], arm: str
    ) -> DecisionRequest | None:
        """What is to be decided before the last of the phases so far; None where there is nothing to decide.

        By default the shares of new domains beside all that was learnt before, which keeps its proportions.
        """
        phase = phases[-1]
        components = MixtureComponents.beside_known(context, state.history, phase)
        if components is None:
            return None
        prior = prior_of(context, phase, components)
        return DecisionRequest(arm, phase, components, phase.n_rows, prior, f"before {phase.name}")

    def kept_start(self, recipe: Recipe, phase: Phase) -> Expectation | None:
        """What a decision before a phase is expected to gain, where it is not made because of that; else None."""
        return None

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """What a decision by this evidence depends on beyond the request and the recipe's rules; JSON-able."""
        return []

    def is_complete(self, context: RunContext, request: DecisionRequest) -> bool:
        """Whether a decision that was made before stands; not where something failed then and is to be tried again."""
        return True

    @abstractmethod
    def measure(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Measured:
        """Make the observations, or read those that were made before."""

    @abstractmethod
    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """What a decision at the beginning of a phase will cost; nothing where there is none to make."""


def on_the_way(context: RunContext, state: ModelState, phase: Phase, in_force: Mixture, arm: str) -> DecisionRequest:
    """Within a pretraining: every domain's share for the rest of it."""
    components = MixtureComponents.of_all(context, state.history, phase.domains)
    return DecisionRequest(
        arm,
        phase,
        components,
        phase.n_rows - state.phase_step * phase.batch_rows,
        prior_of(context, phase, components),
        f"in {phase.name} at step {state.phase_step}",
        at_step=state.phase_step,
        in_force=in_force,
    )


def prior_of(context: RunContext, phase: Phase, components: MixtureComponents) -> Mixture:
    """What KL pulls towards in decisions about the model itself, over leaves: the start unless the recipe says more."""
    asked = context.recipe.decision.prior
    if asked == "half-new" and phase.known and phase.new:
        return components.mixture_of(0.5, phase.new)
    return context.named_mixture(phase, "start" if asked in ("auto", "half-new", "swarm") else asked)


def guard_of(context: RunContext, request: DecisionRequest, asked: GuardRecipe) -> NoRegression:
    """A guard over the components; domains at a fixed ratio count in its reference by their total.

    Raises:
        DomainError: the reference names a domain that the phase does not have.
    """
    components = request.components
    if asked.reference == "prior":
        reference = components.prior(request.prior)
    else:
        reference = components.shares_of(context.named_mixture(request.phase, asked.reference))
    return NoRegression(reference, asked.tolerance, asked.metrics, asked.absolute)


def named_references(context: RunContext, request: DecisionRequest) -> dict[str, Mixture]:
    """Start, natural, uniform and the recipe's own mixtures to compare with, but for those that name other domains."""
    asked: dict[str, str | dict[str, float]] = {name: name for name in ("start", "natural", "uniform")}
    there = set(map(base_name, request.phase.domains))
    asked |= {name: shares for name, shares in context.recipe.decision.compare.items() if there >= set(shares)}
    return {name: context.named_mixture(request.phase, each) for name, each in asked.items()}


def decides(phase: Phase) -> bool:
    """Whether there are new domains beside known ones in a phase."""
    return bool(phase.number and phase.new and phase.known)


def positive(mixture: Mixture) -> dict[str, float]:
    """Shares without zeros."""
    return {name: share for name, share in mixture.as_dict.items() if share > 0}


def tokens_so_far(context: RunContext, state: ModelState) -> float:
    """Expected tokens that a model was trained on."""
    return float(state.history.spent @ context.store.mean_lengths)


def named(names: Sequence[str], values: Any) -> dict[str, float]:
    """Names with their values."""
    return dict(zip(names, map(float, values), strict=True))


def finite(value: float) -> float | None:
    """The number, or None where it is none or infinite."""
    return float(value) if np.isfinite(value) else None
