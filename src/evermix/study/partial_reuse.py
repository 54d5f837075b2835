"""Diagnosis: which domains at a fixed ratio are worth measuring anew, by a law over all leaves and its refits.

With T the solver's objective (metrics + lambda KL), its least value over all leaf mixtures, T*, over those of the
collapsed space, T_0, and over those of the space without domain j in the bundle, T_j:

    predicted loss of full reuse = T_0 - T*,      worth of recomputing j = T_0 - T_j.

The resampled laws' values of T at the two mixtures tell the standard deviation s of such a difference V. An optimum
over more mixtures is too good by chance: near it the worth is a square d^2 known with standard deviation s / (2 d) in
d, so the mean of its estimate is too high by s^2 / (4 V), which is taken off. Far from it, where the freed domain ends
at a bound, the worth is linear in what is estimated; the interval V -+ z s is right there and wide near the optimum.

Recomputations are advised one at a time, the greatest worth per run first, while the predicted loss that is left
exceeds `tolerance` of the mixture's gain over its prior. Each must be there in spite of the noise (lower bound > 0),
and be worth its runs: gain per run > tolerance * gain / runs saved, the rate at which measuring every domain of the
bundle would make up for a loss that is tolerated. What stays in it then loses together at most the tolerance, as far as
worths add up and noise does not hide them.

The law is fitted to every run that can be carried over, and stands for the truth. Residuals are resampled and the law
refitted (all runs stay: the few that hold a new domain cannot be spared). A law that does not rank runs that it has not
seen advises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from evermix.deciding.by_law import LawProblem, given_strength, resampled_laws
from evermix.deciding.fitting import FittedLaw, Prior
from evermix.deciding.proposing import law_problem
from evermix.domain_updates.coupling import centred, domain_coupling, kappa, mask, reuse_gap
from evermix.domain_updates.fixed_ratio import CollapsedSpace, effective_prior
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.mapped import on_expanded
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.solvers.solve import solve

Floats = npt.NDArray[np.float64]
_UNTRUSTED = "the law does not predict runs that it has not seen, so it cannot tell: measure more runs"


@dataclass(frozen=True)
class DiagnosisOptions:
    """How a diagnosis is made.

    Attributes:
        resamples: refits of the law.
        level: of the intervals, two-sided.
        tolerance: share of the mixture's gain over its prior that reuse may lose.
        runs_per_component: runs that one more component costs: 3 for log-linear (Olmix), 2 for power-link.
        kl_weight: lambda; None: the recipe's.
        prior: over the space's leaves; None: that of the law's fit without its retired domains.
    """

    resamples: int = 40
    level: float = 0.8
    tolerance: float = 0.02
    runs_per_component: int = 3
    kl_weight: float | None = None
    prior: Mixture | None = None

    def __post_init__(self) -> None:
        if not (0 < self.level < 1 and 0 <= self.tolerance < 1):
            raise ConstraintError(
                "level must be between 0 and 1, tolerance at least 0 and below 1", received=(self.level, self.tolerance)
            )
        if self.resamples < 2 or self.runs_per_component < 1:
            raise ConstraintError(
                "resamples must be at least 2 and runs per component at least 1",
                received=(self.resamples, self.runs_per_component),
            )


@dataclass(frozen=True)
class Estimate:
    """A loss or gain in the objective's quantity, the noise taken off, with its interval."""

    value: float
    low: float
    high: float

    @property
    def as_dict(self) -> dict[str, float]:
        """Plain values, for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


@dataclass(frozen=True)
class RecomputationValue:
    """What measuring one domain at a fixed ratio by itself is worth.

    Attributes:
        domain: its name.
        gain: of the objective (lower is better), the noise taken off, beyond the recomputations before it.
        low, high: its interval.
        runs: that it takes.
    """

    domain: str
    gain: float
    low: float
    high: float
    runs: int

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"domain": self.domain, "gain": self.gain, "low": self.low, "high": self.high, "runs": self.runs}


@dataclass(frozen=True, eq=False)
class Optimum:
    """The law's own optimum in one space.

    Attributes:
        mixture: over the law's domains, shape (domains,).
        total: T at it.
        resampled: T at it by each resampled law, shape (laws,).
    """

    mixture: Floats
    total: float
    resampled: Floats


class Judge:
    """Optima over spaces by the law on all runs, and what resampled laws say of them."""

    def __init__(self, asked: LawProblem, kl_weight: float, laws: list[MixingLaw]) -> None:
        self.problem = asked.with_kl_weight(kl_weight)
        self.laws = laws

    def total(self, weights: Floats) -> float:
        """T = objective + lambda KL."""
        return self.problem.total(weights)

    def optimum(self, space: CollapsedSpace | None) -> Optimum:
        """The optimum over `space`, or over all leaves."""
        mixture = self._best(space)
        penalty = self.total(mixture) - self.problem.value(mixture)
        values = [float(self.problem.objective.value(law.predict(mixture))) + penalty for law in self.laws]
        return Optimum(mixture, self.total(mixture), np.array(values))

    def _best(self, space: CollapsedSpace | None) -> Floats:
        problem = self.problem
        if space is None:
            return solve(problem).mixture.weights
        prior = effective_prior(problem.prior, space.components, [space.virtual])
        bounds = space.component_bounds(problem.bounds)
        collapsed = replace(problem, law=on_expanded(problem.law, space), bounds=bounds, prior=prior)
        return space.expand(solve(collapsed).mixture.weights)


@dataclass(frozen=True, eq=False)
class RecomputationRule:
    """Which recomputations are worth their runs."""

    judge: Judge
    full: Optimum
    gain: float
    runs_saved: int
    options: DiagnosisOptions

    def worth(self, narrow: Optimum, wide: Optimum) -> Estimate:
        """T of the narrow space less that of the wide one, the noise taken off."""
        return interval_of_worth(narrow.total - wide.total, narrow.resampled - wide.resampled, self.options.level)

    def worths(self, space: CollapsedSpace, narrow: Optimum) -> tuple[RecomputationValue, ...]:
        """Of recomputing each domain at a fixed ratio from `space`, greatest first."""
        listed = []
        for name in space.fixed_ratio:
            if self._is_last(space, name):
                continue
            found = self.worth(narrow, self.judge.optimum(space.recomputed([name])))
            runs = self.options.runs_per_component
            listed.append(RecomputationValue(name, found.value, found.low, found.high, runs))
        return tuple(sorted(listed, key=lambda each: -each.gain))

    def recomputations(
        self, space: CollapsedSpace, narrow: Optimum, candidates: tuple[RecomputationValue, ...]
    ) -> tuple[tuple[RecomputationValue, ...], Estimate]:
        """The domains to recompute in order, and the loss that is left."""
        chosen: list[RecomputationValue] = []
        while True:
            remaining = self.worth(narrow, self.full)
            if remaining.value <= self.options.tolerance * self.gain:
                return tuple(chosen), remaining
            if chosen:
                candidates = self.worths(space, narrow)
            worthy = [each for each in candidates if self._is_worth_it(each)]
            if not worthy:
                return tuple(chosen), remaining
            chosen.append(worthy[0])
            space = space.recomputed([worthy[0].domain])
            narrow = self.judge.optimum(space)

    def _is_worth_it(self, found: RecomputationValue) -> bool:
        rate = self.options.tolerance * self.gain / self.runs_saved
        return found.low > 0 and found.gain > rate * found.runs

    def _is_last(self, space: CollapsedSpace, name: str) -> bool:
        """Whether nothing with a share would stay in the bundle: the last domain's total is free already."""
        return bool(space.virtual.inner[name] >= 1.0)


def interval_of_worth(difference: float, resampled: Floats, level: float) -> Estimate:
    """The worth of a wider space from T(narrow optimum) - T(wide optimum), by the law and by resampled laws.

    value = V - s^2 / (4 V), at least 0; interval V -+ z s, at least 0. s is the resamples' standard deviation, as half
    the distance between their 16th and 84th percentile, which a law's explosion cannot inflate.

    Args:
        difference: V, >= 0 but for rounding.
        resampled: the same by resampled laws at the same two mixtures, shape (laws,), at least 2.
        level: two-sided.
    """
    known = resampled[np.isfinite(resampled)]
    found = max(difference, 0.0)
    if len(known) < 2:
        return Estimate(0.0, 0.0, float("inf"))
    low, high = np.percentile(known, [16, 84])
    s = float(high - low) / 2
    reach = float(norm.ppf((1 + level) / 2)) * s
    value = max(found - s**2 / (4 * found), 0.0) if found > 0 else 0.0
    return Estimate(value, max(found - reach, 0.0), found + reach)


@dataclass(frozen=True)
class Diagnosis:
    """What the runs say of keeping fixed proportions.

    Attributes:
        kappa: coupling of the domains at a fixed ratio with the computed ones (Olmix), of centred coefficients.
        one_minus_rho: share of the computed domains in the mixture with everything free.
        reuse_gap: share of the bundle's tokens that would go elsewhere if everything were free, in [0, 1].
        coupling: of each domain at a fixed ratio with the computed ones, over shared metrics.
        gain: of the mixture with everything free over its prior, in the objective's quantity.
        predicted_loss: of keeping all fixed proportions, against freeing all.
        runs_saved: runs that full recomputation would take beyond those of full reuse.
        candidates: the worth of recomputing each domain at a fixed ratio alone, greatest first.
        recompute: the domains to recompute, in order, each with its worth beyond those before.
        remaining_loss: predicted loss that is left after those recomputations.
        advice: a phrase for people.
    """

    kappa: float
    one_minus_rho: float
    reuse_gap: float
    coupling: dict[str, float]
    gain: float
    predicted_loss: Estimate
    runs_saved: int
    candidates: tuple[RecomputationValue, ...]
    recompute: tuple[RecomputationValue, ...]
    remaining_loss: Estimate
    advice: str

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "kappa": self.kappa,
            "one_minus_rho": self.one_minus_rho,
            "reuse_gap": self.reuse_gap,
            "coupling": dict(self.coupling),
            "gain": self.gain,
            "predicted_loss": self.predicted_loss.as_dict,
            "runs_saved": self.runs_saved,
            "candidates": [each.as_dict for each in self.candidates],
            "recompute": [each.as_dict for each in self.recompute],
            "remaining_loss": self.remaining_loss.as_dict,
            "advice": self.advice,
        }


def diagnose(
    fitted: FittedLaw,
    space: CollapsedSpace,
    recipe: StudyRecipe | None = None,
    options: DiagnosisOptions | None = None,
) -> Diagnosis:
    """Judge the fixed proportions of `space` by all runs.

    Args:
        fitted: to runs over the space's leaves, and over retired domains: others, which no mixture may hold.
        space: today's leaves and the bundle.
        recipe: of the request; the fit's if None. An objective aggregated otherwise is judged by its mean.
        options: defaults if None.

    Raises:
        DomainError: if a leaf of the space is none of the law's domains.
        ConstraintError: if the bounds do not allow the fixed proportions.
        ConvergenceError: if the law cannot be refitted to resampled runs, or a solver does not converge.
    """
    options = options or DiagnosisOptions()
    asked, widened = _request(fitted, space, recipe or fitted.recipe, options)
    kl_weight = given_strength(asked).weight if options.kl_weight is None else options.kl_weight
    observations, seed = fitted.observations, fitted.recipe.seed
    laws = resampled_laws(fitted.law, observations, options.resamples, seed, kind="residuals")
    judge = Judge(asked, kl_weight, laws)
    narrow, full = judge.optimum(widened), judge.optimum(None)
    n_runs = options.runs_per_component * len(space.fixed_ratio)
    gain = max(judge.total(asked.prior.weights) - judge.total(full.mixture), 0.0)
    rule = RecomputationRule(judge, full, gain, n_runs, options)
    candidates = rule.worths(widened, narrow)
    loss = rule.worth(narrow, full)
    trusted = not fitted.calibration.objective.spearman <= 0  # ranks: one explosion is no verdict; NaN: too few runs
    recompute, remaining = rule.recomputations(widened, narrow, candidates) if trusted else ((), loss)
    names = widened.leaves.names
    fixed, computed = mask(names, space.fixed_ratio), mask(names, space.free)
    coefficients = centred(tangent_coefficients(judge.problem.law, full.mixture, fitted), fixed | computed)
    coupling = domain_coupling(coefficients, computed)
    return Diagnosis(
        kappa=kappa(coefficients, fixed, computed),
        one_minus_rho=float(full.mixture[computed].sum()),
        reuse_gap=reuse_gap(widened.ptilde, np.where(fixed, full.mixture, 0.0)).total_variation,
        coupling={name: float(coupling[names.index(name)]) for name in space.fixed_ratio},
        gain=gain,
        predicted_loss=loss,
        runs_saved=n_runs,
        candidates=candidates,
        recompute=recompute,
        remaining_loss=remaining,
        advice=_advice(recompute, remaining, gain, options) if trusted else _UNTRUSTED,
    )


def tangent_coefficients(law: MixingLaw, at: Floats, fitted: FittedLaw) -> Floats:
    """A, shape (metrics, domains): t of a log-linear law, else gradients at a mixture over each metric's spread.

    The reducible part of a metric is unknown for other laws; the range of its predictions over the runs stands for it.
    A law without a gradient is differenced.
    """
    if isinstance(law, LogLinearLaw):
        return law.t_
    predicted = law.predict(fitted.observations.weights)
    spread = np.maximum(predicted.max(axis=0) - predicted.min(axis=0), 1e-300)
    inner = np.maximum(at, 1e-6)
    slopes = law.gradient(inner) if law.has_gradient else _differences(law, inner)
    result: Floats = slopes / spread[:, None]
    return result


def _differences(law: MixingLaw, at: Floats, step: float = 0.02) -> Floats:
    """Slopes towards each domain alone, shape (metrics, domains), from mixtures a small step away."""
    towards = (1 - step) * at + step * np.eye(len(at))
    result: Floats = ((law.predict(towards) - law.predict(at)) / step).T
    return result


def _request(
    fitted: FittedLaw, space: CollapsedSpace, recipe: StudyRecipe, options: DiagnosisOptions
) -> tuple[LawProblem, CollapsedSpace]:
    """Bounds and guards with retired domains held at zero, and the space over the law's domains."""
    known = fitted.observations.domains
    for name in space.leaves.names:
        known.index(name)
    retired = {name: 0.0 for name in known.names if name not in space.leaves}
    domains = DomainSet(
        Domain(name).resized(0, space.leaves.unit)
        if name in retired
        else space.leaves.domains[space.leaves.index(name)]
        for name in known.names
    )
    observations = replace(fitted.observations, domains=domains)
    held = replace(fitted, observations=observations, prior=_leaf_prior(fitted, space, domains, options))
    fixed = {**recipe.constraints.fixed, **retired}
    request = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update={"fixed": fixed})})
    widened = CollapsedSpace(domains, space.virtual, space.unused)
    return law_problem(held, request, hold_scarce=False), widened


def _leaf_prior(fitted: FittedLaw, space: CollapsedSpace, domains: DomainSet, options: DiagnosisOptions) -> Prior:
    """The prior over the law's domains, without mass on retired ones."""
    source = fitted.prior.mixture if options.prior is None else options.prior
    shares = [source[name] if name in space.leaves else 0.0 for name in domains.names]
    return Prior(Mixture.normalised(domains, shares), fitted.prior.source)


def _advice(
    recompute: tuple[RecomputationValue, ...], remaining: Estimate, gain: float, options: DiagnosisOptions
) -> str:
    if recompute:
        return f"recompute {', '.join(each.domain for each in recompute)}"
    if remaining.value <= options.tolerance * gain:
        return "full reuse is safe"
    return (
        f"full reuse may lose {remaining.value:.3g}, but no single recomputation is worth its runs by what is known; "
        "measure everything anew if that matters"
    )
