"""The law of responses: finds planted slopes beside a trend, is convex, and knows what it does not know."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import approx_fprime

from evermix.designs.balanced import balanced_levels
from evermix.errors import NotFittedError, ObservationError
from evermix.laws.horizon import Horizon
from evermix.laws.response import Estimate, ResponseLaw, pooled, shrunk
from evermix.observations.runs import Runs

M, K = 6, 8
TOKENS = 1000 * 1.12 ** np.arange(K + 1)
TOTAL = 4000.0
RESPONSES = np.array([0.05, 0.1, 0.15, 0.2, 0.25, 0.3])
FALLS = np.array([0.1, 0.3, 0.5, 0.7, 0.9, 1.1])  # per log token
E_ = 1e-4


def segments(noise: float = 0.0, seed: int = 0, bend: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Mixtures (K + 1, M) and losses (K + 1, M) of a world in which the law holds."""
    rng = np.random.default_rng(seed)
    levels = balanced_levels(np.full(M, 1 / M), K, (0.5, 0.8, 1.15, 1.55), rng)
    P = np.vstack([np.full(M, 1 / M), levels / levels.sum(axis=1, keepdims=True)])
    x = np.log(TOKENS / TOKENS[-1])[:, None]
    z = np.log((P + E_) / (1 / M + E_))
    return P, 3.0 - FALLS * x + bend * x**2 - RESPONSES * z + noise * rng.normal(size=(K + 1, M))


def fitted(noise: float = 0.0, seed: int = 0, total: float = TOTAL, **options: object) -> ResponseLaw:
    P, Y = segments(noise, seed)
    law = ResponseLaw(range(M), TOKENS, total, np.full(M, 1 / M), **options)  # type: ignore[arg-type]
    return law.fit(Runs.of(P, Y))


def test_planted_responses_falls_and_levels_are_found_beside_the_trend() -> None:
    law = fitted()
    np.testing.assert_allclose(law.response_.value, RESPONSES, rtol=1e-6)
    np.testing.assert_allclose(law.fall_.value, FALLS * np.log(TOTAL / TOKENS[-1]), rtol=1e-6)
    np.testing.assert_allclose(law.level_, 3.0, rtol=1e-6)
    np.testing.assert_allclose(law.fall_per_log_token, FALLS, rtol=1e-6)
    assert law.noise_.max() < 1e-9


def test_slopes_are_the_geometric_mean_brought_to_the_horizon() -> None:
    law = fitted(horizon=Horizon(factor=3.0))
    both = np.sqrt(law.response_.value * law.fall_.value)
    ratio = law.slope_ / both
    np.testing.assert_allclose(ratio, ratio[0])
    assert law.slope_.mean() == pytest.approx(3.0 * law.response_.value.mean())


def test_a_slope_is_at_least_what_noise_is_unlearnt_by() -> None:
    P, Y = segments()
    Y[:, 0] = 4.3  # it neither falls nor answers
    law = ResponseLaw(range(M), TOKENS, TOTAL, np.full(M, 1 / M)).fit(Runs.of(P, Y))
    assert law.slope_[0] == 0.05
    assert law.slope_[1:].min() > 0.05


def test_a_bent_trend_is_no_response() -> None:
    P, Y = segments(bend=0.8)
    law = ResponseLaw(range(M), TOKENS, TOTAL, np.full(M, 1 / M)).fit(Runs.of(P, Y))
    np.testing.assert_allclose(law.response_.value, RESPONSES, rtol=1e-6)


def test_errors_of_responses_are_those_of_repetition() -> None:
    """The standard error that one experiment tells is the spread over many, without the shrinkage."""
    raw, told = [], []
    for seed in range(200):
        P, Y = segments(0.03, 0)
        Y = Y + 0.03 * np.random.default_rng(seed).normal(size=Y.shape) - (Y - segments(0.0, 0)[1])
        x, z = np.log(TOKENS / TOKENS[-1]), np.log((P[:, 0] + E_) / (1 / M + E_))
        X = np.column_stack([np.ones(K + 1), x, x**2, z])
        raw.append(-np.linalg.lstsq(X, Y[:, 0], rcond=None)[0][3])
        law = ResponseLaw([0], TOKENS, TOTAL, np.full(M, 1 / M)).fit(Runs.of(P, Y[:, :1]))
        told.append(law.response_.error[0])
    assert np.sqrt(np.mean(np.square(told))) == pytest.approx(np.std(raw), rel=0.15)


def test_noise_shrinks_responses_towards_their_mean() -> None:
    estimate = shrunk(Estimate(np.array([0.1, 0.2, 0.3]), np.array([0.5, 0.5, 0.5])))
    assert np.ptp(estimate.value) < 0.01
    exact = shrunk(Estimate(np.array([0.1, 0.2, 0.3]), np.array([1e-6, 1e-6, 1e-6])))
    np.testing.assert_allclose(exact.value, [0.1, 0.2, 0.3], atol=1e-6)


def test_estimates_are_pooled_by_precision() -> None:
    found = pooled(Estimate(np.array([1.0]), np.array([1.0])), Estimate(np.array([4.0]), np.array([2.0])))
    assert found.value[0] == pytest.approx((1.0 + 4.0 / 4) / 1.25)
    assert found.error[0] == pytest.approx(np.sqrt(1 / 1.25))


def test_gradient_curvature_and_expressions_are_of_the_formula() -> None:
    law, p = fitted(0.02), np.array([0.3, 0.25, 0.2, 0.15, 0.06, 0.04])
    for i in range(M):
        np.testing.assert_allclose(
            law.gradient(p)[i], approx_fprime(p, lambda q, i=i: law.predict(q)[i], 1e-7), rtol=1e-3, atol=1e-4
        )
    d, s = law.curvature(p)
    assert (d >= 0).all()
    assert (s == 0).all()
    steps = np.eye(M) * 1e-5
    bent = [(law.gradient(p + step)[i, i] - law.gradient(p - step)[i, i]) / 2e-5 for i, step in enumerate(steps)]
    np.testing.assert_allclose(np.diag(d), bent, rtol=1e-4)
    variable = cp.Variable(M)
    expressions = law.expressions(variable)
    variable.value = p
    assert all(each.is_convex() for each in expressions)
    np.testing.assert_allclose([float(each.value) for each in expressions], law.predict(p), rtol=1e-9)


def test_the_law_is_the_log_of_the_mean_perplexity_over_drawn_slopes() -> None:
    law, rng = fitted(0.03), np.random.default_rng(1)
    p = np.array([0.25, 0.22, 0.19, 0.14, 0.11, 0.09])
    mean = np.log(np.exp(law.at_slopes(p, law.drawn_slopes(200_000, rng))).mean(axis=0))
    np.testing.assert_allclose(law.predict(p), mean, atol=0.01)


def test_a_late_learner_makes_taking_away_dearer_where_much_is_still_to_come() -> None:
    """Within 3.3 times the tokens that were seen there is none."""
    p = np.full(M, 1 / M)
    p[0], p[1] = 0.03, p[0] + p[1] - 0.03
    for times, dearer in ((3.2, False), (12.0, True)):
        total = times * float(TOKENS[-1])
        certain, warned = (fitted(total=total, horizon=Horizon(2.2, 0.0, 0.0, late)) for late in (0.0, 0.1))
        np.testing.assert_allclose(certain.predict(np.full(M, 1 / M)), warned.predict(np.full(M, 1 / M)))
        assert (warned.predict(p)[0] > certain.predict(p)[0] + 0.02) == dearer


def test_two_probes_are_shrunk_in_logarithms_with_the_error_of_benchmarks() -> None:
    """With s = .8 between domains and e = 1: w = .64 / 1.64; the level moves on by its own horizon."""
    P = np.array([[0.1, 0.9], [0.9, 0.1]])
    z = np.log((P + E_) / (0.5 + E_))
    base, Y = np.array([4.0, 3.0]), np.array([3.5, 2.8]) - np.array([0.3, 0.05]) * z
    law = ResponseLaw((0, 1), centre=(0.5, 0.5), horizon=Horizon(2.0), base=base, level_horizon=(3.0, 1.0))
    law.fit(Runs.of(P, Y))
    logs, w = np.log([0.3, 0.05]), 0.64 / 1.64
    np.testing.assert_allclose(law.response_.value, np.exp(w * logs + (1 - w) * logs.mean()), rtol=1e-6)
    np.testing.assert_allclose(law.response_.error / law.response_.value, 0.8 / np.sqrt(1.64), rtol=1e-6)
    np.testing.assert_allclose(law.slope_, 2.0 * law.response_.value)
    levels = (Y + np.array([0.3, 0.05]) * z)[0]
    np.testing.assert_allclose(law.level_, [4.0 + 3.0 * (levels[0] - 4.0), levels[1]], rtol=1e-6)


def test_drawn_slopes_are_wider_where_less_is_known() -> None:
    rng = np.random.default_rng(0)
    sure = fitted(horizon=Horizon(2.2, 0.0, 0.0, 0.0)).drawn_slopes(500, rng)
    unsure = fitted(0.05, horizon=Horizon(2.2, 0.3, 0.3)).drawn_slopes(500, rng)
    np.testing.assert_allclose(sure, np.tile(sure[0], (500, 1)), rtol=1e-4)
    assert (np.log(unsure).std(axis=0) > 0.4).all()
    law = fitted()
    np.testing.assert_allclose(law.at_slopes(np.full(M, 1 / M), unsure)[0], law.level_, rtol=1e-9)


def test_too_few_segments_wrong_tokens_and_wrong_domains_are_refused() -> None:
    P, Y = segments()
    with pytest.raises(ObservationError, match="at least 6 segments"):
        ResponseLaw(range(M), TOKENS[:5], TOTAL).fit(Runs.of(P[:5], Y[:5]))
    with pytest.raises(ObservationError, match="tokens must increase"):
        ResponseLaw(range(M), TOKENS[::-1], TOTAL).fit(Runs.of(P, Y))
    with pytest.raises(ObservationError, match="one of 6 domains"):
        ResponseLaw([0, 1, 2, 3, 4, 9], TOKENS, TOTAL).fit(Runs.of(P, Y))
    with pytest.raises(ObservationError, match="centre must have 6"):
        ResponseLaw(range(M), TOKENS, TOTAL, [0.5, 0.5]).fit(Runs.of(P, Y))
    with pytest.raises(NotFittedError):
        ResponseLaw().predict(P[0])
