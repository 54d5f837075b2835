"""Diagnosis of mixture reuse: what keeping the frozen proportions costs, and which domains are worth measuring anew.

A law over all leaves, fitted to every run that can be carried over, stands for the truth. Residuals of the evidence are
resampled and the law refitted (all runs stay: the few that hold a new domain cannot be spared); `releasing` judges by
them. A law that does not rank runs that it has not seen advises nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.deciding.by_law import LawProblem, given_strength, resampled_laws
from evermix.deciding.fitting import FittedLaw, Prior
from evermix.deciding.proposing import law_problem
from evermix.domain_updates.coupling import centred, domain_coupling, kappa, mask, reuse_gap
from evermix.domain_updates.fixed_ratio import CollapsedSpace
from evermix.domains import Domain, DomainSet
from evermix.laws.base import MixingLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study.releasing import DiagnosisOptions, Estimate, Judge, ReleaseRule, ReleaseValue

Floats = npt.NDArray[np.float64]
_UNTRUSTED = "the law does not predict runs that it has not seen, so it cannot tell: measure more runs"


@dataclass(frozen=True)
class Diagnosis:
    """What the evidence says of keeping frozen proportions.

    Attributes:
        kappa: coupling of the frozen domains with the computed ones (Olmix), of centred coefficients.
        one_minus_rho: share of the computed domains in the mixture with everything free.
        reuse_gap: share of the bundle's tokens that would go elsewhere if everything were free, in [0, 1].
        coupling: of each frozen domain with the computed ones, over shared metrics.
        gain: of the mixture with everything free over its prior, in the objective's quantity.
        predicted_loss: of keeping all frozen proportions, against freeing all.
        runs_saved: runs that full recomputation would take beyond those of full reuse.
        candidates: the worth of releasing each frozen domain alone, greatest first.
        release: the domains to release, in order, each with its worth beyond those before.
        remaining_loss: predicted loss that is left after those releases.
        advice: a phrase for people.
    """

    kappa: float
    one_minus_rho: float
    reuse_gap: float
    coupling: dict[str, float]
    gain: float
    predicted_loss: Estimate
    runs_saved: int
    candidates: tuple[ReleaseValue, ...]
    release: tuple[ReleaseValue, ...]
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
            "release": [each.as_dict for each in self.release],
            "remaining_loss": self.remaining_loss.as_dict,
            "advice": self.advice,
        }


def diagnose(
    evidence: FittedLaw,
    space: CollapsedSpace,
    recipe: StudyRecipe | None = None,
    options: DiagnosisOptions | None = None,
) -> Diagnosis:
    """Judge the frozen proportions of `space` by all runs.

    Args:
        evidence: fitted to runs over the space's leaves, and over ghosts: other domains, which no mixture may hold.
        space: today's leaves and the bundle.
        recipe: of the request; the evidence's if None. An objective aggregated otherwise is judged by its mean.
        options: defaults if None.

    Raises:
        DomainError: if a leaf of the space is none of the evidence's domains.
        ConstraintError: if the bounds do not allow the frozen proportions.
        ConvergenceError: if the law cannot be refitted to resampled runs, or a solver does not converge.
    """
    options = options or DiagnosisOptions()
    asked, widened = _request(evidence, space, recipe or evidence.recipe, options)
    kl_weight = given_strength(asked).weight if options.kl_weight is None else options.kl_weight
    observations, seed = evidence.observations, evidence.recipe.seed
    laws = resampled_laws(evidence.law, observations, options.resamples, seed, kind="residuals")
    judge = Judge(asked, kl_weight, laws)
    frozen, full = judge.choice(widened), judge.choice(None)
    n_runs = options.runs_per_component * len(space.frozen)
    gain = max(judge.total(asked.prior.weights) - judge.total(full.mixture), 0.0)
    rule = ReleaseRule(judge, full, gain, n_runs, options)
    candidates = rule.worths(widened, frozen)
    loss = rule.worth(frozen, full)
    trusted = not evidence.calibration.objective.spearman <= 0  # ranks: one explosion is no verdict; NaN: too few runs
    release, remaining = rule.releases(widened, frozen, candidates) if trusted else ((), loss)
    names = widened.leaves.names
    fixed, computed = mask(names, space.frozen), mask(names, space.free)
    coefficients = centred(tangent_coefficients(judge.problem.law, full.mixture, evidence), fixed | computed)
    coupling = domain_coupling(coefficients, computed)
    return Diagnosis(
        kappa=kappa(coefficients, fixed, computed),
        one_minus_rho=float(full.mixture[computed].sum()),
        reuse_gap=reuse_gap(widened.ptilde, np.where(fixed, full.mixture, 0.0)).total_variation,
        coupling={name: float(coupling[names.index(name)]) for name in space.frozen},
        gain=gain,
        predicted_loss=loss,
        runs_saved=n_runs,
        candidates=candidates,
        release=release,
        remaining_loss=remaining,
        advice=_advice(release, remaining, gain, options) if trusted else _UNTRUSTED,
    )


def tangent_coefficients(law: MixingLaw, at: Floats, evidence: FittedLaw) -> Floats:
    """A, shape (metrics, domains): t of a log-linear law, else gradients at a mixture over each metric's spread.

    The reducible part of a metric is unknown for other laws; the range of its predictions over the runs stands for it.
    A law without a gradient is differenced.
    """
    if isinstance(law, LogLinearLaw):
        return law.t_
    predicted = law.predict(evidence.observations.weights)
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
    evidence: FittedLaw, space: CollapsedSpace, recipe: StudyRecipe, options: DiagnosisOptions
) -> tuple[LawProblem, CollapsedSpace]:
    """Bounds and guards with ghosts held at zero, and the space over the evidence's domains."""
    known = evidence.observations.domains
    for name in space.leaves.names:
        known.index(name)
    ghosts = {name: 0.0 for name in known.names if name not in space.leaves}
    domains = DomainSet(
        Domain(name).resized(0, space.leaves.unit) if name in ghosts else space.leaves.domains[space.leaves.index(name)]
        for name in known.names
    )
    observations = replace(evidence.observations, domains=domains)
    held = replace(evidence, observations=observations, prior=_leaf_prior(evidence, space, domains, options))
    fixed = {**recipe.constraints.fixed, **ghosts}
    request = recipe.model_copy(update={"constraints": recipe.constraints.model_copy(update={"fixed": fixed})})
    widened = CollapsedSpace(domains, space.virtual, space.unused)
    return law_problem(held, request), widened


def _leaf_prior(evidence: FittedLaw, space: CollapsedSpace, domains: DomainSet, options: DiagnosisOptions) -> Prior:
    """The prior over the evidence's domains, without mass on ghosts."""
    source = evidence.prior.mixture if options.prior is None else options.prior
    shares = [source[name] if name in space.leaves else 0.0 for name in domains.names]
    return Prior(Mixture.normalised(domains, shares), evidence.prior.source)


def _advice(release: tuple[ReleaseValue, ...], remaining: Estimate, gain: float, options: DiagnosisOptions) -> str:
    if release:
        return f"release {', '.join(each.domain for each in release)}"
    if remaining.value <= options.tolerance * gain:
        return "full reuse is safe"
    return (
        f"full reuse may lose {remaining.value:.3g}, but no single release is worth its runs by what is known; "
        "measure everything anew if that matters"
    )
