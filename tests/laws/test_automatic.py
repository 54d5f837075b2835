"""auto on planted worlds: it finds the family, says so, and keeps to the default without evidence."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from scipy.stats import spearmanr

from evermix.errors import ObservationError
from evermix.laws.automatic import AutoLaw, default_candidates
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nonparametric import NearestLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs

M = 6


def world(kind: str, k: int = 300, n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(M, 0.7), k)
    t = rng.normal(0, 1.2, (n, M))
    if kind == "power-link":
        Y = 1.5 + (P**0.7 @ np.exp(t).T) ** -0.3
    elif kind == "log-linear":
        Y = 1 + np.exp(P @ t.T)
    else:
        Y = 5 + 3 * ((P[:, None, :] - rng.dirichlet(np.ones(M), n)) ** 2 * np.exp(t)).sum(axis=2)
    return P, Y + 0.02 * Y.std(axis=0) * rng.standard_normal(Y.shape)


CANDIDATES = {"power-link": PowerLinkLaw(), "log-linear": LogLinearLaw(), "gp": GaussianProcessLaw(g=1.0)}


@pytest.mark.parametrize(("kind", "wanted"), [("power-link", "power-link"), ("log-linear", "log-linear")])
def test_finds_the_family_of_a_planted_world(kind: str, wanted: str) -> None:
    P, Y = world(kind)
    law = AutoLaw(CANDIDATES).fit(Runs.of(P[:60], Y[:60]))
    assert law.scores_[wanted].mean() == min(law.scores_[name].mean() for name in CANDIDATES)
    assert law.scores_[law.swarm_choice_].mean() <= law.scores_[wanted].mean() * 1.1
    rank = [spearmanr(law.predict(P[60:])[:, i], Y[60:, i]).statistic for i in range(4)]
    assert min(rank) > 0.97


@pytest.mark.parametrize("kind", ["power-link", "log-linear", "quadratic"])
def test_is_near_the_best_of_its_candidates(kind: str) -> None:
    P, Y = world(kind)
    fit, rest = slice(0, 40), slice(40, None)

    def rank(law) -> float:
        predicted = law.fit(Runs.of(P[fit], Y[fit])).predict(P[rest])
        return float(np.mean([spearmanr(predicted[:, i], Y[rest][:, i]).statistic for i in range(4)]))

    assert rank(AutoLaw(CANDIDATES)) > max(rank(law.clone()) for law in CANDIDATES.values()) - 0.02


def test_metrics_of_different_kinds_get_different_laws() -> None:
    P, Y = world("power-link")
    Z = world("log-linear")[1]
    two = {"power-link": PowerLinkLaw(), "log-linear": LogLinearLaw()}
    law = AutoLaw(two).fit(Runs.of(P[:120], np.hstack([Y, Z])[:120]))
    straight = np.hstack([Y, Z])
    left = ((law.predict(P[120:]) - straight[120:]) ** 2).mean(axis=0) / straight.var(axis=0)
    assert (left < 0.01).all()
    assert set(law.choice_) <= {*two, "stack of convex laws"}
    assert law.is_convex


def test_without_evidence_the_preferred_candidate_stays() -> None:
    rng = np.random.default_rng(2)
    P = rng.dirichlet(np.full(M, 0.7), 15)
    Y = 3 + 0.1 * rng.standard_normal((15, 3))
    law = AutoLaw({"power-link": PowerLinkLaw(ridge=100.0), "nearest": NearestLaw(power=1.0)}, caution=3.0).fit(
        Runs.of(P, Y)
    )
    assert (law.choice_ == "power-link").all()


def test_says_what_it_chose_and_what_it_left_out() -> None:
    P, Y = world("power-link", k=8)
    law = AutoLaw({"power-link": PowerLinkLaw(), "log-linear": LogLinearLaw(ridge=0.0)}).fit(Runs.of(P, Y))
    assert law.choice_.shape == (4,)
    assert set(law.left_out_) == {"log-linear"}
    text = law.describe()
    assert text.startswith("law: power-link (held-out error")
    assert "log-linear: left out, a log-linear law over 6 domains needs at least 7 runs" in text


def test_no_usable_candidate_is_refused() -> None:
    P, Y = world("power-link", k=6)
    with pytest.raises(ObservationError, match="auto needs a candidate that the runs suffice for"):
        AutoLaw({"log-linear": LogLinearLaw(ridge=0.0)}).fit(Runs.of(P, Y))


def test_convex_only_gives_exact_expressions() -> None:
    P, Y = world("quadratic")
    law = AutoLaw(CANDIDATES, convex=True).fit(Runs.of(P[:40], Y[:40]))
    assert law.is_convex
    assert "gp" not in law.scores_
    variable = cp.Variable(M, nonneg=True)
    expressions = law.expressions(variable)
    variable.value = P[50]
    np.testing.assert_allclose([float(e.value) for e in expressions], law.predict(P[50]), rtol=1e-8)


def test_refit_keeps_the_choice() -> None:
    P, Y = world("power-link")
    law = AutoLaw(CANDIDATES, n_folds=3).fit(Runs.of(P[:30], Y[:30]))
    counts = np.random.default_rng(3).multinomial(30, np.full(30, 1 / 30))
    again = law.refit(Runs.of(P[:30], Y[:30], counts=counts))
    assert (again.choice_ == law.choice_).all()
    assert np.abs(again.predict(P) - law.predict(P)).mean() < 0.2 * Y.std()


def test_the_default_candidates_fit_few_runs() -> None:
    assert "boosted-trees" in default_candidates(200, M)
    assert "boosted-trees" not in default_candidates(100, M)
    P, Y = world("power-link")
    law = AutoLaw(n_folds=3).fit(Runs.of(P[: M + 1], Y[: M + 1]))
    rank = [spearmanr(law.predict(P[M + 1 :])[:, i], Y[M + 1 :, i]).statistic for i in range(4)]
    assert np.mean(rank) > 0.6
