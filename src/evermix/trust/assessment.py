"""Assessment: all that is said with a proposal: calibration, bootstrap, comparison, and warnings drawn from them.

A warning is a reason to doubt, a plain sentence with its numbers and what to do about it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evermix.observations import Observations
from evermix.observations.runs import FEWEST_HOLDERS, scarcely_held
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, Progress, bootstrap
from evermix.trust.calibration import Calibration, calibrate
from evermix.trust.comparison import Comparison, compare, effective_domains
from evermix.trust.coverage import confounded, extrapolation
from evermix.trust.references import NATURAL, PRIOR, PROPOSAL, UNIFORM, Request

Floats = npt.NDArray[np.float64]
Severity = Literal["note", "warning", "serious"]
Kind = Literal[
    "gain below noise",
    "vertex",
    "extrapolation",
    "confounded domains",
    "poor law",
    "too few runs",
    "domain never sampled",
    "domain in few runs",
    "repetition",
    "metrics in conflict",
    "resamples failed",
    "fixed ratio",
    "metric left out",
    "mixed units",
]
_ORDER = {"serious": 0, "warning": 1, "note": 2}
_FIXED_RATIO = "the domains at a fixed ratio"
_KEPT = 0.02  # total variation among bundled domains within which two mixtures have the same proportions
_NAMED = 5  # domains or metrics named in one sentence


@dataclass(frozen=True)
class ProposalWarning:
    """One reason to doubt.

    Attributes:
        message: what is the case, in a sentence. remedy: what to do about it.
        numbers: what the sentence stands on.
    """

    kind: Kind
    severity: Severity
    message: str
    remedy: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {**vars(self), "numbers": dict(self.numbers)}

    def __str__(self) -> str:
        return f"{self.severity}: {self.message} {self.remedy}"


@dataclass(frozen=True)
class WarningThresholds:
    """When a warning is raised.

    Attributes:
        zero_share: a share under this counts as zero.
        effective_ratio: of exp(entropy) to that of the prior.
        nearest_ratio: distance to the nearest run, in 95% points of the runs' own nearest-neighbour distances.
        outside_hull: total variation to the runs' convex hull.
        above_observed: share beyond the greatest observed one.
        correlation, condition_index: of domains' shares over runs.
        spearman: least held-out rank correlation of the objective (or of 0.7 of its noise ceiling, if that is less).
        slope: range of the held-out slope. coverage90: least share of runs in the nominal 90% interval.
        misfit: of the law, in standard deviations of a run's measured noise.
        epochs: passes over a domain.
        conflict: least share of a metric's level that counts as worse.
    """

    zero_share: float = 1e-4
    effective_ratio: float = 1 / 3
    nearest_ratio: float = 1.5
    outside_hull: float = 0.05
    above_observed: float = 0.02
    correlation: float = 0.95
    condition_index: float = 30.0
    spearman: float = 0.5
    slope: tuple[float, float] = (0.6, 1.6)
    coverage90: float = 0.7
    misfit: float = 2.0
    epochs: float = 4.0
    conflict: float = 0.002


@dataclass(frozen=True, eq=False)
class ProposalFacts:
    """All that warnings are raised from.

    Attributes:
        bundled: shape (domains,), domains that are mixed as one, at a fixed ratio; None for none.
    """

    problem: MixtureProblem
    proposal: Proposal
    observations: Observations
    calibration: Calibration
    bootstrap: Bootstrap
    comparison: Comparison
    bundled: npt.NDArray[np.bool_] | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Domain names."""
        return self.observations.domains.names

    @property
    def comparable(self) -> tuple[str, ...]:
        """Natural, prior, uniform: those compared that have the proposal's proportions among bundled domains."""
        mixtures = self.bootstrap.mixtures
        named = [name for name in (NATURAL, PRIOR, UNIFORM) if name in mixtures]
        return tuple(name for name in named if self.moved_within(mixtures[name].weights) <= _KEPT)

    def moved_within(self, weights: Floats) -> float:
        """Total variation to the proposal among the bundled domains alone, weights (domains,); 0 without any."""
        if self.bundled is None:
            return 0.0
        inside, kept = weights[self.bundled], self.proposal.mixture.weights[self.bundled]
        if inside.sum() <= 0 or kept.sum() <= 0:
            return 0.0
        return float(np.abs(inside / inside.sum() - kept / kept.sum()).sum() / 2)

    @property
    def moving(self) -> tuple[Floats, tuple[str, ...]]:
        """Shares of what moves by itself, (runs, parts), and names: domains, those at a fixed ratio together."""
        weights = self.observations.weights
        if self.bundled is None:
            return weights, self.names
        total = weights[:, self.bundled].sum(axis=1, keepdims=True)
        free = tuple(name for name, inside in zip(self.names, self.bundled, strict=True) if not inside)
        return np.hstack([weights[:, ~self.bundled], total]), (*free, _FIXED_RATIO)


def find_warnings(facts: ProposalFacts, thresholds: WarningThresholds | None = None) -> tuple[ProposalWarning, ...]:
    """Every warning that applies, the gravest first."""
    limits = thresholds or WarningThresholds()
    found = [warning for check in _CHECKS for warning in check(facts, limits)]
    return by_severity(found)


def by_severity(warnings: Iterable[ProposalWarning]) -> tuple[ProposalWarning, ...]:
    """The gravest first."""
    return tuple(sorted(warnings, key=lambda warning: _ORDER[warning.severity]))


def _gain(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    """Interval of the corrected gain includes 0, or the gain is smaller than one run's noise."""
    found = []
    noise = facts.calibration.noise
    remedy = "Keep the reference, or measure more runs (replicates of both tell most) before you switch."
    for name in facts.comparable:
        gain = facts.bootstrap.gain(name)
        numbers = {**gain.as_dict, "noise": noise if np.isfinite(noise) else None}
        low, high = gain.interval.low, gain.interval.high
        if facts.proposal.mixture.total_variation(facts.bootstrap.mixtures[name]) < 1e-6:
            text = f"The proposal is the {name} mixture: nothing better was found within the constraints."
            found.append(
                ProposalWarning("gain below noise", "note", text, "Loosen the constraints or the KL weight.", numbers)
            )
        elif high <= 0:
            text = f"The proposal is predicted to be worse than {name}: {gain.corrected:.4g}, "
            text += f"90% interval {low:.4g} to {high:.4g}."
            advice = f"Lower the KL weight, loosen the constraints, or take {name}."
            found.append(ProposalWarning("gain below noise", "serious", text, advice, numbers))
        elif low <= 0:
            text = f"The gain over {name} may be nothing: {gain.corrected:.4g}, 90% interval {low:.4g} to {high:.4g}."
            found.append(ProposalWarning("gain below noise", "warning", text, remedy, numbers))
        elif gain.corrected < noise:
            text = f"The gain over {name}, {gain.corrected:.4g}, is smaller than the noise of one run, {noise:.4g}."
            found.append(ProposalWarning("gain below noise", "warning", text, remedy, numbers))
    return found


def _vertex(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    found = []
    weights, bounds = facts.proposal.mixture.weights, facts.problem.bounds
    asked = (bounds.upper <= limits.zero_share) | (facts.problem.prior.weights <= 0)
    zero = np.flatnonzero((weights < limits.zero_share) & ~asked)
    if len(zero):
        text = f"{_listed(facts.names, zero)} got no share, though nobody asked for that."
        remedy = "Set a floor for what must not be forgotten: laws know least near zero."
        found.append(ProposalWarning("vertex", "note", text, remedy, {"domains": [facts.names[j] for j in zero]}))
    effective, prior = effective_domains(weights), effective_domains(facts.problem.prior.weights)
    if effective < limits.effective_ratio * prior:
        text = (
            f"The proposal is nearly a corner: it spreads over {effective:.1f} domains' worth, the prior {prior:.1f}."
        )
        remedy = "Raise the KL weight, or set floors or caps."
        numbers = {"effective_domains": effective, "prior": prior}
        found.append(ProposalWarning("vertex", "warning", text, remedy, numbers))
    return found


def _extrapolation(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    found = []
    where = extrapolation(facts.proposal.mixture.weights, facts.observations.weights)
    above = np.flatnonzero(where.above > limits.above_observed)
    remedy = "Cap it near what was observed, or measure runs there before you rely on it."
    for j in above:
        share, most = facts.proposal.mixture.weights[j], facts.observations.weights[:, j].max()
        text = f"'{facts.names[j]}' gets {share:.1%}, more than any run ever had ({most:.1%})."
        numbers = {"domain": facts.names[j], "share": float(share), "most_observed": float(most)}
        found.append(ProposalWarning("extrapolation", "warning", text, remedy, numbers))
    numbers = {name: value for name, value in vars(where).items() if name != "above"}
    text = ""
    if where.outside_hull > limits.outside_hull:
        text = (
            f"The proposal lies outside what the runs span: {where.outside_hull:.1%} of its tokens would have to move "
            "to make it an average of runs."
        )
    elif where.nearest > limits.nearest_ratio * where.widest > 0:
        text = (
            f"The nearest run differs from the proposal in {where.nearest:.1%} of its tokens, while runs differ from "
            f"their nearest neighbours in {where.typical:.1%} (median)."
        )
    if text:
        found.append(
            ProposalWarning("extrapolation", "warning", text, "Measure runs near it before you rely on it.", numbers)
        )
    return found


def _confounded(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    found = []
    shares, parts = facts.moving
    for group in confounded(shares, limits.correlation, limits.condition_index):
        names = [parts[j] for j in group.domains]
        text = f"{_listed(parts, np.array(group.domains))} moved together over the runs"
        text += (
            f" (correlation up to {group.correlation:.2f}): "
            if np.isnan(group.condition_index)
            else f" (condition index {group.condition_index:.0f}): "
        )
        text += "their effects cannot be told apart."
        remedy = "Bundle them into one domain, or measure runs that move them apart."
        numbers = {"domains": names, "correlation": group.correlation, "condition_index": _plain(group.condition_index)}
        found.append(ProposalWarning("confounded domains", "warning", text, remedy, numbers))
    return found


def _poor_law(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    found = []
    whole = facts.calibration.objective
    least = limits.spearman if np.isnan(whole.ceiling) else min(limits.spearman, 0.7 * whole.ceiling)
    numbers = whole.as_dict
    if np.isnan(whole.spearman) or whole.spearman < least:
        text = f"The law ranks runs it has not seen poorly: rank correlation {whole.spearman:.2f}."
        severity: Severity = "warning" if whole.spearman > least / 2 else "serious"
        remedy = "Try another law, measure more runs, or drop metrics that are noise."
        found.append(ProposalWarning("poor law", severity, text, remedy, numbers))
    elif not limits.slope[0] <= whole.slope <= limits.slope[1]:
        what = "overstates" if whole.slope < 1 else "understates"
        text = f"The law {what} differences between mixtures: observed on predicted has slope {whole.slope:.2f}."
        remedy = "Trust the order of mixtures more than the size of the gain."
        found.append(ProposalWarning("poor law", "warning", text, remedy, numbers))
    if np.isfinite(whole.coverage[2]) and whole.coverage[2] < limits.coverage90:
        text = f"Only {whole.coverage[2]:.0%} of held-out runs fall into the law's 90% intervals."
        remedy = "Trust the held-out error, not the law's own standard deviation."
        found.append(ProposalWarning("poor law", "warning", text, remedy, numbers))
    misfit, noise = facts.calibration.misfit.objective, facts.calibration.noise
    if misfit > limits.misfit * noise:
        text = (
            f"The law's form does not fit: it misses held-out runs by {misfit:.3g}, their noise of {noise:.3g} aside. "
            "Intervals are widened by that; where no run has been it may miss by more."
        )
        remedy = "Take law auto, or a family that misses less (`evermix fit` says how much)."
        numbers = {"misfit": misfit, "noise": noise}
        found.append(ProposalWarning("poor law", "warning", text, remedy, numbers))
    if whole.n_exploded:
        text = (
            f"The law's prediction of {whole.n_exploded} of {whole.n_runs} held-out runs lies far outside what any run"
        )
        text += " measured: it explodes where it has seen nothing."
        remedy = "Keep the proposal near the runs: floors, caps or a larger KL weight."
        found.append(ProposalWarning("poor law", "note", text, remedy, numbers))
    return found


def _unconverged(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    counted = np.array(facts.problem.objective.weights) > 0
    stopped = np.flatnonzero(counted & ~facts.problem.law.converged_)
    if not len(stopped):
        return []
    names = [facts.observations.metrics[i] for i in stopped]
    listed = ", ".join(repr(name) for name in names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    text = f"The fit of {listed} stopped before it had converged."
    remedy = "Compare with another family (`evermix list-laws`); held-out quality says what it is worth."
    severity: Severity = "warning" if len(stopped) > 0.1 * counted.sum() else "note"
    return [ProposalWarning("poor law", severity, text, remedy, {"metrics": names})]


def _few_runs(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    needed = facts.problem.law.parameter_count
    known = (~np.isnan(np.asarray(facts.observations.costs)))[:, np.array(facts.problem.objective.weights) > 0]
    n_runs = int(known.sum(axis=0).min())
    if n_runs >= needed:
        return []
    text = f"{n_runs} runs for {needed} parameters per metric: the fit leans on the law's prior."
    remedy = f"Measure at least {needed - n_runs} more runs, better {max(3 * needed - n_runs, 1)}."
    numbers = {"n_runs": n_runs, "n_parameters": needed}
    return [ProposalWarning("too few runs", "warning", text, remedy, numbers)]


def _never_sampled(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    shares, parts = facts.moving
    unsampled = np.flatnonzero(shares.max(axis=0) <= 0)
    if not len(unsampled):
        return []
    weights = facts.proposal.mixture.weights
    bundle = 0.0 if facts.bundled is None else float(weights[facts.bundled].sum())
    share = sum(bundle if parts[j] == _FIXED_RATIO else float(weights[facts.names.index(parts[j])]) for j in unsampled)
    text = (
        f"No run was trained on {_listed(parts, unsampled)}; the proposal gives {share:.1%} to what was never measured."
    )
    remedy = "Measure runs that hold them, or fix their shares."
    severity: Severity = "serious" if share > limits.above_observed else "warning"
    numbers = {"domains": [parts[j] for j in unsampled], "share": share}
    return [ProposalWarning("domain never sampled", severity, text, remedy, numbers)]


def _in_few_runs(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    """Domains that one or two runs hold; a proposal from runs holds them at their prior share."""
    shares, parts = facts.moving
    weights, bounds = facts.proposal.mixture.weights, facts.problem.bounds
    found = []
    for j in np.flatnonzero(scarcely_held(shares)):
        inside = facts.bundled if parts[j] == _FIXED_RATIO else np.array([name == parts[j] for name in facts.names])
        assert inside is not None
        n, share = int((shares[:, j] > 0).sum()), float(weights[inside].sum())
        held = bool((bounds.upper - bounds.lower)[inside].sum() <= 1e-9)
        text = f"'{parts[j]}' is in {n} run{'s' * (n > 1)} only, too few to tell what it does: "
        text += f"its share is held at {share:.1%}." if held else f"its share of {share:.1%} rests on nothing else."
        remedy = f"Measure at least {FEWEST_HOLDERS - n} more with it, or set its share."
        numbers = {"domain": parts[j], "n_runs": n, "share": share, "held": held}
        found.append(ProposalWarning("domain in few runs", "warning", text, remedy, numbers))
    return found


def _repetition(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    epochs = facts.comparison[PROPOSAL].epochs
    if epochs is None:
        return []
    high = [int(j) for j in np.argsort(-epochs) if epochs[j] > limits.epochs * (1 + 1e-6)]
    if not high:
        return []
    worst = high[0]
    text = f"'{facts.names[worst]}' would be repeated {epochs[worst]:.1f} times"
    text += f", {len(high) - 1} more domains over {limits.epochs:g} times." if len(high) > 1 else "."
    remedy = "Cap it with max_epochs, or ask for fewer tokens: repeated tokens are worth less, which no proxy run saw."
    numbers = {"epochs": {facts.names[j]: _plain(float(epochs[j])) for j in high}}
    return [ProposalWarning("repetition", "warning", text, remedy, numbers)]


def _conflict(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    """Metrics that count, predicted worse than under natural (or the prior) beyond their interval."""
    bootstrap = facts.bootstrap
    over = next(iter(facts.comparable), None)
    if over is None or bootstrap.gain(over).corrected <= 0:
        return []
    reference = bootstrap.costs_full[list(bootstrap.mixtures).index(over)]
    change = bootstrap.costs_full[0] - reference
    low = bootstrap.cost_change_intervals(over)[:, 0]
    counted = np.array(facts.problem.objective.weights) > 0
    worse = counted & (low > 0) & (change > limits.conflict * np.abs(reference))
    if not worse.any():
        return []
    relative = np.where(worse, change / np.abs(reference), -np.inf)
    order = [int(i) for i in np.argsort(-relative) if worse[i]]
    metrics = facts.observations.metrics
    named = ", ".join(f"'{metrics[i]}' by {relative[i]:.1%}" for i in order[:_NAMED])
    rest = f" and {len(order) - _NAMED} more" if len(order) > _NAMED else ""
    text = f"The mean improves over {over}, but some metrics get worse: {named}{rest}."
    remedy = "Guard them with no_regression, or give them more weight."
    numbers = {"over": over, "worse": {metrics[i]: float(change[i]) for i in order}, "of": int(counted.sum())}
    return [
        ProposalWarning(
            "metrics in conflict", "warning" if len(order) <= counted.sum() / 2 else "serious", text, remedy, numbers
        )
    ]


def _failed(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    bootstrap = facts.bootstrap
    if not bootstrap.n_failed:
        return []
    n = bootstrap.n_failed + bootstrap.n_resamples
    text = (
        f"{bootstrap.n_failed} of {n} resamples failed and are left out; most often: {_commonest(bootstrap.failures)}."
    )
    remedy = "Intervals may be too narrow; choose a law that needs fewer runs, or measure more."
    severity: Severity = "warning" if bootstrap.n_failed > 0.1 * n else "note"
    return [ProposalWarning("resamples failed", severity, text, remedy, {"failures": dict(bootstrap.failures)})]


def _commonest(failures: Mapping[str, int]) -> str:
    return max(failures, key=lambda reason: failures[reason])


def _fixed_ratio(facts: ProposalFacts, limits: WarningThresholds) -> list[ProposalWarning]:
    """Of domains at a fixed ratio the law knows the total, so a comparison with another ratio is one of totals."""
    if facts.bundled is None:
        return []
    moved = {row.name: facts.moved_within(row.mixture.weights) for row in facts.comparison.rows}
    compared = {name: distance for name, distance in moved.items() if distance > _KEPT}
    if not compared:
        return []
    names = ", ".join(compared)
    text = f"{int(facts.bundled.sum())} domains kept their proportions, so the law knows their total only: "
    text += f"what it says of {names} holds for their total, not for the proportions within it."
    remedy = "Read the gain over them as that of the new totals; the old law told what the proportions gained."
    return [ProposalWarning("fixed ratio", "note", text, remedy, {"total_variation_within": compared})]


def _listed(known: Sequence[str], positions: npt.NDArray[np.intp]) -> str:
    return quoted([known[int(j)] for j in positions])


def quoted(names: Sequence[str]) -> str:
    """`'a', 'b'`, of many the first five and how many more."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(f"'{name}'" for name in names[:_NAMED]) + more


def _plain(number: float) -> float | None:
    return float(number) if np.isfinite(number) else None


_CHECKS: tuple[Callable[[ProposalFacts, WarningThresholds], list[ProposalWarning]], ...] = (
    _gain,
    _vertex,
    _extrapolation,
    _confounded,
    _poor_law,
    _unconverged,
    _few_runs,
    _never_sampled,
    _in_few_runs,
    _repetition,
    _conflict,
    _failed,
    _fixed_ratio,
)


@dataclass(frozen=True, eq=False)
class Assessment:
    """How far a proposal can be trusted."""

    calibration: Calibration
    bootstrap: Bootstrap
    comparison: Comparison
    warnings: tuple[ProposalWarning, ...]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "calibration": self.calibration.as_dict,
            "bootstrap": self.bootstrap.as_dict,
            "comparison": self.comparison.as_dict,
            "warnings": [warning.as_dict for warning in self.warnings],
        }


@dataclass(frozen=True)
class AssessmentOptions:
    """How to assess.

    Attributes:
        bootstrap: its references are taken from the request unless given.
        calibration: of the law on these runs; None cross-validates it here, in n_folds.
        n_folds: of the cross-validation.
        thresholds: of the warnings.
        bundled: shape (domains,), domains that are mixed as one, at a fixed ratio; None for none.
    """

    bootstrap: BootstrapOptions = field(default_factory=BootstrapOptions)
    calibration: Calibration | None = None
    n_folds: int = 5
    thresholds: WarningThresholds = field(default_factory=WarningThresholds)
    bundled: npt.NDArray[np.bool_] | None = None


def assess(
    problem: MixtureProblem,
    proposal: Proposal,
    observations: Observations,
    request: Request | None = None,
    options: AssessmentOptions | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Cross-validate the law (if that is still to be done), resample the runs, compare, and say what to doubt.

    Args:
        problem: with the law fitted to all of `observations`.
        proposal: its solution.
        request: what the mixture is for; gives epochs, UniMax and named references.
    """
    request, options = request or Request(), options or AssessmentOptions()
    calibration = options.calibration
    if calibration is None:
        calibration = calibrate(problem.law, observations, problem.objective, options.n_folds, options.bootstrap.seed)
    settings = options.bootstrap
    if settings.references is None:
        settings = replace(settings, references=request.references(observations.domains, problem.prior))
    resampled = bootstrap(
        problem, observations, settings, proposal, calibration.objective.rmse, progress, calibration.misfit
    )
    comparison = compare(problem, proposal, observations, request, resampled)
    facts = ProposalFacts(problem, proposal, observations, calibration, resampled, comparison, options.bundled)
    return Assessment(calibration, resampled, comparison, find_warnings(facts, options.thresholds))
