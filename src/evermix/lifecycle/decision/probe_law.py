"""Mode `probe-law`: a power-link law on the probes' own losses; no interpolation.

Each probe is a short run on a known mixture, so the (components x domains) table of probe losses is a small swarm in
which each domain is seen at several shares: nearly pure, a little (in `old` and beside others). Fit per domain d

    L_d(p) = b_d + c_d (sum_j tau_dj p_j)^(-a_d),   tau_dd = 1

with weak priors, then minimise the objective of L exactly. What it predicts is the loss after as many steps as a probe
has: it ranks mixtures, it does not foretell the end of the run.
"""

from __future__ import annotations

import numpy as np

from evermix.laws.power_link import PowerLinkLaw
from evermix.lifecycle.decision.problem import ModeOutcome, Problem
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve


def decide_by_probe_law(problem: Problem) -> ModeOutcome:
    """Fit the law on the probe losses and solve the convex programme."""
    law = PowerLinkLaw.for_probes(problem.own)
    law.fit(problem.evidence.observations.weights, problem.evidence.observations.values)
    rng = np.random.default_rng(problem.seed)
    kl_weight = scaled_kl_weight(law, problem.objective, problem.prior, rng, problem.kl)
    return ModeOutcome(
        solve(MixtureProblem(law, problem.objective, problem.bounds, problem.prior, kl_weight, problem.ceilings)),
        law.predict,
    )
