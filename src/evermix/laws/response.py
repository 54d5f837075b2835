"""Response law: how losses answer to shares, read off the very run that is to be decided.

A run trains on one designed mixture after the other. Segment k is trained on p_k and ends after t_k tokens, with the
held-out loss y_k of a domain. Time and the domain's own share move it; least squares over segments tells them apart:

    y_k = c_0 + c_1 x_k + c_2 x_k^2 - r z_k + noise,   x_k = log(t_k / t_K),   z_k = log((p_k,own + e) / (s_own + e))

with s the centre of the design. The response r is what one segment has done, and noisy: it is shrunk towards the mean
over domains, with the spread between domains estimated from the data (empirical Bayes; DerSimonian and Laird 1986).

What a share does until the end of the run is more, and not for all domains alike: one that is still being learnt
answers by more than one that is learnt. How far a loss is still to fall is read off the run too, without the first
segment, which may lie on the first plateau:

    y_k = c_0' + c_1' x_k - r' z_k,   F = -c_1' log(T / t_K),   T the tokens of the whole run

and the slope until the end is the geometric mean of response and fall, brought to h times the mean response, h a number
or one per domain (`laws/horizon.py`):

    b = g h sqrt(r F),   g such that the mean of g sqrt(r F) over domains is that of r;   b >= .05

Nothing answers by less: what cannot be learnt at all is unlearnt by so much where its share is cut.

That slope is uncertain, and it may be quite wrong: a domain that seems to be learnt may lie on a plateau that it leaves
later (pronunciations did, at a fifth of a run, and then answered ten times as strongly). So b has a distribution: with
probability q = q_1 (log(T / t_K) - 1.2) it is that of a late learner (none did so much within 3.3 times the tokens that
a run had seen, and q = 0 then), and else log-normal around b (`Horizon`), taken at the
three points b_k of Gauss and Hermite. The law is the logarithm of the mean perplexity over it,

    f(p) = l + log sum_k w_k ((p_own + e) / (s_own + e))^(-b_k),   l = c_0, the loss at s when the last segment ends

so that what is risked by taking text away is counted, and convex in p. Transfer between domains is not modelled: so few
segments do not tell it, and what they seemed to tell made decisions worse (docs/log/in-run.md).

Probes of a model have no trend: b = h r. Two of them leave no residuals; r is shrunk by errors as on benchmarks then.

The noise of the least squares gives the errors of r and F; `drawn_slopes` draws from all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import cvxpy as cp
import numpy as np
import numpy.typing as npt
from scipy.special import logsumexp

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw, weighted
from evermix.laws.horizon import Horizon, at_horizon
from evermix.observations.runs import Runs

_LEAST_RESPONSE = 0.02  # in the metric's unit per log share: a domain that seems not to answer is still heard
_LEAST_FALL = 0.03  # in the metric's unit
_LEAST_SLOPE = 0.05  # in the metric's unit per log share, of a run
_LEAST_VARIANCE = 1e-4  # of responses between domains
_BETWEEN_SD, _UNTOLD_SD = 0.8, 1.0  # of log responses: between domains, and the error that two runs leave untold
_FORESEEABLE = 1.2  # log of tokens: for so long no domain leaves a plateau that it seemed to end on
_TELL_ERRORS = 4  # runs: two residuals beside a level and a response
_OF_THE_TREND = 3  # terms


@dataclass(frozen=True)
class Estimate:
    """A quantity of every metric and its standard error, both of shape (metrics,), in the metric's unit."""

    value: Floats
    error: Floats


class ResponseLaw(MixingLaw):
    """f_i(p) = l_i + log sum_k w_k ((p_own + e) / (s_own + e))^(-b_ik), b > 0, of the segments of one run.

    Args:
        own: per metric, the column of the domain it is the held-out loss of; None: metric i is of domain i.
        tokens: t, tokens seen when each run (segment) ends, shape (runs,); None: no trend is taken out, and slopes are
            responses.
        total_tokens: T; None: that of the last segment.
        centre: s, shape (domains,); None: the mean of the runs' mixtures.
        horizon: h and its uncertainty; None: as measured on benchmarks.
        earlier: responses that an earlier experiment of the run has found, with their errors today; None: none has.
        base: of probes, metrics of the model that they start from, shape (metrics,).
        level_horizon: how many times as far from it as in the probes the level will be, a number or shape (metrics,).
        is_rate: whether a metric is an error rate, whose level is at most 1.
        minimum_share: e.

    Attributes after fit:
        horizon_: as it was taken.
        level_: l. response_, fall_: r, shrunk, and F. slope_: b. All of shape (metrics,).
        slopes_, weights_: b_k and w, shapes (metrics, 4) and (4,).
    """

    name = "response"
    formula = "l + log sum_k w_k ((p_own + e) / (s_own + e))^(-b_k)"
    source = "ours; docs/in-run.md"
    of_probes = True

    horizon_: Horizon
    own_: npt.NDArray[np.intp]
    centre_: Floats
    level_: Floats
    response_: Estimate
    fall_: Estimate
    slope_: Floats
    slopes_: Floats
    weights_: Floats

    def __init__(
        self,
        own: Sequence[int] | None = None,
        tokens: npt.ArrayLike | None = None,
        total_tokens: float | None = None,
        centre: npt.ArrayLike | None = None,
        horizon: Horizon | None = None,
        earlier: Estimate | None = None,
        base: npt.ArrayLike | None = None,
        level_horizon: npt.ArrayLike = 1.0,
        is_rate: npt.ArrayLike = False,
        minimum_share: float = 1e-4,
    ) -> None:
        self.own = own
        self.tokens = tokens
        self.total_tokens = total_tokens
        self.centre = centre
        self.horizon = horizon
        self.earlier = earlier
        self.base = base
        self.level_horizon = level_horizon
        self.is_rate = is_rate
        self.minimum_share = minimum_share

    @property
    def is_convex(self) -> bool:
        """Always: b > 0."""
        return True

    @property
    def has_gradient(self) -> bool:
        """Always."""
        return True

    @classmethod
    def n_parameters(cls, n_domains: int) -> int:
        """The trend and a response."""
        return _OF_THE_TREND + 1

    def fit(self, runs: Runs) -> Self:
        """Fit to the segments; see MixingLaw.fit.

        Raises:
            ObservationError: too few segments (six with a trend), or `own`, `tokens` or `centre` of another length.
        """
        table = weighted(runs)
        n, m = table.mixtures.shape
        self.horizon_ = self.horizon or Horizon()
        self.own_ = self._own(table.values.shape[1], m)
        self.centre_ = self._centre(table.mixtures)
        z, x = self.logs(table.mixtures), self._times(n)
        fits = [_fit(y, z[:, i], x) for i, y in enumerate(table.values.T)]
        self.level_, self.noise_, self.objective_, r, r_error, F, F_error = np.array(fits).T
        self.fall_ = Estimate(F * self.log_rest, F_error * self.log_rest)
        if self.base is not None:
            self.level_ = at_horizon(self.level_, np.asarray(self.base), np.asarray(self.level_horizon), self.is_rate)
        if self.tokens is None and n < _TELL_ERRORS:
            self.response_ = without_errors(r)
        else:
            found = Estimate(r, r_error)
            self.response_ = shrunk(found if self.earlier is None else pooled(found, self.earlier))
        self.slope_ = self._slopes(self.response_.value, self.fall_.value)
        self.slopes_, self.weights_ = self._distribution()
        self.converged_ = np.ones(len(fits), dtype=bool)
        self.n_domains_, self.n_metrics_ = m, len(fits)
        return self

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at mixtures, (..., domains) -> (..., metrics)."""
        u = self.logs(self._mixtures(P))
        result: Floats = self.level_ + logsumexp(-self.slopes_ * u[..., None], axis=-1, b=self.weights_)
        return result

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """-E b / (p_own + e) in the own domain, 0 elsewhere, E over the terms' parts of f; -> (metrics, domains)."""
        mean, _ = self._moments(self._mixtures(p))
        return self._in_own(-mean / (self._mixtures(p)[self.own_] + self.minimum_share))

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """(E b + Var b) / (p_own + e)^2 on the diagonal, and nothing beside it; see MixingLaw.curvature."""
        mean, variance = self._moments(self._mixtures(p))
        d = (mean + variance) / (self._mixtures(p)[self.own_] + self.minimum_share) ** 2
        return self._in_own(d), np.zeros(self.n_metrics_)

    def expressions(self, variable: Any) -> list[Any]:
        """See MixingLaw.expressions."""
        self._check_fitted()
        at_centre = np.log(self.centre_[self.own_] + self.minimum_share)
        found = []
        for i, j in enumerate(self.own_):
            log = cp.log(variable[j] + self.minimum_share)
            terms = [
                np.log(w) + b * at_centre[i] - b * log for b, w in zip(self.slopes_[i], self.weights_, strict=True)
            ]
            found.append(self.level_[i] + cp.log_sum_exp(cp.hstack(terms)))
        return found

    def drawn_slopes(self, n: int, rng: np.random.Generator) -> Floats:
        """n draws of b, shape (n, metrics), from its distribution, what is the same for all domains drawn together."""
        self._check_fitted()
        shared = rng.normal(0, self.horizon_.shared_sd, (n, 1))
        own = self._own_sd() * rng.normal(size=(n, self.n_metrics_))
        late = rng.random((n, self.n_metrics_)) < self._late_probability()
        drawn: Floats = np.where(late, self.slopes_[:, -1], self.slope_ * np.exp(shared + own))
        return drawn

    @property
    def fall_per_log_token(self) -> Floats:
        """-c_1', shape (metrics,), at least 0: what more tokens are worth, in the metric's unit per log of tokens."""
        rest = self.log_rest
        found: Floats = np.maximum(self.fall_.value, 0.0) / rest if rest > 0 else np.zeros(self.n_metrics_)
        return found

    def at_slopes(self, P: npt.ArrayLike, slopes: Floats) -> Floats:
        """Metrics at mixtures, were the slopes others: (domains,) and (n, metrics) -> (n, metrics)."""
        return self.level_ - slopes * self.logs(self._mixtures(P))

    def _own(self, n_metrics: int, m: int) -> npt.NDArray[np.intp]:
        own = np.arange(n_metrics) if self.own is None else np.array(self.own, dtype=np.intp)
        if own.shape != (n_metrics,) or (own >= m).any() or (own < 0).any():
            raise ObservationError(
                f"every one of {n_metrics} metrics must be the loss of one of {m} domains", received=own.tolist()
            )
        return own

    def _centre(self, mixtures: Floats) -> Floats:
        if self.centre is None:
            mean: Floats = mixtures.mean(axis=0)
            return mean
        centre = np.asarray(self.centre, dtype=np.float64)
        if centre.shape != mixtures.shape[1:]:
            raise ObservationError(f"the centre must have {mixtures.shape[1]} shares", received=centre.shape)
        return centre

    def _times(self, n: int) -> Floats | None:
        """x, shape (segments,), or None where there is no trend."""
        if self.tokens is None:
            return None
        tokens = np.asarray(self.tokens, dtype=np.float64)
        if tokens.shape != (n,) or (np.diff(tokens) <= 0).any() or tokens[0] <= 0:
            raise ObservationError(f"tokens must increase over the {n} segments", received=tokens.tolist())
        if n < _OF_THE_TREND + 3:
            raise ObservationError(f"a response beside a trend needs at least {_OF_THE_TREND + 3} segments", received=n)
        x: Floats = np.log(tokens / tokens[-1])
        return x

    @property
    def log_rest(self) -> float:
        """log(T / t_K), T the tokens of the whole run and t_K those of its segments; 0 without a trend."""
        if self.tokens is None or self.total_tokens is None:
            return 0.0
        return float(np.log(self.total_tokens / np.asarray(self.tokens, dtype=np.float64)[-1]))

    def logs(self, mixtures: Floats) -> Floats:
        """log((p_own + e) / (s_own + e)) at mixtures, (..., domains) -> (..., metrics)."""
        e = self.minimum_share
        result: Floats = np.log((mixtures[..., self.own_] + e) / (self.centre_[self.own_] + e))
        return result

    def _slopes(self, r: Floats, F: Floats) -> Floats:
        """b, shape (metrics,)."""
        r = np.maximum(r, _LEAST_RESPONSE)
        factor = self.horizon_.factor
        if self.tokens is None:
            alone: Floats = factor * r
            return alone
        both = np.sqrt(r * np.maximum(F, _LEAST_FALL))
        slopes: Floats = factor * both * r.mean() / both.mean()
        return np.maximum(slopes, _LEAST_SLOPE)

    def _distribution(self) -> tuple[Floats, Floats]:
        """b_k and w: three points of the log-normal, exact for polynomials of log b of degree five, and late."""
        late = self._late_probability()
        sd = np.hypot(self._own_sd(), self.horizon_.shared_sd)
        points = self.slope_[:, None] * np.exp(np.sqrt(3) * sd[:, None] * np.array([-1.0, 0.0, 1.0]))
        slopes = np.column_stack([points, np.maximum(self.slope_, self.horizon_.late_slope)])
        return slopes, np.append((1 - late) * np.array([1, 4, 1]) / 6, max(late, 1e-12))

    def _own_sd(self) -> Floats:
        """Of log b, shape (metrics,): (se_r / r)^2 / 4 + (se_F / F)^2 / 4, at most 1 each, and that of the horizon.

        Without a trend (se_r / r)^2 and that.
        """
        parts = [
            np.minimum(each.error / np.maximum(each.value, least), 1.0)
            for each, least in ((self.response_, _LEAST_RESPONSE), (self.fall_, _LEAST_FALL))
        ]
        measured = parts[0] ** 2 if self.tokens is None else (parts[0] ** 2 + parts[1] ** 2) / 4
        sd: Floats = np.sqrt(measured + self.horizon_.own_sd**2)
        return sd

    def _late_probability(self) -> float:
        beyond = max(self.log_rest - _FORESEEABLE, 0.0)
        return float(min(self.horizon_.late * beyond, 0.5))

    def _moments(self, p: Floats) -> tuple[Floats, Floats]:
        """Mean and variance of b over the terms' parts of f at one mixture, both (metrics,)."""
        logs = np.log(self.weights_) - self.slopes_ * self.logs(p)[:, None]
        parts = np.exp(logs - logsumexp(logs, axis=1, keepdims=True))
        mean = (parts * self.slopes_).sum(axis=1)
        return mean, (parts * self.slopes_**2).sum(axis=1) - mean**2

    def _in_own(self, values: Floats) -> Floats:
        """Values (metrics,) in their own column, (metrics, domains)."""
        found = np.zeros((self.n_metrics_, self.n_domains_))
        found[np.arange(self.n_metrics_), self.own_] = values
        return found


def _fit(y: Floats, z: Floats, x: Floats | None) -> tuple[float, ...]:
    """One metric: level, noise, squares, r and its error, -c_1' and its error (see the module)."""
    ones = np.ones(len(y))
    if x is None:
        (level, minus_r), noise, squares, errors = _least_squares(np.column_stack([ones, z]), y)
        return level, noise, squares, -minus_r, errors[1], 0.0, 0.0
    coefficients, noise, squares, errors = _least_squares(np.column_stack([ones, x, x**2, z]), y)
    later = slice(1, None)
    line, _, _, line_errors = _least_squares(np.column_stack([ones, x, z])[later], y[later])
    return coefficients[0], noise, squares, -coefficients[3], errors[3], -line[1], line_errors[1]


def _least_squares(X: Floats, y: Floats) -> tuple[Any, float, float, Any]:
    """Coefficients, noise, sum of squares, standard errors."""
    coefficients = np.linalg.lstsq(X, y, rcond=None)[0]
    residuals = y - X @ coefficients
    squares = float(residuals @ residuals)
    noise = np.sqrt(squares / max(len(y) - X.shape[1], 1))
    errors: Floats = noise * np.sqrt(np.maximum(np.diag(np.linalg.pinv(X.T @ X)), 0.0))
    return coefficients, float(noise), squares, errors


def pooled(one: Estimate, other: Estimate) -> Estimate:
    """Two estimates of the same, weighted by their precision."""
    a, b = 1 / (one.error**2 + 1e-12), 1 / (other.error**2 + 1e-12)
    return Estimate((a * one.value + b * other.value) / (a + b), np.sqrt(1 / (a + b)))


def without_errors(raw: Floats) -> Estimate:
    """Responses of runs that leave no residuals: shrunk in logarithms towards their mean, by errors of benchmarks.

    log r_d = w log raw_d + (1 - w) mean log raw,   w = s^2 / (s^2 + e^2),   with error s e / sqrt(s^2 + e^2)
    """
    logs, s, e = np.log(np.maximum(raw, _LEAST_RESPONSE)), _BETWEEN_SD, _UNTOLD_SD
    w = s**2 / (s**2 + e**2)
    value = np.exp(w * logs + (1 - w) * logs.mean())
    return Estimate(value, value * s * e / np.hypot(s, e))


def shrunk(raw: Estimate) -> Estimate:
    """Estimates of many domains, each shrunk towards their mean: the posterior of a normal prior fitted to them.

    The variance between domains is by moments, at least 1e-4; mean and values are weighted by precision.
    """
    noise = raw.error**2 + 1e-12
    between = max(float(raw.value.var(ddof=1) - noise.mean()), _LEAST_VARIANCE) if len(raw.value) > 1 else 1.0
    precision = 1 / (noise + between)
    mean = float(precision @ raw.value / precision.sum())
    value = (raw.value / noise + mean / between) / (1 / noise + 1 / between)
    return Estimate(value, np.sqrt(1 / (1 / noise + 1 / between)))
