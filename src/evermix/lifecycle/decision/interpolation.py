"""Mode `interpolation`: the published OP-Mix decision (arXiv 2605.15220; METHODS 2.2 and 2.3).

Candidates w on the simplex of components {old, d_1, ..., d_m} are drawn from a Dirichlet; the model
theta + sum_i w_i Delta_i is evaluated on every domain; a log-linear law is fitted on the *effective* mixture
p = Q^T w, where row i of Q is what probe i was trained on (so `old` is expanded to its leaves), and the KL-regularised,
capped programme is solved over leaves.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.domains import DomainSet
from evermix.laws.log_linear import LogLinearLaw
from evermix.lifecycle.decision.problem import ModeOutcome, Problem
from evermix.mixture import Mixture
from evermix.observations.runs import Runs
from evermix.solvers.kl_path import scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

Floats = npt.NDArray[np.float64]
_ON_A_LINE = 9


def decide_by_interpolation(problem: Problem) -> ModeOutcome:
    """Evaluate the candidates, fit the law on their effective mixtures, solve."""
    evidence, rng = problem.evidence, np.random.default_rng(problem.seed)
    shares = _candidates(problem, rng)
    effective = shares @ evidence.observations.weights
    simulated = np.array([problem.simulated(w) for w in shares])
    law = LogLinearLaw(huber_delta=0.02, scaled=False).fit(Runs.of(effective, simulated))
    kl_weight = scaled_kl_weight(law, problem.objective, problem.prior, rng, problem.kl)
    proposal = solve(MixtureProblem(law, problem.objective, problem.bounds, problem.prior, kl_weight, problem.ceilings))
    return ModeOutcome(proposal, law.predict, n_forward_tokens=len(shares) * evidence.n_tokens)


def _candidates(problem: Problem, rng: np.random.Generator) -> Floats:
    """Weights of the probes, shape (candidates, probes): between two probes evenly spaced (METHODS 2), else Dirichlet.

    Nine points 0.1 ... 0.9 between two probes are what was published.
    """
    probes = problem.evidence.probes
    if len(probes) == 2:
        line = np.linspace(0.1, 0.9, _ON_A_LINE)
        return np.column_stack([1 - line, line])
    parts = DomainSet([f"{k}:{probe.component.name}" for k, probe in enumerate(probes)])
    drawn = dirichlet_candidates(Mixture.uniform(parts), problem.n_candidates, rng)
    return np.array([candidate.weights for candidate in drawn])
