"""The path of proposals over the strength of the KL term, and its choice by cross-fitting.

The strength `kl` is dimensionless: lambda = kl * spread of the predicted objective (`scaled_kl_weight`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.domains import DomainSet
from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.observations.runs import Runs
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.solvers.solve import solve

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int_]
DEFAULT_KL = 0.2
KL_GRID = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
_FEWEST_SPLITS = 3
_INDIFFERENT = 0.01  # part of the judged gain that a stronger pull may cost
_WHOLE = 0.25  # strength for all runs, over that for half of them


def scaled_kl_weight(
    law: MixingLaw,
    objective: Objective,
    prior: Mixture,
    rng: np.random.Generator,
    kl: float = 0.05,
    n_references: int = 256,
) -> float:
    """lambda = kl * spread of the objective over Dirichlet(m prior) reference mixtures, blended half with the prior.

    The spread is half the distance between the 16th and the 84th percentile: a standard deviation that a law's
    explosion at the edge of what it has seen cannot inflate.


    A fixed lambda means something else for every objective: perplexities differ by tens where losses differ by
    tenths, and a simulator that compresses the true spread four or five times makes a lambda of 0.05 act like 0.2,
    which drowns the signal. Dimensionless `kl` times the *predicted* spread does the same to all of them. The
    references keep half the prior, so that the explosion of a loss at a zero share does not set the scale. They are
    drawn with the domains in the order of their names: in which order a table has its columns changes nothing.

    Returns:
        lambda >= 0, in the objective's quantity per nat.
    """
    if not (np.isfinite(kl) and kl >= 0):
        raise ObservationError("the dimensionless KL weight must be a number >= 0", received=kl)
    by_name = Mixture.from_dict(DomainSet(sorted(prior.domains.names)), prior.as_dict)
    drawn = dirichlet_candidates(by_name, n_references, rng, strength=(1.0, 1.0), minimum_weight=0.0)
    references = [Mixture.from_dict(prior.domains, reference.as_dict) for reference in drawn]
    mixtures = np.array([prior.blend(reference, 0.5).weights for reference in references])
    low, high = np.percentile(objective.value(law.predict(mixtures)), [16, 84])
    return kl * float(high - low) / 2


@dataclass(frozen=True)
class PathPoint:
    """One strength of the KL term.

    Attributes:
        kl: dimensionless strength.
        proposal: the optimum at it; its kl_weight is kl times the spread.
        n_effective: exp(entropy) of the mixture, the effective number of domains.
    """

    kl: float
    proposal: Proposal
    n_effective: float

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"kl": self.kl, "n_effective": self.n_effective, "proposal": self.proposal.as_dict}


def kl_path(problem: MixtureProblem, kls: Sequence[float] = KL_GRID, seed: int = 0) -> tuple[PathPoint, ...]:
    """The optimum at each strength, each started from its stronger neighbour; in the order of `kls`.

    `problem.kl_weight` itself does not count. A strength at which no optimum can be certified (0, for a law without a
    bounded minimum) is left out.

    Args:
        seed: of the mixtures that measure the spread.
    """
    unit = scaled_kl_weight(problem.law, problem.objective, problem.prior, np.random.default_rng(seed), 1.0)
    points: dict[float, PathPoint] = {}
    start = None
    for kl in sorted(set(kls), reverse=True):
        try:
            proposal = solve(problem.with_kl_weight(kl * unit), start=start)
        except ConvergenceError:
            if kl > 0:
                raise
            continue
        if not np.isfinite(proposal.objective_value):
            continue
        start = proposal.mixture.weights
        support = start[start > 0]
        points[kl] = PathPoint(float(kl), proposal, float(np.exp(-support @ np.log(support))))
    return tuple(points[kl] for kl in dict.fromkeys(kls) if kl in points)


@dataclass(frozen=True)
class KlChoice:
    """What cross-fitting says.

    Attributes:
        kl: the choice, dimensionless.
        kls: strengths compared.
        scores: (kls,), mean judged objective of the proposals, relative to the prior's, in spreads; lower is better.
        standard_errors: (kls,), of each score's difference to the best.
        n_judgements: halves that judged.
        reason: one sentence.
    """

    kl: float
    kls: tuple[float, ...]
    scores: tuple[float, ...]
    standard_errors: tuple[float, ...]
    n_judgements: int
    reason: str

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kl": self.kl,
            "kls": list(self.kls),
            "scores": list(self.scores),
            "standard_errors": list(self.standard_errors),
            "n_judgements": self.n_judgements,
            "reason": self.reason,
        }


def choose_kl(
    problem: MixtureProblem,
    runs: Runs,
    kls: Sequence[float] = KL_GRID,
    n_repeats: int = 5,
    seed: int = 0,
    labels: Ints | None = None,
) -> KlChoice:
    """The strength whose proposals hold up best before a law that has not seen the runs they come from.

    Repeatedly: split the runs in random halves; a law fitted to one half proposes at every strength, a law fitted to
    the other half judges; then the halves change places. Of the strengths that keep 99% of the best mean's gain the
    greatest is taken, and a quarter of it, since the proposal at stake rests on all runs: the error of a law falls at
    least as 1 / runs, and faster where it has few to spare (docs/log/laws.md). Guards do not count here: they would
    move with each law.

    Args:
        labels: (runs,), equal for replicates of one mixture, which must stay in one half; None if all differ.

    Returns:
        the choice; 0.2 with the reason if the law cannot be fitted to halves of so few runs.
    """
    rng = np.random.default_rng(seed)
    free = replace(problem, ceilings=None)
    grid = tuple(sorted({float(kl) for kl in kls}))
    judged: list[Floats] = []
    failure = ""
    for repeat in range(n_repeats):
        try:
            laws = [problem.law.with_fixed_choices().fit(half) for half in halves(runs, labels, rng)]
            for proposer, judge in (laws, laws[::-1]):
                judged.append(_judged(free, proposer, judge, grid, repeat))
        except (ObservationError, ConvergenceError) as error:
            failure = error.rule
    if len(judged) < 2 * _FEWEST_SPLITS and len(judged) < 2 * n_repeats:
        reason = (
            f"the {problem.law.name} law cannot be cross-fitted on halves of {len(runs)} runs"
            + (f" ({failure})" if failure else "")
            + f", so kl is the default of {DEFAULT_KL:g}"
        )
        return KlChoice(DEFAULT_KL, grid, (), (), len(judged), reason)
    return _best(np.array(judged), grid)


def halves(runs: Runs, labels: Ints | None, rng: np.random.Generator) -> tuple[Runs, Runs]:
    """Two random halves, runs of equal label kept together."""
    labels = np.arange(len(runs)) if labels is None else np.asarray(labels)
    names = rng.permutation(np.unique(labels))
    first = np.isin(labels, names[: len(names) // 2])
    return runs.take(first), runs.take(~first)


def _judged(problem: MixtureProblem, proposer: MixingLaw, judge: MixingLaw, kls: Sequence[float], seed: int) -> Floats:
    """Judge's objective at the proposals minus at the prior, in the judge's spreads, shape (kls,)."""
    path = {point.kl: point.proposal.mixture.weights for point in kl_path(replace(problem, law=proposer), kls, seed)}
    objective = problem.objective
    spread = scaled_kl_weight(judge, objective, problem.prior, np.random.default_rng(seed), 1.0)
    reference = float(objective.value(judge.predict(problem.prior.weights)))
    scores = [
        (float(objective.value(judge.predict(path[kl]))) - reference) / max(spread, 1e-300) if kl in path else np.inf
        for kl in kls
    ]
    return np.array(scores)


def _best(judged: Floats, kls: tuple[float, ...]) -> KlChoice:
    """A quarter of the greatest strength that keeps 99% of the best mean's gain; judged: (judgements, kls)."""
    finite = np.isfinite(judged).all(axis=0)
    means = np.where(finite, np.where(np.isfinite(judged), judged, 0.0).mean(axis=0), np.inf)
    kept = means <= means.min() + _INDIFFERENT * abs(means.min())
    best = int(np.flatnonzero(kept).max())
    differences = np.where(finite, judged, 0.0) - judged[:, [best]]
    # the two judgements of one split share their laws: a split counts once
    paired = differences.reshape(-1, 2, len(kls)).mean(axis=1)
    errors = paired.std(axis=0, ddof=1) / np.sqrt(len(paired)) if len(paired) > 1 else np.zeros(len(kls))
    reason = (
        f"{kls[best]:g} is the strongest that kept 99% of the best gain in {len(judged)} judgements of proposals from "
        "half of the runs, by laws that had not seen those; all of the runs need a quarter"
    )
    scores = tuple(float(x) for x in means)
    return KlChoice(_WHOLE * kls[best], kls, scores, tuple(float(x) for x in errors), len(judged), reason)
