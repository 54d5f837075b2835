from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from evermix.constraints import Bounds
from evermix.domains import Domain, DomainSet
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.solvers.solve import solve
from evermix.trust import (
    Assessment,
    AssessmentOptions,
    BootstrapOptions,
    ProposalFacts,
    ProposalWarning,
    Request,
    assess,
    bootstrap,
    calibrate,
    compare,
    find_warnings,
)
from tests.trust.swarms import LinearLaw, World, linear_law, world

# the mean prefers d0 mildly, and every metric agrees
AGREED = np.array([[2.0, 2.4, 2.6, 2.5], [3.0, 3.3, 3.6, 3.4]])


def assessed(w: World, kl_weight: float = 0.15, request: Request | None = None, **changes: Any) -> Assessment:
    problem = w.problem(LinearLaw().fit(Runs.of(w.observations.weights, w.observations.costs)), kl_weight, **changes)
    options = AssessmentOptions(BootstrapOptions(20))
    return assess(problem, solve(problem), w.observations, request or Request(), options)


def planted(t: np.ndarray = AGREED, n_runs: int = 60, noise: float = 0.02, seed: int = 0) -> World:
    return world(linear_law(t), n_runs, noise, np.random.default_rng(seed))


def with_weights(w: World, P: np.ndarray, noise: float = 0.02) -> World:
    """The same truth, measured at other mixtures."""
    values = w.truth.predict(P) + noise * np.random.default_rng(1).standard_normal((len(P), w.truth.n_metrics_))
    o = w.observations
    return replace(w, observations=Observations(o.domains, P, o.metrics, values))


def of(assessment: Assessment, kind: str) -> list[ProposalWarning]:
    return [warning for warning in assessment.warnings if warning.kind == kind]


@pytest.mark.parametrize("seed", range(4))
def test_a_healthy_swarm_raises_nothing(seed: int) -> None:
    assessment = assessed(planted(seed=seed), 0.25, request=Request(n_tokens=5000))
    assert [str(warning) for warning in assessment.warnings] == []
    json.dumps(assessment.as_dict, allow_nan=False)


def test_pure_noise_gains_nothing() -> None:
    assessment = assessed(planted(np.full((2, 4), 3.0), noise=0.1))
    kinds = {warning.kind for warning in assessment.warnings}
    assert {"gain below noise", "poor law"} <= kinds
    assert "may be nothing" in of(assessment, "gain below noise")[0].message


def test_a_proposal_equal_to_the_reference_says_so() -> None:
    w = planted()
    natural = Mixture.natural(w.observations.domains).weights
    fixed = Bounds(natural, natural, ("fixed",) * 4)
    worse, same = of(assessed(w, bounds=fixed), "gain below noise")
    assert "worse than uniform" in worse.message  # the planted metrics like natural less than uniform
    assert worse.severity == "serious"
    assert "is the natural mixture" in same.message


def test_a_corner_is_a_vertex_and_an_extrapolation() -> None:
    assessment = assessed(planted(), kl_weight=0.005)
    assert {warning.severity for warning in of(assessment, "vertex")} == {"note", "warning"}
    messages = " ".join(warning.message for warning in of(assessment, "extrapolation"))
    assert "'d0' gets" in messages
    assert "more than any run ever had" in messages
    assert "outside what the runs span" in messages


def test_a_cap_at_zero_was_asked_for() -> None:
    bounds = Bounds(np.zeros(4), np.array([1.0, 1.0, 1.0, 0.0]), ("", "", "", "cap"))
    assert of(assessed(planted(), bounds=bounds), "vertex") == []


def test_confounded_domains_are_named() -> None:
    w = planted()
    P = w.observations.weights.copy()
    both = P[:, 0] + P[:, 1]
    P[:, 0], P[:, 1] = 0.5 * both, 0.5 * both
    (warning,) = of(assessed(with_weights(w, P)), "confounded domains")
    assert "'d0', 'd1' moved together" in warning.message


def test_too_few_runs() -> None:
    w = planted(np.vstack([AGREED, AGREED[:, ::-1]]), n_runs=12)
    values = w.observations.values.copy()
    values[3:, 0] = np.nan
    holed = replace(w, observations=replace(w.observations, values=values))
    problem = holed.problem(w.fitted(LinearLaw()), 0.5)
    whole = w.problem(problem.law, 0.5)
    calibration = calibrate(problem.law, w.observations, w.objective)
    trust = bootstrap(whole, w.observations, BootstrapOptions(5), heldout_rmse=0.1)
    proposal = solve(problem)
    comparison = compare(problem, proposal, holed.observations, Request(), trust)
    facts = ProposalFacts(problem, proposal, holed.observations, calibration, trust, comparison)
    (warning,) = [c for c in find_warnings(facts) if c.kind == "too few runs"]
    assert warning.message.startswith("3 runs for 4 parameters")


def test_a_fit_that_stopped_is_named() -> None:
    w = planted()
    law = LinearLaw().fit(Runs.of(w.observations.weights, w.observations.costs))
    law.converged_ = np.arange(law.n_metrics_) != 1
    problem = w.problem(law, 0.15)
    found = assess(problem, solve(problem), w.observations, Request(), AssessmentOptions(BootstrapOptions(20))).warnings
    assert any(f"The fit of {w.observations.metrics[1]!r} stopped before" in warning.message for warning in found)


def test_a_domain_never_sampled() -> None:
    w = planted()
    P = w.observations.weights.copy()
    P[:, 3] = 0
    P /= P.sum(axis=1, keepdims=True)
    (warning,) = of(assessed(with_weights(w, P)), "domain never sampled")
    assert "'d3'" in warning.message
    assert warning.severity == "serious"


def test_repetition_is_told_with_epochs() -> None:
    assessment = assessed(planted(), request=Request(n_tokens=50_000))
    (warning,) = of(assessment, "repetition")
    assert "'d0' would be repeated" in warning.message
    row = assessment.comparison["proposal"]
    assert row.epochs is not None
    assert warning.numbers["epochs"]["d0"] == pytest.approx(row.epochs[0])


def test_metrics_in_conflict_are_named() -> None:
    t = np.array([[2.0, 3.0, 3.5, 3.2], [2.0, 2.8, 3.1, 3.3], [3.4, 3.2, 3.0, 3.1]])
    (warning,) = of(assessed(planted(t)), "metrics in conflict")
    assert "'m2' by" in warning.message
    assert "m0" not in warning.message
    truth = linear_law(t)
    weights = assessed(planted(t)).comparison["proposal"].mixture.weights
    worse = truth.predict(weights)[2] - truth.predict(np.array([0.1, 0.2, 0.3, 0.4]))[2]
    assert warning.numbers["worse"]["m2"] == pytest.approx(worse, abs=0.03)


def test_the_comparison_has_every_reference_and_epochs() -> None:
    w = planted()
    named = Mixture(w.observations.domains, [0.4, 0.3, 0.2, 0.1])
    comparison = assessed(w, request=Request(n_tokens=5000, named={"current": named})).comparison
    assert [row.name for row in comparison.rows] == [
        "proposal",
        "natural",
        "uniform",
        "unimax",
        "current",
        "best run",
    ]
    assert all(row.interval is not None and row.epochs is not None for row in comparison.rows)
    natural = comparison["natural"]
    np.testing.assert_allclose(natural.epochs, 0.5)
    assert natural.kl_to_prior == 0
    assert natural.gain is not None
    assert natural.gain.interval.low > 0
    best = comparison["best run"]
    assert best.measured == pytest.approx(float(w.objective.value(w.observations.costs).min()))
    true = w.truth.predict(named.weights)
    assert comparison["current"].metric_intervals is not None
    np.testing.assert_allclose(comparison["current"].metrics, true, atol=0.03)
    assert comparison["proposal"].tv_to_proposal == 0
    assert comparison["uniform"].effective_domains == pytest.approx(4)


def test_without_token_counts_there_is_no_natural_and_no_epochs() -> None:
    w = planted()
    domains = DomainSet([Domain(d.name) for d in w.observations.domains])
    bare = replace(w, observations=replace(w.observations, domains=domains))
    prior = Mixture(domains, [0.4, 0.2, 0.2, 0.2])
    comparison = assessed(bare, request=Request(n_tokens=5000), prior=prior).comparison
    assert [row.name for row in comparison.rows] == ["proposal", "prior", "uniform", "best run"]
    assert all(row.epochs is None for row in comparison.rows)


def test_metrics_are_shown_in_their_own_direction() -> None:
    w = planted()
    o = w.observations
    up = Observations(o.domains, o.weights, o.metrics, 10 - o.values, maximised=frozenset(o.metrics))
    row = assessed(replace(w, observations=up)).comparison["proposal"]
    np.testing.assert_allclose(row.metrics, 10 - w.truth.predict(row.mixture.weights), atol=0.03)
    assert row.metric_intervals is not None
    assert (row.metric_intervals[:, 0] <= row.metric_intervals[:, 1]).all()
