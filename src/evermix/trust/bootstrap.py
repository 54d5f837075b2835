"""Bootstrap over runs: intervals for weights and gains, the proposal's optimism, the chance to beat the best run.

For each resample b the law is refitted (F_b) and the problem solved again (p_b); F and p are those of all runs.
Written F(q) for the objective of the law at q, and G_F(q, r) = F(r) - F(q) for the gain of q over a reference r:

    weights     percentiles of p_b, in log odds
    optimism    mean_b [ G_Fb(p_b, r) - G_F(p_b, r) ]          (Efron 1983; Harrell 2015, section 5.3)
    gain        G_F(p, r) - optimism
    interval    G_F(p, r) - quantiles_b [ G_Fb(p_b, r) - G_F(p_b, r) ]     (basic bootstrap, Davison & Hinkley 1997)

Where optimism comes out negative (refits shrink the differences between mixtures, as a law on few runs does), nothing
is added to the gain; the interval's upper end rises, its lower end is taken with the errors centred at zero.

An estimate lies inside its interval. What is told of the proposal is corrected as its interval is (F(p) - mean_b
[ F_b(p_b) - F(p_b) ], the gain without optimism); elsewhere refits that lean to one side of the estimate widen the
interval to that side: it holds the quantiles with the errors as they are and with the errors centred at zero.

The deviations of those quantiles from their mean (of shares: median) are stretched by sqrt(C / (C - q)), C distinct
mixtures, q parameters per metric (at most 2): a fit that uses up q degrees of freedom makes resamples look too much
alike. Without the stretch 90% intervals of the gain held the truth in 75 to 85% of planted worlds.

Resampling sees noise, not bias. What cross-validation finds of bias, the misfit m (held-out errors beyond noise and
estimation, trust.calibration; of the objective, and of each metric), is added in quadrature:

    an end d from the estimate moves to    sqrt( d^2 + (z m)^2 ),              z the normal quantile, 1.64 for 90%
    of a difference between p and r to     sqrt( d^2 + (z m)^2 2 min(1, TV(p, r) / D) ),  D the runs' mean distance
    shares are stretched by                sqrt( C / (C - q) + (m / v)^2 ),    v the deviation of F_b at the runs

since the law errs alike at mixtures that are alike, and independently at those as far apart as runs are.

A proposal is chosen because its predicted value is low, so its prediction is too low on average (the winner's curse).
The resamples do to F what the runs did to the truth: p_b looks better under F_b, which chose it, than under F. The KL
weight stays fixed, in the objective's quantity per nat.

The chance that the proposal, if trained, measures below the best observed run is
mean_b Phi((best - L_b) / s), L_b = F(p) - [F_b(p_b) - F(p_b)], s the law's out-of-sample error of the objective
(held-out RMSE: noise, misfit and estimation error), so that a law that fits badly cannot promise much.

What is resampled, runs or residuals: trust.resampling.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import pdist
from scipy.special import expit, logit
from scipy.stats import norm

from evermix.errors import ConstraintError, ConvergenceError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.observations import Observations, Runs
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.solvers.solve import Method, solve
from evermix.trust.calibration import Misfit, calibrate
from evermix.trust.references import (
    BEST_RUN,
    PROPOSAL,
    BestRun,
    Gain,
    Interval,
    Request,
    best_run,
    percent_base,
    run_objective,
)
from evermix.trust.resampling import Kind, Resampling, choose, resamples, stretch

Floats = npt.NDArray[np.float64]
Progress = Callable[[int, int], None]
_MOST_FAILED = 0.5
_LEAST_SHARE = 1e-6  # log odds are taken of shares at least this far from 0 and 1


@dataclass(frozen=True)
class BootstrapOptions:
    """How to resample.

    Attributes:
        n_resamples: 200 give 5 and 95% points to about a twentieth of a standard deviation.
        seed: of the draws.
        references: mixtures to follow beside the proposal and the best run; None for natural, prior and uniform.
        resampling: "auto" resamples runs unless they are too few for the law (see `choose`).
        method: of the solver.
        ceilings: the guards' ceilings (metrics,) under a refitted law; None keeps those of the problem.
        keep_laws: keep the refitted laws, for a worst-case mixture.
    """

    n_resamples: int = 200
    seed: int = 0
    references: Mapping[str, Mixture] | None = None
    resampling: Kind | str = "auto"
    method: Method = "auto"
    ceilings: Callable[[MixingLaw], Floats | None] | None = None
    keep_laws: bool = False

    def __post_init__(self) -> None:
        if self.n_resamples < 2:
            raise ObservationError("a bootstrap needs at least 2 resamples", received=self.n_resamples)
        if self.resampling not in ("auto", "runs", "residuals"):
            raise ObservationError("resampling must be auto, runs or residuals", received=self.resampling)


@dataclass(frozen=True, eq=False)
class Bootstrap:
    """What the resamples say. n resamples succeeded; followed mixtures are in the order of `mixtures`.

    Attributes:
        proposal: on all runs.
        best: the best observed run.
        mixtures: the followed mixtures: "proposal", "best run" and the references.
        proposals: shape (n, domains), p_b.
        own: shape (n,), F_b(p_b). own_full: shape (n,), F(p_b).
        objective: shape (n, mixtures), F_b. objective_full: shape (mixtures,), F.
        costs: shape (n, mixtures, metrics), every metric's cost under F_b. costs_full: shape (mixtures, metrics).
        percent_bases: shape (mixtures,), what percentages of a gain over each are taken of; NaN where undefined.
        heldout_rmse: s, the law's out-of-sample error of the objective.
        kind, reason: what was resampled, and why.
        stretch: of the deviations in all intervals, at least 1. stretch_of_shares: of those in intervals of shares.
        misfit: m of the objective and of the metrics; 0 where unknown.
        apart: shape (mixtures,), 2 min(1, TV / D) of each followed mixture and the proposal.
        share_bounds: shape (domains, 2), least and greatest share allowed.
        failures: reason -> resamples lost to it.
        laws: the refitted laws, if kept.
    """

    proposal: Proposal
    best: BestRun
    mixtures: Mapping[str, Mixture]
    proposals: Floats
    own: Floats
    own_full: Floats
    objective: Floats
    objective_full: Floats
    costs: Floats
    costs_full: Floats
    percent_bases: Floats
    heldout_rmse: float
    kind: str
    reason: str
    stretch: float
    stretch_of_shares: float
    misfit: Misfit
    apart: Floats
    share_bounds: Floats
    failures: Mapping[str, int] = field(default_factory=dict)
    laws: tuple[MixingLaw, ...] = ()

    @property
    def n_resamples(self) -> int:
        """Resamples that succeeded."""
        return len(self.own)

    @property
    def n_failed(self) -> int:
        """Resamples that did not."""
        return sum(self.failures.values())

    def weight_intervals(self, level: float = 0.9) -> Floats:
        """Interval of each share within its bounds, shape (domains, 2); deviations stretched in log odds.

        It holds the proposed share, whichever way the resampled proposals lean.
        """
        tail = 50 * (1 - level)
        plain = _percentiles(self.proposals, [tail, 100 - tail])
        odds = logit(np.clip(self.proposals, _LEAST_SHARE, 1 - _LEAST_SHARE))
        centre = np.median(odds, axis=0)
        stretched = expit(centre + self.stretch_of_shares * (_percentiles(odds, [tail, 100 - tail]) - centre))
        inside = (plain > _LEAST_SHARE) & (plain < 1 - _LEAST_SHARE)
        lower, upper = self.share_bounds.T
        low, high = np.clip(np.where(inside, stretched, plain), lower, upper)
        proposed = self.proposal.mixture.weights
        return np.column_stack([np.minimum(low, proposed), np.maximum(high, proposed)])

    def gain(self, over: str, level: float = 0.9) -> Gain:
        """Gain of the proposal over the mixture called `over`, positive if the proposal is better."""
        r = self._position(over)
        errors = (self.objective[:, r] - self.own) - (self._full_of(r) - self.own_full)
        apparent = float(self.objective_full[r] - self.objective_full[0])
        optimism = float(errors.mean())
        low = apparent - self._quantiles(errors - min(optimism, 0.0), level)[0]
        high = apparent - self._quantiles(errors, level)[1]
        misfit = self.misfit.objective * float(np.sqrt(self.apart[r]))
        better = _share_above_zero(apparent - errors + min(optimism, 0.0), misfit)
        base = float(self.percent_bases[r])
        interval = _widened(apparent - max(optimism, 0.0), low, high, misfit, level)
        return Gain(over, apparent, optimism, interval, better, base)

    def objective_estimate(self, name: str) -> float:
        """The objective at a followed mixture as the law on all runs has it; the proposal's without its optimism."""
        r = self._position(name)
        return self._full_of(r) - (float(self._own_errors.mean()) if name == PROPOSAL else 0.0)

    def objective_interval(self, name: str, level: float = 0.9) -> Interval:
        """Interval of the true objective at a followed mixture, around `objective_estimate`."""
        r = self._position(name)
        if name == PROPOSAL:
            low = self._full_of(r) - self._quantiles(self.own - self.own_full, level)[0]
            high = self._full_of(r) - self._quantiles(self._own_errors, level)[1]
        else:
            errors = self.objective[:, r] - self._full_of(r)
            low, high = around(np.array(self._full_of(r)), -errors, np.zeros(()), level, self.stretch)
        return _widened(self.objective_estimate(name), low, high, self.misfit.objective, level)

    def cost_intervals(self, name: str, level: float = 0.9) -> Floats:
        """Interval of each metric's cost at a followed mixture, shape (metrics, 2)."""
        r = self._position(name)
        errors = self.costs[:, r] - self.costs_full[r]
        return around(self.costs_full[r], -errors, self.misfit.metrics, level, self.stretch)

    def cost_change_intervals(self, over: str, level: float = 0.9) -> Floats:
        """Interval of each metric's change from `over` to the proposal, shape (metrics, 2)."""
        r = self._position(over)
        change = self.costs_full[0] - self.costs_full[r]
        errors = self.costs[:, 0] - self.costs[:, r] - change
        misfit = self.misfit.metrics * np.sqrt(self.apart[r])
        return around(change, -errors, misfit, level, self.stretch)

    @property
    def probability_beats_best_run(self) -> float:
        """P(the proposal, if trained like the runs, measures below the best observed run); NaN if s is unknown."""
        level = self.objective_full[0] - self._own_errors
        distance = self.best.objective_value - level
        if np.isnan(self.heldout_rmse):
            return float("nan")
        if self.heldout_rmse == 0:
            return float((distance > 0).mean())
        return float(norm.cdf(distance / self.heldout_rmse).mean())

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON: intervals of 90%, not the resamples themselves."""
        low, high = self.weight_intervals().T
        rows = zip(self.proposal.mixture.as_dict.items(), low, high, strict=True)
        return {
            "kind": self.kind,
            "reason": self.reason,
            "stretch": self.stretch,
            "stretch_of_shares": self.stretch_of_shares,
            "misfit": self.misfit.objective,
            "n_resamples": self.n_resamples,
            "n_failed": self.n_failed,
            "failures": dict(self.failures),
            "weights": {name: {"share": share, "low": float(a), "high": float(b)} for (name, share), a, b in rows},
            "gains": {name: self.gain(name).as_dict for name in self.mixtures if name != PROPOSAL},
            "heldout_rmse": self.heldout_rmse if np.isfinite(self.heldout_rmse) else None,
            "best_run": {"run_ids": list(self.best.run_ids), "objective_value": self.best.objective_value},
            "probability_beats_best_run": None if np.isnan(self.heldout_rmse) else self.probability_beats_best_run,
        }

    @property
    def _own_errors(self) -> Floats:
        """F_b(p_b) - F(p_b), shape (n,), below zero on average; centred at zero where it is not."""
        errors = self.own - self.own_full
        return errors - max(float(errors.mean()), 0.0)

    def _quantiles(self, errors: Floats, level: float) -> Floats:
        """Upper and lower stretched quantiles of errors (n, ...) over resamples, shape (2, ...)."""
        return _stretched(errors, level, self.stretch)

    def _position(self, name: str) -> int:
        names = list(self.mixtures)
        if name not in names:
            raise ObservationError("a mixture must be one that the bootstrap followed", received=name, hint=str(names))
        return names.index(name)

    def _full_of(self, position: int) -> float:
        return float(self.objective_full[position])


def bootstrap(
    problem: MixtureProblem,
    observations: Observations,
    options: BootstrapOptions | None = None,
    proposal: Proposal | None = None,
    heldout_rmse: float | None = None,
    progress: Progress | None = None,
    misfit: Misfit | None = None,
) -> Bootstrap:
    """Refit and solve again on resampled runs.

    Args:
        problem: with the law fitted to all of `observations`.
        proposal: its solution; solved here if None.
        heldout_rmse: the law's out-of-sample error of the objective (`calibrate(...).objective.rmse`); None
            cross-validates here, for the misfit too.
        progress: called with (done, total) after each resample.
        misfit: m (`calibrate(...).misfit`); None for none.

    Raises:
        ConvergenceError: if more than half of the resamples fail, with the commonest reason.
        ObservationError: if problem and observations do not fit together.
    """
    options = options or BootstrapOptions()
    law = problem.law
    followed = _followed(problem, observations, options, proposal)
    if heldout_rmse is None:
        calibration = calibrate(law, observations, problem.objective, seed=options.seed)
        heldout_rmse, misfit = calibration.objective.rmse, calibration.misfit
    resampling = _resampling(observations, law, options)
    points = followed.points
    trials = _trials(problem, observations, replace(options, resampling=resampling.kind), points, progress)
    misfit = misfit or Misfit(0.0, np.zeros(len(observations.metrics)))
    of_noise, scatter = stretch(observations, law), _scatter(np.array(trials.at_runs))
    full = law.predict(points)
    objective_full = np.asarray(problem.objective.value(full), dtype=np.float64)
    return Bootstrap(
        proposal=followed.proposal,
        best=followed.best,
        mixtures=followed.mixtures,
        proposals=np.array(trials.proposals),
        own=np.array(trials.own),
        own_full=np.asarray(problem.objective.value(law.predict(np.array(trials.proposals)))),
        objective=np.asarray(problem.objective.value(np.array(trials.costs))),
        objective_full=objective_full,
        costs=np.array(trials.costs),
        costs_full=full,
        percent_bases=np.array([percent_base(observations, problem.objective, float(v)) for v in objective_full]),
        heldout_rmse=heldout_rmse,
        kind=resampling.kind,
        reason=resampling.reason,
        stretch=of_noise,
        stretch_of_shares=float(np.hypot(of_noise, misfit.objective / scatter)) if scatter > 0 else of_noise,
        misfit=misfit,
        apart=apart(observations.weights, points, points[0]),
        share_bounds=np.column_stack([problem.bounds.lower, problem.bounds.upper]),
        failures=dict(trials.failures),
        laws=tuple(trials.laws),
    )


@dataclass(frozen=True, eq=False)
class _Followed:
    """What every resample is asked about."""

    proposal: Proposal
    best: BestRun
    mixtures: Mapping[str, Mixture]

    @property
    def points(self) -> Floats:
        """Shape (mixtures, domains), the proposal first."""
        return np.array([mixture.weights for mixture in self.mixtures.values()])


def _followed(
    problem: MixtureProblem, observations: Observations, options: BootstrapOptions, proposal: Proposal | None
) -> _Followed:
    if proposal is None:
        proposal = solve(problem, method=options.method)
    measured = run_objective(observations, problem.objective, problem.law.predict(observations.weights))
    best = best_run(observations, measured)
    references = options.references
    if references is None:
        references = Request().references(observations.domains, problem.prior)
    return _Followed(proposal, best, {PROPOSAL: proposal.mixture, BEST_RUN: best.mixture, **references})


def _resampling(observations: Observations, law: MixingLaw, options: BootstrapOptions) -> Resampling:
    if options.resampling == "auto":
        return choose(observations, law)
    return Resampling("runs" if options.resampling == "runs" else "residuals", "as asked")


def _percentiles(draws: Floats, points: list[float]) -> Floats:
    """Percentiles over resamples (n, ...) -> (points, ...), at positions q (n + 1): a further draw falls below with
    chance q, however few draws there are."""
    result: Floats = np.percentile(draws, points, axis=0, method="weibull")
    return result


def _stretched(errors: Floats, level: float, stretch: float) -> Floats:
    """Upper and lower quantiles of errors (n, ...) over resamples, stretched around their mean, shape (2, ...)."""
    tail = 50 * (1 - level)
    centre = errors.mean(axis=0)
    quantiles: Floats = centre + stretch * (_percentiles(errors, [100 - tail, tail]) - centre)
    return quantiles


def around(estimate: Floats, deviations: Floats, misfit: Floats, level: float, stretch: float = 1.0) -> Floats:
    """Intervals of estimates (...), shape (..., 2), which hold them.

    Args:
        deviations: from the estimate, over resamples, (n, ...): as they are or centred, whichever lies farther out.
        misfit: shape (...), added in quadrature.
    """
    upper, lower = _stretched(deviations, level, stretch)
    lean, z = deviations.mean(axis=0), float(norm.ppf((1 + level) / 2))
    high = np.maximum.reduce([upper, upper - lean, np.zeros_like(upper)])
    low = np.minimum.reduce([lower, lower - lean, np.zeros_like(lower)])
    ends: Floats = np.stack([estimate - np.hypot(low, z * misfit), estimate + np.hypot(high, z * misfit)], axis=-1)
    return ends


def _widened(estimate: float, low: float, high: float, misfit: float, level: float) -> Interval:
    """[low, high], which wild resamples may have moved off the estimate, with it, and misfit added in quadrature."""
    z = float(norm.ppf((1 + level) / 2))
    below, above = (float(np.hypot(max(distance, 0.0), z * misfit)) for distance in (estimate - low, high - estimate))
    return Interval(float(estimate - below), float(estimate + above), level)


def _share_above_zero(draws: Floats, misfit: float) -> float:
    """Chance that a draw (n,), with a normal misfit beside it, is above zero."""
    return float((draws > 0).mean()) if misfit == 0 else float(norm.cdf(draws / misfit).mean())


def apart(runs: Floats, mixtures: Floats, other: Floats) -> Floats:
    """2 min(1, TV / D) of each mixture (mixtures, domains) and `other` (domains,), D the mean TV between runs."""
    distance = float(pdist(runs, "cityblock").mean()) / 2
    moved = np.abs(mixtures - other).sum(axis=-1) / 2
    result: Floats = 2 * np.minimum(moved / distance if distance > 0 else np.sign(moved), 1.0)
    return result


def _scatter(at_runs: Floats) -> float:
    """Root mean square over runs of the objective's deviation over resamples (n, runs), by its 5 and 95% points."""
    low, high = _percentiles(at_runs, [5, 95])
    return float(np.sqrt(np.mean(((high - low) / (2 * norm.ppf(0.95))) ** 2)))


@dataclass
class _Trials:
    proposals: list[Floats] = field(default_factory=list)
    own: list[float] = field(default_factory=list)
    costs: list[Floats] = field(default_factory=list)
    at_runs: list[Floats] = field(default_factory=list)
    laws: list[MixingLaw] = field(default_factory=list)
    failures: Counter[str] = field(default_factory=Counter)


def _trials(
    problem: MixtureProblem,
    observations: Observations,
    options: BootstrapOptions,
    points: Floats,
    progress: Progress | None,
) -> _Trials:
    rng = np.random.default_rng(options.seed)
    trials = _Trials()
    kind: Kind = "runs" if options.resampling == "runs" else "residuals"
    draws = resamples(kind, observations, problem.law, options.n_resamples, rng)
    for done, draw in enumerate(draws, start=1):
        try:
            law, found = _one(problem, options, draw, points[0])
        except (ConvergenceError, ObservationError, ConstraintError) as failure:
            trials.failures[failure.rule] += 1
        else:
            trials.proposals.append(found.mixture.weights)
            trials.own.append(float(problem.objective.value(law.predict(found.mixture.weights))))
            trials.costs.append(law.predict(points))
            trials.at_runs.append(np.asarray(problem.objective.value(law.predict(observations.weights))))
            if options.keep_laws:
                trials.laws.append(law)
        if progress is not None:
            progress(done, options.n_resamples)
    n_failed = sum(trials.failures.values())
    if n_failed > _MOST_FAILED * options.n_resamples:
        raise ConvergenceError(
            f"at most half of the {options.n_resamples} resamples may fail; the commonest reason: "
            f"{trials.failures.most_common(1)[0][0]}",
            received=n_failed,
            hint="measure more runs, or choose a law that needs fewer",
        )
    return trials


def _one(problem: MixtureProblem, options: BootstrapOptions, draw: Runs, start: Floats) -> tuple[MixingLaw, Proposal]:
    law = problem.law.refit(draw)
    again = replace(problem, law=law)
    if options.ceilings is not None:
        again = replace(again, ceilings=options.ceilings(law))
    return law, solve(again, method=options.method, start=start)
