"""Comparison: the proposal beside natural, uniform, UniMax, the best observed run and any named mixture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.trust.bootstrap import Bootstrap
from evermix.trust.references import (
    BEST_RUN,
    PROPOSAL,
    BestRun,
    Gain,
    Interval,
    Request,
    best_run,
    counts_known,
    run_objective,
)

Floats = npt.NDArray[np.float64]
USED = 1e-4  # a share from which a domain counts as used


@dataclass(frozen=True, eq=False)
class ComparedRow:
    """One mixture.

    Attributes:
        objective_value: predicted by the law on all runs, in the objective's quantity, lower is better.
        interval: of the true value (the proposal's corrected for its optimism); None without a bootstrap.
        gain: of the proposal over this mixture; None without a bootstrap, and for the proposal itself.
        measured: the measured objective, for the best run only.
        metrics: shape (metrics,), predicted, in each metric's own unit and direction.
        metric_intervals: shape (metrics, 2), in the same; None without a bootstrap.
        kl_to_prior: KL(mixture || prior) in nats; may be infinite.
        tv_to_proposal: total variation to the proposal, in [0, 1].
        epochs: shape (domains,), passes over each domain at R; None if R or a token count is unknown.
        n_domains_used: domains with a share of at least 0.01%.
        effective_domains: exp(entropy).
    """

    name: str
    mixture: Mixture
    objective_value: float
    interval: Interval | None
    gain: Gain | None
    measured: float | None
    metrics: Floats
    metric_intervals: Floats | None
    kl_to_prior: float
    tv_to_proposal: float
    epochs: Floats | None
    n_domains_used: int
    effective_domains: float

    @property
    def most_epochs(self) -> tuple[str, float] | None:
        """The domain repeated most, and its epochs."""
        if self.epochs is None:
            return None
        j = int(np.argmax(self.epochs))
        return self.mixture.domains.names[j], float(self.epochs[j])


@dataclass(frozen=True, eq=False)
class Comparison:
    """Rows, the proposal first; `metrics` names the columns of their metrics; `n_tokens` is R, None if unknown."""

    rows: tuple[ComparedRow, ...]
    metrics: tuple[str, ...]
    n_tokens: float | None
    best: BestRun

    def __getitem__(self, name: str) -> ComparedRow:
        return next(row for row in self.rows if row.name == name)

    def __contains__(self, name: object) -> bool:
        return any(row.name == name for row in self.rows)

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not finite becomes None."""
        return {
            "n_tokens": self.n_tokens,
            "best_run": list(self.best.run_ids),
            "rows": [_row_as_dict(row, self.metrics) for row in self.rows],
        }


def compare(
    problem: MixtureProblem,
    proposal: Proposal,
    observations: Observations,
    request: Request | None = None,
    bootstrap: Bootstrap | None = None,
) -> Comparison:
    """Compare; rows that the bootstrap did not follow have no intervals.

    Raises:
        MixtureError: if a named mixture has a reserved name, or other domains.
        ObservationError: if problem and observations name other metrics.
    """
    request = request or Request()
    law, objective = problem.law, problem.objective
    best = best_run(observations, run_objective(observations, objective, law.predict(observations.weights)))
    references = request.references(observations.domains, problem.prior)
    rows = []
    for name, mixture in {PROPOSAL: proposal.mixture, **references, BEST_RUN: best.mixture}.items():
        costs = law.predict(mixture.weights)
        followed = bootstrap if bootstrap is not None and _follows(bootstrap, name, mixture) else None
        row = ComparedRow(
            name=name,
            mixture=mixture,
            objective_value=float(objective.value(costs)) if followed is None else followed.objective_estimate(name),
            interval=None if followed is None else followed.objective_interval(name),
            gain=None if followed is None or name == PROPOSAL else followed.gain(name),
            measured=best.objective_value if name == BEST_RUN else None,
            metrics=np.asarray(observations.orientation.value(costs), dtype=np.float64),
            metric_intervals=None if followed is None else _metric_intervals(observations, followed, name),
            kl_to_prior=mixture.kl(problem.prior),
            tv_to_proposal=mixture.total_variation(proposal.mixture),
            epochs=_epochs(mixture, request.n_tokens),
            n_domains_used=int((mixture.weights >= USED).sum()),
            effective_domains=effective_domains(mixture.weights),
        )
        rows.append(row)
    return Comparison(tuple(rows), observations.metrics, request.n_tokens, best)


def effective_domains(weights: Floats) -> float:
    """exp(-sum_j p_j log p_j), in [1, domains]."""
    used = weights[weights > 0]
    return float(np.exp(-(used * np.log(used)).sum()))


def _follows(bootstrap: Bootstrap, name: str, mixture: Mixture) -> bool:
    followed: Mapping[str, Mixture] = bootstrap.mixtures
    return name in followed and bool(np.allclose(followed[name].weights, mixture.weights, rtol=0, atol=1e-12))


def _metric_intervals(observations: Observations, bootstrap: Bootstrap, name: str) -> Floats:
    ends = np.asarray(observations.orientation.value(bootstrap.cost_intervals(name).T), dtype=np.float64).T
    return np.sort(ends, axis=1)


def _epochs(mixture: Mixture, n_tokens: float | None) -> Floats | None:
    if n_tokens is None or not counts_known(mixture.domains):
        return None
    return mixture.epochs(n_tokens)


def _row_as_dict(row: ComparedRow, metrics: tuple[str, ...]) -> dict[str, Any]:
    intervals = row.metric_intervals
    return {
        "name": row.name,
        "mixture": dict(row.mixture.as_dict),
        "objective_value": row.objective_value,
        "interval": None if row.interval is None else row.interval.as_dict,
        "gain": None if row.gain is None else row.gain.as_dict,
        "measured": row.measured,
        "metrics": dict(zip(metrics, map(float, row.metrics), strict=True)),
        "metric_intervals": None if intervals is None else dict(zip(metrics, intervals.tolist(), strict=True)),
        "kl_to_prior": row.kl_to_prior if np.isfinite(row.kl_to_prior) else None,
        "tv_to_proposal": row.tv_to_proposal,
        "epochs": _epochs_as_dict(row),
        "n_domains_used": row.n_domains_used,
        "effective_domains": row.effective_domains,
    }


def _epochs_as_dict(row: ComparedRow) -> dict[str, float | None] | None:
    if row.epochs is None:
        return None
    pairs = zip(row.mixture.domains.names, row.epochs, strict=True)
    return {name: float(n) if np.isfinite(n) else None for name, n in pairs}
