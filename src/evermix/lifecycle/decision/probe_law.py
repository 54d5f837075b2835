"""Mode `probe-law`: the law of the probes' own losses (laws/probe.py), and the exact minimum of the objective of it."""

from __future__ import annotations

import numpy as np

from evermix.laws.probe import ProbeLaw
from evermix.lifecycle.decision.problem import ModeOutcome, Problem
from evermix.observations.runs import Runs
from evermix.solvers.kl_path import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve


def decide_by_probe_law(problem: Problem) -> ModeOutcome:
    """Fit the law on the probe losses and solve the convex programme."""
    evidence = problem.evidence
    is_rate = [i >= len(evidence.base_loss_nats) for i in range(len(evidence.base_values))]
    law = ProbeLaw(problem.own, evidence.base_values, problem.horizon, is_rate)
    law.fit(Runs.of(evidence.observations.weights, evidence.observations.values))
    rng = np.random.default_rng(problem.seed)
    kl_weight = scaled_kl_weight(law, problem.objective, problem.prior, rng, problem.kl)
    return ModeOutcome(
        solve(MixtureProblem(law, problem.objective, problem.bounds, problem.prior, kl_weight, problem.ceilings)),
        law.predict,
    )
