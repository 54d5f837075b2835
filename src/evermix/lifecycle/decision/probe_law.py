"""Mode `probe-law`: a power-link law on the probes' own losses; no interpolation.

Each probe is a short run on a known mixture, so the (components x domains) table of probe losses is a small swarm in
which each domain is seen at several shares: nearly pure, a little (in `old` and beside others). Fit per domain d

    L_d(p) = b_d + c_d (sum_j tau_dj p_j)^(-a_d),   tau_dd = 1

with weak priors, then minimise the objective of L exactly. What it predicts is the loss after as many steps as a probe
has: it ranks mixtures, it does not foretell the end of the run.

A probe is short, and LoRA: what a whole stage does to a loss, for better or worse, is a multiple h of what the probe
did (`horizon`; about 2 in docs/log.md). The law is then fitted to

    base + h (probe - base)

which matters where domains are not alike: a new domain's loss is high after a probe and not after the stage, and a mean
perplexity that still holds it high gives it too much.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evermix.laws.power_link import PowerLinkLaw
from evermix.lifecycle.decision.problem import ModeOutcome, Problem
from evermix.observations.runs import Runs
from evermix.solvers.kl_scale import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

Floats = npt.NDArray[np.float64]


def decide_by_probe_law(problem: Problem) -> ModeOutcome:
    """Fit the law on the probe losses and solve the convex programme."""
    law = PowerLinkLaw.for_probes(problem.own)
    law.fit(Runs.of(problem.evidence.observations.weights, _at_horizon(problem)))
    rng = np.random.default_rng(problem.seed)
    kl_weight = scaled_kl_weight(law, problem.objective, problem.prior, rng, problem.kl)
    return ModeOutcome(
        solve(MixtureProblem(law, problem.objective, problem.bounds, problem.prior, kl_weight, problem.ceilings)),
        law.predict,
    )


def _at_horizon(problem: Problem) -> Floats:
    """Metrics of the probes moved on to the horizon, shape (probes, metrics); never below half of the probe's.

    An error rate is not moved above one.
    """
    base, values = problem.evidence.base_values, problem.evidence.observations.values
    moved: Floats = np.maximum(base + problem.horizon * (values - base), values / 2)
    n_losses = len(problem.evidence.base_loss_nats)
    moved[:, n_losses:] = np.minimum(moved[:, n_losses:], 1.0)
    return moved
