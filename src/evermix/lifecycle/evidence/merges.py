"""Evidence by merges (MergeMix): a full model per component, merged at many weights; the best merge's weights decide.

From the phase's base theta_0 a specialist theta_i is trained on each component (what was learnt before, as one bundle,
and each new domain) for as long as the phase is. A candidate w stands for the model that mixture w would give:

    theta(w) = theta_0 + sum_i w_i (theta_i - theta_0)

Twelve candidates are scored on held-out text; the mixture is sum_i w_i component_i of the best. Specialists and scoring
are counted. Source: METHODS 2, baselines. Candidates keep to the recipe's constraints.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.executors.job import CachedJob
from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.evidence.base import DecisionRequest, Evidence, decide_by_best, decides
from evermix.lifecycle.scoring import timed
from evermix.lifecycle.state import ModelState, phase_piece, train
from evermix.lifecycle.work import Work, scoring, training
from evermix.measure.merging import Merging
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase
from evermix.results import Compute, Decision
from evermix.results.run_result import EvidenceName
from evermix.version import TRAINING_VERSION

Floats = npt.NDArray[np.float64]
N_CANDIDATES = 12


class MergeEvidence(Evidence):
    """Merged specialists of the components."""

    name: EvidenceName = "merges"

    def identity(self, context: RunContext, state: ModelState, request: DecisionRequest) -> list[Any]:
        """How many candidates there are, and on how much text they are scored."""
        sequences = context.recipe.corpus.heldout_sequences
        return [N_CANDIDATES, sequences, _most(context)]

    def measure(self, context: RunContext, state: ModelState, request: DecisionRequest) -> MergesMeasured:
        """Train the specialists and score their merges."""
        components, phase = request.components, request.phase
        specialists, computes = list[Path](), list[Compute]()
        for share in np.eye(len(components.components)):
            trained_on = context.over_all(components.expand(Mixture(components.components, share)))
            piece = phase_piece(context, phase, trained_on, "specialists")
            specialist, compute = train(context, state.with_new_optimizer(), piece)
            specialists.append(specialist.trained)
            computes.append(compute)
        shares = _candidates(context, state, request)
        losses, compute = _scored(context, state, request, specialists, shares)
        observations = Observations(components.components, shares, phase.domains, losses)
        return MergesMeasured(observations, Compute.sum((*computes, compute)))

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """One model per component, and merged candidates."""
        if not decides(phase):
            return []
        specialists = [training(recipe, phase, "specialists")] * (1 + len(phase.new))
        return [*specialists, scoring(recipe, phase, N_CANDIDATES, recipe.decision.probes.evaluation_sequences)]


@dataclass(frozen=True)
class MergesMeasured:
    """Scored merges."""

    observations: Observations
    compute: Compute

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """The candidate whose objective is least."""
        return decide_by_best(context, state, request, self.observations, self.compute, "merges")


def _most(context: RunContext) -> int | None:
    """Held-out sequences per domain: as many as the recipe gives a decision, or all."""
    return context.recipe.decision.probes.evaluation_sequences


def _candidates(context: RunContext, state: ModelState, request: DecisionRequest) -> Floats:
    """Shares of the components, shape (candidates, components), moved into the recipe's bounds.

    Between two components the middles of twelve equal parts of the line; among more of them Dirichlet draws around the
    uniform mixture.
    """
    components = request.components.components
    if len(components) == 2:
        line = (np.arange(N_CANDIDATES) + 0.5) / N_CANDIDATES
        drawn = list(np.column_stack([1 - line, line]))
    else:
        rng = np.random.default_rng([context.recipe.seed, request.phase.number])
        uniform = Mixture.uniform(components)
        drawn = [candidate.weights for candidate in dirichlet_candidates(uniform, N_CANDIDATES, rng)]
    bounds = request.components.bounds(context, state.history, request.n_rows)
    return np.array([Mixture.normalised(components, bounds.clip(w)).weights for w in drawn])


def _scored(
    context: RunContext, state: ModelState, request: DecisionRequest, specialists: Sequence[Path], shares: Floats
) -> tuple[Floats, Compute]:
    """Losses of every candidate, shape (candidates, domains), nats per token; scored once and kept."""
    phase = request.phase
    key = content_hash(
        {
            "training": TRAINING_VERSION,
            "base": state.run_id,
            "specialists": [folder.parent.name for folder in specialists],
            "shares": [[share.hex() for share in row] for row in shares.tolist()],
            "heldout": [[domain.name, domain.fingerprint] for domain in context.leaves(phase.domains)],
            "most": [context.recipe.corpus.heldout_sequences, _most(context)],
        }
    )

    def work(_: Path) -> dict[str, Any]:
        heldout, losses = context.heldout(phase.domains, _most(context)), list[list[float]]()
        merging = Merging(state.trained, specialists)
        with context.reporter.part("evaluation", f"{phase.name}: merges", len(shares)) as report:

            def score() -> None:
                for number, w in enumerate(shares):
                    losses.append(merging.evaluate(w, heldout).loss_nats.tolist())
                    report(number + 1)

            _, seconds = timed(score)
        n_tokens = len(shares) * heldout.n_tokens
        compute = Compute.of("evaluation", context.size.evaluation(n_tokens), n_tokens, seconds)
        return {"loss_nats": losses, "compute": compute.model_dump(mode="json")}

    record = CachedJob(context.project.run_folder(f"merges-{key}"), ("loss_nats", "compute")).run(work)
    return np.array(record["loss_nats"]), Compute.model_validate(record["compute"])
