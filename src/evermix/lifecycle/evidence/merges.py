"""Evidence by merges (MergeMix): a full model per component, merged at many weights; a law of the merges decides.

From the phase's base theta_0 a specialist theta_i is trained on each component (what was learnt before, as one bundle,
and each new domain) for as long as the phase is. A candidate w stands for the model that mixture w would give:

    theta(w) = theta_0 + sum_i w_i (theta_i - theta_0)

Twelve merges are scored on decision text (more where the law needs them). The log-linear law is fitted to them, as to
interpolated candidates, and the mixture is its optimum under the recipe's constraints and pull. Specialists and scoring
are counted. Source: METHODS 2, baselines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.deciding.by_law import LawProblem, decide_by_law
from evermix.designs.dirichlet import dirichlet_candidates
from evermix.executors.job import CachedJob
from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.course import Course
from evermix.lifecycle.evidence.base import DecisionRequest, Evidence, decides, finite, named
from evermix.lifecycle.evidence.modes import DEFAULT_KL, published_law
from evermix.lifecycle.scoring import timed
from evermix.lifecycle.state import ModelState
from evermix.lifecycle.work import Work, scoring, training
from evermix.measure.merging import Merging
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.observations.runs import Runs
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
        """How many merges there are, on how much text they are scored, and that a law of them decides."""
        sequences = context.recipe.corpus.heldout_sequences
        return [_count(len(request.components.components)), sequences, _most(context), "law"]

    def measure(self, context: RunContext, state: ModelState, request: DecisionRequest) -> MergesMeasured:
        """Train the specialists and score their merges."""
        components, phase = request.components, request.phase
        specialists, computes = list[Path](), list[Compute]()
        for share in np.eye(len(components.components)):
            trained_on = context.over_all(components.expand(Mixture(components.components, share)))
            course = Course.begin(state, phase.off_trunk).on(context, trained_on, phase.n_steps, "specialists")
            specialists.append(course.state.trained)
            computes.append(course.compute)
        shares = _candidates(context, request)
        losses, compute = _scored(context, state, request, specialists, shares)
        observations = Observations(components.components, shares, phase.domains, losses)
        return MergesMeasured(observations, Compute.sum((*computes, compute)))

    def estimate(self, recipe: Recipe, phase: Phase) -> list[Work]:
        """One model per component, and merged candidates."""
        if not decides(phase):
            return []
        n = 1 + len(phase.new)
        specialists = [training(recipe, phase, "specialists")] * n
        return [*specialists, scoring(recipe, phase, _count(n), recipe.decision.probes.evaluation_sequences)]


@dataclass(frozen=True)
class MergesMeasured:
    """Scored merges."""

    observations: Observations
    compute: Compute

    def conclude(self, context: RunContext, state: ModelState, request: DecisionRequest) -> Decision:
        """The optimum of the law that is fitted to them."""
        decision, components, names = context.recipe.decision, request.components, request.phase.domains
        objective, runs, seed = (
            context.objective(names, "decision"),
            self.observations,
            context.recipe.seed + request.phase.number,
        )
        law = published_law().fit(Runs.of(runs.weights, runs.values))
        kl = DEFAULT_KL["merges"] if decision.given_kl is None else decision.given_kl
        reason = f"the {len(runs.weights)} merges of {len(components.components)} models are no independent runs"
        bounds = components.bounds(context, state.history, request.n_rows)
        prior = components.prior(request.prior)
        with context.reporter.part("decision", f"deciding {request.label} by merges", None):
            found = decide_by_law(LawProblem(law, objective, bounds, prior, reason, kl, decision.kl_weight, seed=seed))
        proposal = found.proposal
        predicted = law.predict(proposal.mixture.weights)
        rows = [Mixture(components.components, row) for row in runs.weights]
        values = np.atleast_1d(objective.value(runs.values)).tolist()
        return Decision(
            **request.describe(context, state, proposal.mixture),
            evidence="merges",
            mode=law.name,
            prior=dict(prior.as_dict),
            kl_weight=proposal.kl_weight,
            kl_source=found.kl.source,
            binding=proposal.binding,
            status=proposal.status,
            candidates=tuple((dict(row.as_dict), float(value)) for row, value in zip(rows, values, strict=True)),
            predicted_loss_nats=named(names, predicted),
            predicted_objective={"chosen": finite(float(objective.value(predicted)))},
            assessment_absent=found.assessment_absent,
            compute=self.compute,
        )


def _most(context: RunContext) -> int | None:
    """Sequences of decision text per domain: as many as the recipe gives a decision, or all."""
    return context.recipe.decision.probes.evaluation_sequences


def _count(n_components: int) -> int:
    """Merges: twelve, or what the log-linear law needs to be identified."""
    return max(N_CANDIDATES, n_components + 3)


def _candidates(context: RunContext, request: DecisionRequest) -> Floats:
    """Shares of the components, shape (candidates, components).

    Between two components the middles of equal parts of the line; among more of them Dirichlet draws around the uniform
    mixture. Constraints do not move them: they hold for what is decided, and the law learns from what lies outside.
    """
    components = request.components.components
    n = _count(len(components))
    if len(components) == 2:
        line = (np.arange(n) + 0.5) / n
        return np.column_stack([1 - line, line])
    rng = np.random.default_rng([context.recipe.seed, request.phase.number])
    drawn = dirichlet_candidates(Mixture.uniform(components), n, rng)
    return np.array([candidate.weights for candidate in drawn])


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
        heldout, losses = context.heldout(phase.domains, "decision", _most(context)), list[list[float]]()
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
