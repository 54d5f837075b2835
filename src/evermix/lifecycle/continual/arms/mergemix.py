"""Arm `mergemix`: a full model per component, merged at many weights; the best merge's weights are the mixture.

From the stage's base theta_0 a specialist theta_i is trained on each component (what was learnt before, as one bundle,
and each new domain) for as long as the stage is. A candidate w stands for the model that mixture w would give:

    theta(w) = theta_0 + sum_i w_i (theta_i - theta_0)

Twelve candidates are scored on held-out text, and the stage is trained on the mixture sum_i w_i component_i of the
best. Specialists and scoring are counted. Source: METHODS 2, baselines. Candidates keep to the recipe's constraints.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.continual.arms.base import Outcome, on_mixture, on_start, train_stage
from evermix.lifecycle.continual.arms.noting import note_decision
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.learner import Cost, Learner
from evermix.lifecycle.continual.sharing import Sharing
from evermix.measure.merging import Merging
from evermix.mixture import Mixture
from evermix.recipe.timeline import Phase

Floats = npt.NDArray[np.float64]
N_CANDIDATES = 12


def mergemix(bench: LifeBench, learner: Learner, stages: Sequence[Phase]) -> Outcome:
    """Train the specialists of the last stage, judge their merges, train the stage on the best one's mixture."""
    stage = stages[-1]
    sharing = Sharing.of(bench, learner.life, stage)
    if sharing is None or not stage.new:
        return on_start(bench, learner, stage)
    names = sharing.components.names
    costs: list[Cost] = []
    specialists: list[Learner] = []
    for share in np.eye(len(names)):
        trained_on = bench.over_all(sharing.expand(Mixture(sharing.components, share)))
        specialist, cost = train_stage(bench, learner, stage, trained_on, "specialists")
        specialists.append(specialist)
        costs.append(cost)
    shares = _candidates(bench, learner, stage, sharing)
    losses, cost = _Merges(bench, learner, stage, specialists).losses(shares)
    values = np.atleast_1d(bench.objective(stage.domains).value(losses))
    best = Mixture(sharing.components, shares[int(values.argmin())])
    mixture = bench.over_all(sharing.expand(best))
    note_decision(bench, learner, stage, "mergemix", mixture, cost)
    outcome = on_mixture(bench, learner, stage, mixture)
    costs += [cost, *outcome.costs]
    record = {
        "shares": dict(best.as_dict),
        "candidates": [dict(zip(names, row, strict=True)) for row in shares.tolist()],
        "objective_values": values.tolist(),
    }
    return replace(outcome, costs=tuple(costs), record=record)


def _candidates(bench: LifeBench, learner: Learner, stage: Phase, sharing: Sharing) -> Floats:
    """Shares of the components, shape (candidates, components), moved into the recipe's bounds.

    Between two components the middles of twelve equal parts of the line; among more of them Dirichlet draws around the
    uniform mixture.
    """
    m = len(sharing.components)
    if m == 2:
        line = (np.arange(N_CANDIDATES) + 0.5) / N_CANDIDATES
        drawn = list(np.column_stack([1 - line, line]))
    else:
        rng = np.random.default_rng([bench.recipe.seed, stage.number])
        uniform = Mixture.uniform(sharing.components)
        drawn = [candidate.weights for candidate in dirichlet_candidates(uniform, N_CANDIDATES, rng)]
    bounds = sharing.bounds(bench, learner.life, stage.n_rows)
    return np.array([Mixture.normalised(sharing.components, bounds.clip(w)).weights for w in drawn])


@dataclass(frozen=True)
class _Merges:
    """The merges of one stage's specialists."""

    bench: LifeBench
    learner: Learner
    stage: Phase
    specialists: Sequence[Learner]

    def losses(self, shares: Floats) -> tuple[Floats, Cost]:
        """Losses of every candidate, shape (candidates, domains), nats per token; scored once and kept."""
        marker = self.bench.project.run_folder(f"merges-{self._key(shares)}") / "done.json"
        if not marker.exists():
            write_json(marker, self._scored(shares))
        record = read_record(marker, "loss_nats", "cost")
        return np.array(record["loss_nats"]), Cost(**record["cost"])

    def _key(self, shares: Floats) -> str:
        domains = self.bench.leaves(self.stage.domains)
        return content_hash(
            {
                "base": self.learner.run_id,
                "specialists": [specialist.run_id for specialist in self.specialists],
                "shares": [[share.hex() for share in row] for row in shares.tolist()],
                "heldout": [[domain.name, domain.fingerprint] for domain in domains],
                "most": [self.bench.recipe.corpus.heldout_sequences, self._most],
            }
        )

    @property
    def _most(self) -> int | None:
        """Held-out sequences per domain: as many as the recipe gives a decision, or all."""
        return self.bench.recipe.decision.probes.evaluation_sequences

    def _scored(self, shares: Floats) -> dict[str, Any]:
        heldout = self.bench.heldout(self.stage.domains, self._most)
        checkpoints = [learner.checkpoint for learner in (self.learner, *self.specialists) if learner.checkpoint]
        started, losses = time.monotonic(), []
        with self.bench.reporter.part("evaluation", f"{self.stage.name}: merges", len(shares)) as report:
            merging = Merging(checkpoints[0], checkpoints[1:])
            for number, w in enumerate(shares):
                losses.append(merging.evaluate(w, heldout).loss_nats.tolist())
                report(number + 1)
        n_tokens = len(shares) * heldout.n_tokens
        cost = Cost("evaluation", self.bench.size.evaluation(n_tokens), n_tokens, time.monotonic() - started)
        return {"loss_nats": losses, "cost": vars(cost)}
