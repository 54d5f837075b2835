"""The horizon: how many times as far as an experiment the training moves losses; learnt from what came of decisions.

An experiment (segments of a run, probes of a model) is short. A law of it foretells that decision k moves the loss of
domain d by x_kd; what the training that followed has moved it by, y_kd, is more, and not for all domains alike:

    y_kd = (h + g_d) x_kd + c_k + noise,   h ~ N(h_0, s^2),   g_d ~ N(0, t^2),   c_k ~ N(0, u^2)

h is what all share, g_d a domain's own, and c_k what moved all losses at once (the trend, where one was foretold with
an error; u = 0 for none). All is normal, so that the posterior is a closed form; the deviation of the noise is the one
of a grid with the greatest marginal likelihood. With nothing realised yet it is the prior, with a little near to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError

Floats = npt.NDArray[np.float64]
_NOISE = np.geomspace(0.01, 0.5, 25)  # in the metric's unit
_LEAST = 0.25  # of the prior's factor: a domain is never taken to answer by less, nor by more than four times


@dataclass(frozen=True)
class Horizon:
    """How many times as far as an experiment the training moves a loss, and how well that is known.

    Attributes:
        factor: h + g, one number or shape (metrics,).
        shared_sd, own_sd: standard deviations of its logarithm: what is the same for all domains, and of each beside
            it, one number or shape (metrics,).
        late: q_1, the chance of a late learner per log of tokens to come beyond what is foreseeable (laws/response.py).
        late_slope: of such, in nats per log share.
    """

    factor: float | Floats = 2.6
    shared_sd: float = 0.25
    own_sd: float | Floats = 0.35
    late: float = 0.15
    late_slope: float = 0.85


@dataclass(frozen=True)
class Moves:
    """What came of a decision.

    Attributes:
        foretold: x, domain -> change of its loss at a horizon of 1.
        realised: y, domain -> change that came, of the same domains.
        trend_sd: u, the standard deviation of what moved all losses at once; 0 for nothing.
    """

    foretold: Mapping[str, float]
    realised: Mapping[str, float]
    trend_sd: float = 0.0


def at_horizon(values: Floats, base: Floats, factor: float | Floats, is_rate: npt.ArrayLike = False) -> Floats:
    """Metrics of experiments moved on: base + h (value - base), at least half of the value; an error rate at most 1.

    Args:
        values: shape (runs, metrics).
        base: of the model that the experiments began from, shape (metrics,).
        factor: h, a number or shape (metrics,).
        is_rate: a flag, or shape (metrics,).
    """
    moved = np.maximum(base + factor * (values - base), values / 2)
    result: Floats = np.where(is_rate, np.minimum(moved, 1.0), moved)
    return result


def learnt(prior: Horizon, moves: Sequence[Moves], names: Sequence[str]) -> Horizon:
    """The posterior of the horizon, for these domains in their order.

    Args:
        prior: factor and own_sd one number each.
        moves: of earlier decisions; domains that are not among `names` tell of what all share.
        names: of the domains that it is wanted for.

    Raises:
        ObservationError: if a move has other domains foretold than realised, or a number that is not finite.
    """
    _check(moves)
    rows = [(k, name) for k, move in enumerate(moves) for name in move.foretold]
    if not rows:
        return prior
    domains = list(dict.fromkeys([*names, *(name for _, name in rows)]))
    h = float(prior.factor)
    sds = np.concatenate(
        [[h * prior.shared_sd], np.full(len(domains), h * float(prior.own_sd)), [move.trend_sd for move in moves]]
    )
    x, y = (np.array([getattr(moves[k], of)[name] for k, name in rows]) for of in ("foretold", "realised"))
    X = np.zeros((len(rows), len(sds)))
    X[:, 0] = x
    for row, (k, name) in enumerate(rows):
        X[row, 1 + domains.index(name)] = x[row]
        X[row, 1 + len(domains) + k] = 1.0
    mean, covariance = _posterior(X, y - h * x, sds)
    of_all, own = mean[0], mean[1 : 1 + len(names)]
    factor = np.clip(h + of_all + own, _LEAST * h, h / _LEAST)
    variances = np.diag(covariance)
    shared = float(np.sqrt(variances[0])) / max(h + of_all, _LEAST * h)
    own_sd: Floats = np.sqrt(variances[1 : 1 + len(names)]) / factor
    return Horizon(factor, shared, own_sd, prior.late, prior.late_slope)


def _posterior(X: Floats, residual: Floats, sds: Floats) -> tuple[Floats, Floats]:
    """Mean and covariance of N(0, diag(sds^2)) given X theta + noise = residual; the noise of greatest evidence.

    S = X D X' + v I,   mean = D X' S^-1 residual,   covariance = D - D X' S^-1 X D
    """
    D = np.diag(sds**2)
    among = X @ D @ X.T
    spreads = [among + noise**2 * np.eye(len(X)) for noise in _NOISE]
    S = max(spreads, key=lambda each: _log_evidence(each, residual))
    gain = np.linalg.solve(S, X @ D).T
    return gain @ residual, D - gain @ X @ D


def _log_evidence(S: Floats, residual: Floats) -> float:
    """log N(residual; 0, S), up to a constant."""
    return -0.5 * float(np.linalg.slogdet(S)[1] + residual @ np.linalg.solve(S, residual))


def _check(moves: Sequence[Moves]) -> None:
    for move in moves:
        if move.foretold.keys() != move.realised.keys():
            raise ObservationError(
                "a move must be realised of the domains that it was foretold of",
                received=f"foretold {sorted(move.foretold)}, realised {sorted(move.realised)}",
            )
        for name in move.foretold:
            if not np.isfinite([move.foretold[name], move.realised[name]]).all():
                raise ObservationError(
                    f"moves of domain '{name}' must be finite", received=[move.foretold[name], move.realised[name]]
                )
