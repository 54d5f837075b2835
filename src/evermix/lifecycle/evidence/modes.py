"""Decision modes: three ways from the same probes to a mixture, behind one interface.

`probe-law`      a law of the probes' own losses (laws: ProbeLaw); no interpolation.
`interpolation`  the published OP-Mix decision (arXiv 2605.15220; METHODS 2.2 and 2.3): candidates w on the simplex of
                 components {old, d_1, ..., d_m} are drawn from a Dirichlet; the model theta + sum_i w_i Delta_i is
                 evaluated on every domain; a log-linear law is fitted on the *effective* mixture p = Q^T w, where row
                 i of Q is what probe i was trained on (so `old` is expanded to its leaves), and the KL-regularised,
                 capped programme is solved over leaves.
`gradient`       mirror descent on the interpolated model's real objective, without a law. A mixture p over m domains is
                 simulated by m probes whose mixtures, the rows of Q, span them. The weights

                     w = Q^-T p,   sum_d w_d = 1

                 have exactly the effective mixture Q^T w = p (w may leave the simplex a little; interpolation is exact
                 there too). With probe d trained on u d + (1 - u) old that is w_d = (p_d - (1 - u) old_d) / u, and
                 `old` itself is not needed. The objective and its gradient in w cost one forward and one backward pass;
                 dF/dp = Q^-1 dF/dw. The law fitted on random candidates stays 0.01 to 0.02 nats above what 2 to 4
                 gradient evaluations reach (docs/log/probes.md).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evermix.deciding.by_law import LawProblem, decide_by_law
from evermix.designs.dirichlet import dirichlet_candidates
from evermix.domains import DomainSet
from evermix.errors import ConvergenceError
from evermix.laws.base import MixingLaw
from evermix.laws.horizon import Horizon
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.probe import ProbeLaw
from evermix.laws.response import ResponseLaw
from evermix.lifecycle.evidence.probed import DecisionMode, DecisionProblem, ModeOutcome
from evermix.mixture import Mixture
from evermix.observations.runs import Runs
from evermix.solvers.proposal import Proposal, binding_bounds
from evermix.solvers.search import mirror_descent

Floats = npt.NDArray[np.float64]
_ON_A_LINE = 9
NOT_RESAMPLED = "{n} probes of {m} components cannot be resampled: without any of them no law can be fitted"
_WORST_CONDITION = 1e4
_REFERENCES = 4  # mixtures that a decision's record compares, each of them a forward pass in mode gradient

# In spreads of the predicted objective. The published lambda of 0.05 per nat is about five spreads of an interpolated
# objective, whose candidates differ by a hundredth of a nat; the log-linear law runs to a corner with less. Merges of
# whole models differ as much as the models do.
DEFAULT_KL = {"probe-law": 0.5, "interpolation": 5.0, "gradient": 2.0, "merges": 0.5}


def decide_by_probe_law(problem: DecisionProblem) -> ModeOutcome:
    """Fit a law to the probes' own losses, moved on to the horizon, and solve the convex programme.

    Where every metric is of a domain that is the law of responses (laws/response.py): slopes in its own share alone,
    shrunk over domains. A metric of no domain answers to all of them, which the probe law tells (laws/probe.py).
    """
    measured = problem.measured
    tasks_are_rates = measured.tasks is not None and measured.tasks.are_rates
    is_rate = [tasks_are_rates and i >= len(measured.base_loss_nats) for i in range(len(measured.base_values))]
    runs, factor = measured.observations.in_canonical_order(), problem.level_horizon
    table, own = Runs.of(runs.weights, runs.values), [j for j in problem.own if j is not None]
    law: MixingLaw
    if len(own) < len(problem.own):
        law = ProbeLaw(problem.own, measured.base_values, factor, is_rate).fit(table)
    else:
        law = ResponseLaw(
            own,
            centre=problem.prior.weights,
            horizon=Horizon(problem.slope_horizon),
            base=measured.base_values,
            level_horizon=factor,
            is_rate=is_rate,
        ).fit(table)
    return _solved(problem, law, "probe-law", np.random.default_rng(problem.seed))


def decide_by_interpolation(problem: DecisionProblem) -> ModeOutcome:
    """Evaluate the candidates, fit the law on their effective mixtures, solve."""
    rng = np.random.default_rng(problem.seed)
    shares = _candidates(problem, rng)
    effective = shares @ problem.measured.observations.weights
    simulated = np.array([problem.simulated(w) for w in shares])
    law = published_law().fit(Runs.of(effective, simulated))
    return _solved(problem, law, "interpolation", rng, len(shares) * problem.measured.n_tokens)


def published_law() -> LogLinearLaw:
    """The published law of candidates: f_i = exp(c_i) + exp(t_i . p), Huber loss of delta 0.02 (METHODS 1)."""
    return LogLinearLaw(huber_delta=0.02, scaled=False, ridge=0.0)


def _solved(
    problem: DecisionProblem, law: MixingLaw, mode: str, rng: np.random.Generator, n_forward_tokens: int = 0
) -> ModeOutcome:
    """As runs of any kind are decided from: by `deciding`, which says why the probes cannot be resampled."""
    kl = problem.kl if problem.kl is not None else DEFAULT_KL[mode]
    measured = problem.measured
    reason = NOT_RESAMPLED.format(n=len(measured.probes), m=len(problem.prior.domains))
    found = decide_by_law(
        LawProblem(
            law,
            problem.objective,
            problem.bounds,
            problem.prior,
            reason,
            kl,
            problem.kl_weight,
            ceilings=problem.ceilings_by,
            seed=problem.seed,
            rng=rng,
        )
    )
    ceilings = found.problem.ceilings
    return ModeOutcome(
        found.proposal,
        law.predict,
        found.kl.source,
        found.assessment_absent,
        ceilings,
        law if isinstance(law, ResponseLaw) else None,
        n_forward_tokens,
    )


def _candidates(problem: DecisionProblem, rng: np.random.Generator) -> Floats:
    """Weights of the probes, shape (candidates, probes): between two probes nine evenly spaced ones, else Dirichlet.

    With two probes at 10% and 90% new these are the published points, effective new shares s = .1, .2, ... .9, by
    component weights (s - .1) / .8: the first and the last are the probes themselves.
    """
    probes = problem.measured.probes
    if len(probes) == 2:
        line = np.linspace(0, 1, _ON_A_LINE)
        return np.column_stack([1 - line, line])
    parts = DomainSet([f"{k}:{probe.component.name}" for k, probe in enumerate(probes)])
    drawn = dirichlet_candidates(Mixture.uniform(parts), problem.n_candidates, rng)
    return np.array([candidate.weights for candidate in drawn])


class _Simulator:
    """p over leaves -> losses of the interpolated model, and their gradients in p."""

    def __init__(self, problem: DecisionProblem) -> None:
        self.problem = problem
        trained_on = problem.measured.observations.weights
        self.chosen = _spanning(trained_on, len(problem.prior.domains))
        self.from_shares = np.linalg.inv(trained_on[self.chosen].T)
        self.n_evaluations = 0

    def weights(self, p: Floats) -> Floats:
        w = np.zeros(len(self.problem.measured.probes))
        w[self.chosen] = self.from_shares @ p
        return w

    def losses(self, p: Floats) -> Floats:
        return self.problem.interpolation.evaluate(self.weights(p), self.problem.measured.heldout).loss_nats

    def value_and_gradient(self, p: Floats) -> tuple[float, Floats]:
        self.n_evaluations += 1
        scores, slopes = self.problem.interpolation.evaluate_with_gradient(
            self.weights(p), self.problem.measured.heldout
        )
        objective = self.problem.objective
        gradient = objective.gradient(scores.loss_nats, slopes[:, self.chosen] @ self.from_shares)
        return float(objective.value(scores.loss_nats)), gradient


def decide_by_gradient(problem: DecisionProblem) -> ModeOutcome:
    """A few steps of mirror descent from the prior."""
    simulator = _Simulator(problem)
    heldout = problem.measured.heldout
    start = problem.bounds.clip(problem.prior.weights)
    kl = problem.kl if problem.kl is not None else DEFAULT_KL["gradient"]
    kl_weight = problem.kl_weight if problem.kl_weight is not None else kl * _spread(simulator, start)
    result = mirror_descent(
        simulator.value_and_gradient,
        start,
        problem.bounds,
        problem.prior.weights,
        kl_weight,
        max_evaluations=problem.gradient_evaluations - 1,
    )
    mixture = Mixture.normalised(problem.prior.domains, result.weights)
    proposal = Proposal(
        mixture,
        tuple(simulator.losses(mixture.weights).tolist()),
        result.objective_value,
        result.kl_nats,
        kl_weight,
        binding_bounds(mixture, problem.bounds),
        "converged" if result.converged else f"stopped after {result.n_evaluations + 1} gradient evaluations",
        "mirror",
    )

    def predict(mixtures: Floats) -> Floats:
        rows = np.atleast_2d(mixtures)
        return np.array([simulator.losses(p) for p in rows]).reshape(*mixtures.shape[:-1], -1)

    return ModeOutcome(
        proposal,
        predict,
        f"{kl:g} of the objective's predicted spread"
        if problem.kl_weight is None
        else "given, in the objective's unit per nat",
        "the interpolated model itself is asked, and nothing is resampled",
        None,
        n_forward_tokens=(1 + _REFERENCES) * heldout.n_tokens,
        n_backward_tokens=simulator.n_evaluations * heldout.n_tokens,
    )


def _spanning(trained_on: Floats, m: int) -> npt.NDArray[np.intp]:
    """m probes whose mixtures, shape (probes, m), span all others: the purest of each domain, in domain order."""
    chosen = trained_on.argmax(axis=0)
    if len(set(chosen.tolist())) == m and np.linalg.cond(trained_on[chosen]) < _WORST_CONDITION:
        return chosen
    raise ConvergenceError(
        "mode gradient needs a probe for every domain, each mostly of its own",
        received=f"{len(trained_on)} probes of {m} domains",
        hint="raise decision.probes.purities, or take mode probe-law",
    )


def _spread(simulator: _Simulator, p: Floats) -> float:
    """Standard deviation of the linearised objective over Dirichlet(m p) mixtures blended half with p.

    Cov = (diag(p) - p p^T) / (m + 1), so Var(g . x / 2) = sum_j p_j (g_j - g . p)^2 / (4 (m + 1)).
    """
    _, gradient = simulator.value_and_gradient(p)
    centred = gradient - gradient @ p
    return float(np.sqrt(p @ centred**2 / (4 * (len(p) + 1))))


MODES: dict[str, DecisionMode] = {
    "probe-law": decide_by_probe_law,
    "interpolation": decide_by_interpolation,
    "gradient": decide_by_gradient,
}
