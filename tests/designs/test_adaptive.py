"""Adaptive design: it asks where contenders differ, never twice the same, and needs fewer runs on a planted world."""

from __future__ import annotations

import time

import numpy as np
import pytest

from evermix.constraints import Constraints
from evermix.designs import (
    AdaptiveOptions,
    Posterior,
    SwarmRules,
    adaptive_design,
    candidate_pool,
    choose_next,
)
from evermix.designs.adaptive import choose_from_posterior
from evermix.domains import DomainSet
from evermix.errors import MixtureError, ObservationError
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.observations.runs import Runs

Floats = np.ndarray


def mean_cost(costs: Floats) -> Floats:
    return np.asarray(costs.mean(axis=-1))


def world(seed: int, m: int = 10, n_runs: int = 250) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    P = np.array([rng.dirichlet(np.full(m, s)) for s in np.exp(rng.uniform(np.log(0.05), np.log(1), n_runs))])
    costs = 1 + np.exp(-(P @ rng.gamma(0.5, 2, (m, 4)))) + 0.3 * (0.05 + P @ rng.gamma(0.3, 1, (m, 4))) ** -0.4
    return P, costs + 0.01 * rng.standard_normal(costs.shape)


def test_a_run_that_tells_contenders_apart_comes_first() -> None:
    # points 0 and 1 contend; 2 is as uncertain as any, but says nothing about them; 3 is like 1 and surely worse
    covariance = np.diag([0.01, 1.0, 1.0, 1.01])
    covariance[1, 3] = covariance[3, 1] = 0.99
    posterior = Posterior(np.array([0.0, 0.1, 20.0, 30.0]), covariance, 0.01)
    choice = choose_from_posterior(posterior, 4, 3, np.random.default_rng(0))
    assert choice.positions[0] in (1, 3)
    assert choice.gains[0] == pytest.approx(1.0, rel=0.5)
    assert choice.gains[1] < 0.5 * choice.gains[0]


def test_no_candidate_is_taken_twice_and_the_seed_decides() -> None:
    P, Y = world(0)
    known = Runs(P[:12], Y[:12])
    law = PowerLinkLaw().fit(known)
    chosen = choose_next(law, known, mean_cost, P[12:60], 48, np.random.default_rng(1)).positions
    assert sorted(chosen.tolist()) == list(range(48))
    again = choose_next(law, known, mean_cost, P[12:60], 48, np.random.default_rng(1)).positions
    np.testing.assert_array_equal(chosen, again)


def test_a_better_choice_than_from_as_many_random_runs() -> None:
    regret: dict[str, list[float]] = {"random": [], "adaptive": []}
    for seed in range(6):
        P, Y = world(seed, n_runs=150)
        truth = mean_cost(Y)
        rng = np.random.default_rng(seed)
        done = [int(k) for k in rng.choice(len(P), 8, replace=False)]
        for _ in range(3):
            known = Runs(P[done], Y[done])
            law = PowerLinkLaw().fit(known)
            rest = np.setdiff1d(np.arange(len(P)), done)
            done += [int(rest[k]) for k in choose_next(law, known, mean_cost, P[rest], 4, rng).positions]
        random = [int(k) for k in np.random.default_rng(100 + seed).choice(len(P), 20, replace=False)]
        for name, runs in (("adaptive", done), ("random", random)):
            regret[name].append(float(truth[runs].min() - truth.min()))
    assert np.mean(regret["adaptive"]) < 0.5 * np.mean(regret["random"])


def test_pool_is_feasible_and_spread() -> None:
    domains = DomainSet([f"d{j}" for j in range(10)])
    prior = Mixture.uniform(domains)
    bounds = Constraints(caps=dict.fromkeys(domains.names, 0.3), floors={"d1": 0.05}).bounds(domains, 1)
    optimum = Mixture(domains, bounds.clip(np.array([9.0, 5, 5, 1, 1, 1, 1, 1, 1, 1]) / 26))
    rng = np.random.default_rng(0)
    for optima in ([], [optimum]):
        pool = np.array([x.weights for x in candidate_pool(prior, optima, rng, AdaptiveOptions(), SwarmRules(bounds))])
        assert bounds.hold(pool, 1e-6).all()
        assert 550 <= len(pool) <= 610
    near = np.abs(pool - optimum.weights).sum(axis=1) / 2
    assert (near < 0.3).mean() > 0.1
    assert (near > 0.5).mean() > 0.1


def test_sixty_four_domains_and_fifty_metrics_take_seconds() -> None:
    rng = np.random.default_rng(0)
    domains = DomainSet([f"d{j}" for j in range(64)])
    prior = Mixture.uniform(domains)
    P = np.array([rng.dirichlet(np.full(64, 0.2)) for _ in range(70)])
    Y = 1 + (0.1 + P @ rng.gamma(0.5, 1, (64, 50))) ** -0.5
    law = PowerLinkLaw().fit(Runs.of(P, Y))
    start = time.process_time()
    pool = candidate_pool(prior, [prior], rng)
    chosen = adaptive_design(law, Runs(P, Y), mean_cost, pool, 16, rng)
    assert time.process_time() - start < 20
    assert len(set(chosen)) == 16


def test_wrong_requests_are_refused() -> None:
    P, Y = world(0)
    known = Runs(P[:12], Y[:12])
    law = PowerLinkLaw().fit(known)
    with pytest.raises(MixtureError, match="must be as many"):
        choose_next(law, known, mean_cost, P[:3], 4, np.random.default_rng(0))
    with pytest.raises(ObservationError, match="weights, as the runs"):
        choose_next(law, known, mean_cost, P[:, :4], 2, np.random.default_rng(0))
