"""A mixture decided by a fitted law: how strongly the prior pulls, the optimum, and how far it can be trusted.

The one place where that is done, whoever made the observations: a swarm, runs of a foreign trainer, probes of a model.
What cannot be had (m + 1 probes cannot be bootstrapped) is named in the answer.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds
from evermix.domain_updates import CollapsedSpace
from evermix.errors import ConstraintError, ConvergenceError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations import Observations
from evermix.solvers.kl_path import DEFAULT_KL, KlChoice, PathPoint, choose_kl, kl_path, scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal, binding_bounds
from evermix.solvers.solve import least_worst_change, least_worst_law, solve
from evermix.trust.assessment import AssessmentOptions, ProposalWarning, assess
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions
from evermix.trust.calibration import Calibration
from evermix.trust.comparison import Comparison, compare
from evermix.trust.references import Request, clusters
from evermix.trust.resampling import Kind, choose, resamples

Floats = npt.NDArray[np.float64]
Ceilings = Callable[[MixingLaw], Floats | None]
Aggregate = Literal["mean", "worst metric", "worst law"]
Progress = Callable[[int, int], None]
_WORST_OF = 30  # resampled laws of a worst case


@dataclass(frozen=True, eq=False)
class AssessedRuns:
    """The runs behind a law, and how they are to judge the mixture that it leads to.

    Attributes:
        observations: that the law was fitted to, in canonical order; their domains are those of the prior.
        calibration: the law's held-out predictions of them; None: to be made, where runs are resampled.
        resamples: of the bootstrap; 0 for none.
        target: what the mixture is for, and what it is compared with.
    """

    observations: Observations
    calibration: Calibration | None = None
    resamples: int = 200
    target: Request = field(default_factory=Request)

    def __post_init__(self) -> None:
        object.__setattr__(self, "observations", self.observations.in_canonical_order())


@dataclass(frozen=True, eq=False)
class LawProblem:
    """A mixture to be decided by a law.

    Attributes:
        law: fitted, over the prior's domains; predicts costs in the order of objective.metrics.
        objective, bounds, prior: what is wanted, what is allowed, what the KL term pulls towards.
        runs: behind the law, to judge the mixture by; or why they cannot: the rest of "not assessed: ...".
        kl: strength of the pull, in the objective's predicted spread; "auto": chosen by the runs, by cross-fitting.
        kl_weight: instead of kl: lambda, in the objective's quantity per nat.
        kl_before: where kl is auto and the runs are too few to choose it; None for the default of 0.2.
        ceilings: greatest cost allowed of each metric, shape (metrics,), inf where none; or how a law says them, as
            guards do; None for none.
        aggregate: what is minimised: the weighted mean, the metric that gains least, or the mean by the least kind of
            the resampled laws.
        space: the mixtures that keep fixed proportions; None for all. The bounds are within it.
        seed: of all that is drawn.
        rng: draws the mixtures that tell the objective's spread; None: one of the seed.
    """

    law: MixingLaw
    objective: Objective
    bounds: Bounds
    prior: Mixture
    runs: AssessedRuns | str
    kl: float | Literal["auto"] = DEFAULT_KL
    kl_weight: float | None = None
    kl_before: float | None = None
    ceilings: Floats | Ceilings | None = None
    aggregate: Aggregate = "mean"
    space: CollapsedSpace | None = None
    seed: int = 0
    rng: np.random.Generator | None = None

    def with_kl_weight(self, kl_weight: float, law: MixingLaw | None = None) -> MixtureProblem:
        """The problem for a solver, by the law or by another in its place."""
        law = law or self.law
        return MixtureProblem(law, self.objective, self.bounds, self.prior, kl_weight, self.ceilings_by(law))

    def ceilings_by(self, law: MixingLaw) -> Floats | None:
        """Greatest cost allowed of each metric under a law, shape (metrics,); None without guards."""
        return self.ceilings(law) if callable(self.ceilings) else self.ceilings

    def in_proportion(self, found: Proposal) -> Proposal:
        """The proposal with fixed proportions kept to the last digit; without a KL term a solver is free in them."""
        if self.space is None:
            return found
        mixture = Mixture(found.mixture.domains, self.space.project(found.mixture.weights))
        kl_nats, binding = mixture.kl(self.prior), binding_bounds(mixture, self.bounds)
        return replace(found, mixture=mixture, kl_nats=kl_nats, binding=binding)

    def observations(self, purpose: str) -> Observations:
        """Of the runs; ConstraintError if there are none to serve the purpose."""
        if isinstance(self.runs, str):
            raise ConstraintError(f"{purpose} needs runs that can be resampled", received=self.runs)
        return self.runs.observations


@dataclass(frozen=True, eq=False)
class KlStrength:
    """The pull towards the prior.

    Attributes:
        weight: lambda, in the objective's quantity per nat.
        source: how it was chosen, a phrase for people.
        relative: the same in the objective's predicted spread; None if the weight was given.
        choice: the cross-fitting that chose it; None if it was given.
        path: the optimum at every strength compared; empty if it was given.
    """

    weight: float
    source: str
    relative: float | None = None
    choice: KlChoice | None = None
    path: tuple[PathPoint, ...] = ()

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "weight": self.weight,
            "source": self.source,
            "relative": self.relative,
            "choice": None if self.choice is None else self.choice.as_dict,
            "path": [
                {"kl": point.kl, "n_effective": point.n_effective, **point.proposal.as_dict} for point in self.path
            ],
        }


@dataclass(frozen=True, eq=False)
class LawDecision:
    """A mixture decided by a law, and its evidence.

    Attributes:
        problem: what was solved.
        proposal: the answer, with the shadow prices of what held it back.
        kl: how strongly the prior pulls, and how that was chosen.
        comparison: the proposal beside natural, uniform, UniMax and the best observed run; None without runs.
        bootstrap: the resampled runs; None if there are none.
        warnings: what speaks against using it as it is; none are looked for without resampled runs.
        assessment_absent: why no runs were resampled, so that there are no intervals and no warnings; None if they
            were.
    """

    problem: MixtureProblem
    proposal: Proposal
    kl: KlStrength
    comparison: Comparison | None
    bootstrap: Bootstrap | None
    warnings: tuple[ProposalWarning, ...]
    assessment_absent: str | None

    @property
    def mixture(self) -> Mixture:
        """The proposed mixture, over all domains."""
        return self.proposal.mixture

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "mixture": dict(self.mixture.as_dict),
            "kl": self.kl.as_dict,
            "proposal": self.proposal.as_dict,
            "comparison": None if self.comparison is None else self.comparison.as_dict,
            "bootstrap": None if self.bootstrap is None else self.bootstrap.as_dict,
            "warnings": [warning.as_dict for warning in self.warnings],
            "assessment_absent": self.assessment_absent,
        }


def decide_by_law(asked: LawProblem, progress: Progress | None = None) -> LawDecision:
    """The optimum by the law under its rules, compared, and resampled where that can be done.

    Args:
        progress: called with (done, total) after each resample.

    Raises:
        ConstraintError: if the rules contradict each other, or kl or the aggregate needs runs and there are none.
        ConvergenceError: if the solver, or more than half of the resamples, do not converge.
    """
    kl = kl_strength(asked)
    problem = asked.with_kl_weight(kl.weight)
    proposal = _solved(asked, problem)
    runs = asked.runs
    if isinstance(runs, str):
        return LawDecision(problem, proposal, kl, None, None, (), runs)
    if runs.resamples == 0:
        comparison = compare(problem, proposal, runs.observations, runs.target)
        return LawDecision(problem, proposal, kl, comparison, None, (), "no resamples were asked for")
    by_law = asked.ceilings if callable(asked.ceilings) else None
    resampling = BootstrapOptions(runs.resamples, asked.seed, ceilings=by_law)
    bundled = None if asked.space is None else asked.space.bundled
    options = AssessmentOptions(resampling, runs.calibration, bundled=bundled)
    found = assess(problem, proposal, runs.observations, runs.target, options, progress)
    return LawDecision(problem, proposal, kl, found.comparison, found.bootstrap, found.warnings, None)


def optimum(asked: LawProblem, law: MixingLaw | None = None) -> Proposal:
    """The optimum alone, by the law or by another in its place; kl "auto" counts as the default strength."""
    return asked.in_proportion(solve(asked.with_kl_weight(given_strength(asked).weight, law)))


def kl_strength(asked: LawProblem) -> KlStrength:
    """The pull as given, or as the runs choose it."""
    if asked.kl_weight is not None or asked.kl != "auto":
        return given_strength(asked)
    observations = asked.observations("kl auto")
    labels = np.empty(observations.n_runs, dtype=np.intp)
    for label, rows in enumerate(clusters(observations)):
        labels[rows] = label
    problem = asked.with_kl_weight(1.0)
    choice = choose_kl(problem, observations.runs, seed=asked.seed, labels=labels)
    kl, reason = choice.kl, choice.reason
    if not choice.scores and asked.kl_before is not None:
        kl = asked.kl_before
        reason = f"as for the mixture before, since too few runs ({observations.n_runs}) choose another"
    path = kl_path(problem, seed=asked.seed)
    return KlStrength(_weight(asked, kl), f"{kl:g} of the objective's spread: {reason}", kl, choice, path)


def given_strength(asked: LawProblem) -> KlStrength:
    """The pull as given; "auto" counts as the default strength."""
    if asked.kl_weight is not None:
        return KlStrength(asked.kl_weight, "given, in the objective's unit per nat")
    kl = DEFAULT_KL if asked.kl == "auto" else asked.kl
    return KlStrength(_weight(asked, kl), f"{kl:g} of the objective's predicted spread, as given", kl)


def resampled_laws(
    law: MixingLaw,
    observations: Observations,
    n: int,
    seed: int,
    progress: Progress | None = None,
    kind: Kind | None = None,
) -> list[MixingLaw]:
    """The law refitted to `n` resamples of its runs, at least 2; those that it cannot be fitted to are left out.

    Args:
        kind: what is resampled; None for runs, or residuals where runs are too few.

    Raises:
        ConvergenceError: if fewer than two resamples can be fitted.
    """
    n = max(n, 2)
    laws: list[MixingLaw] = []
    draws = resamples(kind or choose(observations, law).kind, observations, law, n, np.random.default_rng(seed))
    for done, draw in enumerate(draws, start=1):
        with contextlib.suppress(ConvergenceError, ObservationError):
            laws.append(law.refit(draw))
        if progress is not None:
            progress(done, n)
    if len(laws) < 2:
        raise ConvergenceError("at least two resamples must be fitted", received=len(laws), hint="measure more runs")
    return laws


def _solved(asked: LawProblem, problem: MixtureProblem) -> Proposal:
    if asked.aggregate == "worst metric":
        found = least_worst_change(problem, problem.prior).proposal
    elif asked.aggregate == "worst law":
        observations = asked.observations("the worst of resampled laws")
        found = least_worst_law(problem, resampled_laws(asked.law, observations, _WORST_OF, asked.seed)).proposal
    else:
        found = solve(problem)
    return asked.in_proportion(found)


def _weight(asked: LawProblem, kl: float) -> float:
    rng = np.random.default_rng(asked.seed) if asked.rng is None else asked.rng
    return scaled_kl_weight(asked.law, asked.objective, asked.prior, rng, kl)
