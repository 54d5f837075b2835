"""The KL path and its choice: monotone in what it must be, and near the truth where the truth is planted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.observations.runs import Runs
from evermix.solvers.kl_path import DEFAULT_KL, KL_GRID, choose_kl, halves, kl_path, scaled_kl_weight
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

from .planted import domain_set, objective, planted_law, simplex


def planted_problem(m: int = 6, n: int = 4) -> MixtureProblem:
    rng = np.random.default_rng(0)
    law, prior = planted_law("power-link", m, n, rng), Mixture.normalised(domain_set(m), rng.uniform(0.2, 1, m))
    return MixtureProblem(law, objective(n, "metric", rng), simplex(m), prior, 0.0)


def test_along_the_path_kl_falls_and_the_objective_rises() -> None:
    problem = planted_problem()
    path = kl_path(problem)
    assert [point.kl for point in path] == list(KL_GRID)
    objectives = [point.proposal.objective_value for point in path]
    distances = [point.proposal.kl_nats for point in path]
    assert np.all(np.diff(objectives) >= -1e-6)
    assert np.all(np.diff(distances) <= 1e-6)
    assert 1 <= path[0].n_effective <= path[-1].n_effective <= 6
    unit = scaled_kl_weight(problem.law, problem.objective, problem.prior, np.random.default_rng(0), 1.0)
    alone = solve(replace(problem, kl_weight=0.3 * unit))
    point = path[KL_GRID.index(0.3)]
    assert point.proposal.kl_weight == pytest.approx(0.3 * unit)
    np.testing.assert_allclose(point.proposal.mixture.weights, alone.mixture.weights, atol=1e-5)


def runs_of(problem: MixtureProblem, n_runs: int, noise: float) -> Runs:
    rng = np.random.default_rng(1)
    P = rng.dirichlet(np.full(len(problem.prior.domains), 1.5), n_runs)
    Y = problem.law.predict(P)
    return Runs(P, Y + noise * Y.std(axis=0) * rng.standard_normal(Y.shape))


def test_noise_asks_for_more_kl() -> None:
    problem = planted_problem()
    chosen = []
    for noise in (0.01, 1.5):
        runs = runs_of(problem, 24, noise)
        law = PowerLinkLaw().fit(runs)
        choice = choose_kl(replace(problem, law=law), runs, (0.0, 0.03, 0.3, 1.0, 3.0), n_repeats=3)
        assert choice.n_judgements == 6
        chosen.append(choice.kl)
    assert chosen[0] < chosen[1]


def test_power_link_can_choose_at_one_more_run_than_domains_and_an_unridged_log_linear_says_why_not() -> None:
    problem = planted_problem()
    runs = runs_of(problem, 7, 0.1)
    fitted = PowerLinkLaw().fit(runs)
    choice = choose_kl(replace(problem, law=fitted), runs, (0.0, 0.1, 1.0), n_repeats=3)
    assert choice.n_judgements == 6
    law = LogLinearLaw(ridge=0.0).fit(runs)
    refused = choose_kl(replace(problem, law=law), runs, (0.0, 0.1, 1.0), n_repeats=3)
    assert refused.kl == DEFAULT_KL
    assert "cannot be cross-fitted on halves of 7 runs" in refused.reason
    assert refused.as_dict["scores"] == []


def test_replicates_stay_in_one_half() -> None:
    labels = np.array([0, 0, 1, 2, 2, 3, 4, 5])
    runs = Runs(np.full((8, 2), 0.5), np.arange(1.0, 9.0)[:, None])
    for seed in range(10):
        parts = halves(runs, labels, np.random.default_rng(seed))
        first, second = (np.array(part.values[:, 0] - 1, dtype=int) for part in parts)
        assert not set(labels[first]) & set(labels[second])
        assert len(first) + len(second) == 8
