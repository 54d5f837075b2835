"""The convex solver against random search, closed forms and SLSQP."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from evermix.constraints import Bounds, Constraints
from evermix.errors import ConstraintError
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.objective import Objective, Quantity
from evermix.solvers.convex import _refined
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.solve import solve

from .planted import domain_set, objective, planted_law, simplex, total

QUANTITIES: list[Quantity] = ["loss_nats", "bits_per_byte", "perplexity"]
cases = {
    "seed": st.integers(0, 10_000),
    "kind": st.sampled_from(["power-link", "log-linear"]),
    "quantity": st.sampled_from(QUANTITIES),
    "kl_weight": st.sampled_from([0.0, 1e-3, 0.05, 1.0]),
}


def random_box(m: int, rng: np.random.Generator) -> Bounds:
    upper = np.maximum(rng.uniform(0.1, 1, m), 1.2 / m)
    return Bounds(rng.uniform(0, 0.5 / m, m), upper, ("cap",) * m)


@settings(max_examples=30, deadline=None)
@given(**cases)
def test_never_beaten_by_ten_thousand_feasible_mixtures(
    seed: int, kind: str, quantity: Quantity, kl_weight: float
) -> None:
    rng = np.random.default_rng(seed)
    m, n = int(rng.integers(2, 7)), int(rng.integers(1, 5))
    law, goal, box = planted_law(kind, m, n, rng), objective(n, quantity, rng), random_box(m, rng)
    prior = Mixture.normalised(domain_set(m), rng.uniform(0.1, 1, m))
    proposal = solve(MixtureProblem(law, goal, box, prior, kl_weight))
    p = proposal.mixture.weights
    assert np.all(p >= box.lower - 1e-9)
    assert np.all(p <= box.upper + 1e-9)
    around = np.clip(p * np.exp(rng.normal(0, 0.1, (5000, m))), box.lower, box.upper)
    around /= around.sum(axis=1, keepdims=True)
    rivals = np.vstack([rng.dirichlet(np.ones(m), 5000), around])
    shares = rng.uniform(0, 1, (len(rivals), 1))
    rivals = np.vstack([rivals, p + shares * (rivals - p)])
    rivals = rivals[np.all((rivals >= box.lower) & (rivals <= box.upper), axis=1)]
    best = float(total(law, goal, prior, kl_weight, p))
    assert best == pytest.approx(proposal.objective_value + kl_weight * proposal.kl_nats)
    assert proposal.gap is not None
    assert proposal.gap <= 1e-3 * abs(best)
    assert len(rivals) == 0 or total(law, goal, prior, kl_weight, rivals).min() >= best - 1e-6 * abs(best)


def test_separable_power_law_has_a_closed_form() -> None:
    """min sum_j c_j p_j^-a on the simplex: p_j ~ c_j^(1 / (1 + a))."""
    m, a, c = 4, 0.5, np.array([1.0, 2.0, 4.0, 8.0])
    law = PowerLinkLaw(g=1.0)
    law.b_, law.c_, law.a_, law.tau_ = np.zeros(m), c, np.full(m, a), np.eye(m)
    law.n_domains_ = law.n_metrics_ = m
    proposal = solve(MixtureProblem(law, Objective.from_dict("abcd"), simplex(m), Mixture.uniform(domain_set(m)), 0.0))
    expected = c ** (1 / (1 + a))
    np.testing.assert_allclose(proposal.mixture.weights, expected / expected.sum(), atol=1e-5)


def test_linear_objective_with_kl_has_a_closed_form() -> None:
    """log-linear law with tiny slopes e^(t p) ~ 1 + t p: p_j ~ p0_j exp(-t_j / lambda)."""
    m, kl_weight = 3, 1e-3
    law = LogLinearLaw()
    law.c_, law.t_ = np.zeros(1), np.array([[1e-3, -2e-3, 0.0]])
    law.n_domains_, law.n_metrics_ = m, 1
    prior = Mixture(domain_set(m), [0.5, 0.2, 0.3])
    proposal = solve(MixtureProblem(law, Objective.from_dict(["a"]), simplex(m), prior, kl_weight))
    expected = prior.weights * np.exp(-law.t_[0] / kl_weight)
    np.testing.assert_allclose(proposal.mixture.weights, expected / expected.sum(), atol=1e-3)


@pytest.mark.parametrize("quantity", QUANTITIES)
@pytest.mark.parametrize("kind", ["power-link", "log-linear"])
def test_agrees_with_slsqp(kind: str, quantity: Quantity) -> None:
    rng = np.random.default_rng(7)
    m, n, kl_weight = 6, 4, 0.02
    law, goal, box = planted_law(kind, m, n, rng), objective(n, quantity, rng), random_box(m, rng)
    prior = Mixture.normalised(domain_set(m), rng.uniform(0.1, 1, m))
    proposal = solve(MixtureProblem(law, goal, box, prior, kl_weight))
    other = minimize(
        lambda p: float(total(law, goal, prior, kl_weight, np.maximum(p, 1e-12))),
        box.clip(prior.weights),
        method="SLSQP",
        bounds=list(zip(box.lower, box.upper, strict=True)),
        constraints={"type": "eq", "fun": lambda p: p.sum() - 1},
        options={"ftol": 1e-12, "maxiter": 500},
    )
    np.testing.assert_allclose(proposal.mixture.weights, other.x, atol=2e-3)
    assert proposal.objective_value + kl_weight * proposal.kl_nats <= other.fun + 1e-7


@pytest.mark.parametrize("kind", ["power-link", "log-linear"])
def test_permuting_the_domains_permutes_the_answer(kind: str) -> None:
    m, n, order = 5, 3, np.array([4, 2, 0, 1, 3])
    law = planted_law(kind, m, n, np.random.default_rng(1))
    turned = planted_law(kind, m, n, np.random.default_rng(1))
    for name in {"tau_", "t_"} & set(vars(turned)):
        setattr(turned, name, getattr(turned, name)[:, order])
    goal = objective(n, "perplexity", np.random.default_rng(2))
    shares = np.random.default_rng(3).dirichlet(np.ones(m))
    lower = np.array([0.1, 0, 0, 0.02, 0.05])
    answers = [
        solve(
            MixtureProblem(each, goal, Bounds(low, np.full(m, 0.6), ("cap",) * m), Mixture(domain_set(m), prior), 0.01)
        )
        for each, low, prior in ((law, lower, shares), (turned, lower[order], shares[order]))
    ]
    np.testing.assert_allclose(answers[1].mixture.weights, answers[0].mixture.weights[order], atol=1e-4)


def test_a_great_kl_weight_returns_the_prior() -> None:
    rng = np.random.default_rng(0)
    prior = Mixture.normalised(domain_set(5), rng.uniform(0.1, 1, 5))
    proposal = solve(
        MixtureProblem(planted_law("power-link", 5, 3, rng), objective(3, "loss_nats", rng), simplex(5), prior, 1e4)
    )
    np.testing.assert_allclose(proposal.mixture.weights, prior.weights, atol=1e-4)
    assert proposal.kl_nats < 1e-6


def test_binding_bounds_are_named_with_their_reason() -> None:
    law = planted_law("log-linear", 4, 1, np.random.default_rng(0))
    assert isinstance(law, LogLinearLaw)
    law.t_ = np.array([[-3.0, -2.0, 0.0, 2.0]])
    rules = Constraints(max_epochs=2, floor=0.05, caps={"d1": 0.3}, fixed={"d2": 0.1})
    box = rules.bounds(domain_set(4), 4000)
    proposal = solve(MixtureProblem(law, Objective.from_dict(["a"]), box, Mixture.uniform(domain_set(4)), 0.0))
    np.testing.assert_allclose(proposal.mixture.weights, [0.5, 0.3, 0.1, 0.1], atol=1e-6)
    assert proposal.binding == ("d0: upper (epochs)", "d1: upper (cap)", "d2: fixed")
    loose = solve(MixtureProblem(law, Objective.from_dict(["a"]), simplex(4), Mixture.uniform(domain_set(4)), 10.0))
    assert loose.binding == ()


def test_a_dead_domain_of_the_prior_stays_at_zero_only_under_kl() -> None:
    law = planted_law("log-linear", 3, 1, np.random.default_rng(0))
    assert isinstance(law, LogLinearLaw)
    law.t_ = np.array([[-3.0, 0.0, 0.1]])
    prior, goal = Mixture(domain_set(3), [0, 0.5, 0.5]), Objective.from_dict(["a"])
    assert solve(MixtureProblem(law, goal, simplex(3), prior, 0.0)).mixture["d0"] == pytest.approx(1, abs=1e-6)
    held = solve(MixtureProblem(law, goal, simplex(3), prior, 0.01))
    assert held.mixture["d0"] == 0
    assert np.isfinite(held.kl_nats)
    floored = Bounds(np.array([0.1, 0, 0]), np.ones(3), ("",) * 3)
    with pytest.raises(ConstraintError, match="domain 'd0' has no prior mass"):
        solve(MixtureProblem(law, goal, floored, prior, 0.01))
    capped = Bounds(np.zeros(3), np.array([1, 0.3, 0.3]), ("", "cap", "cap"))
    with pytest.raises(ConstraintError, match="leave room"):
        solve(MixtureProblem(law, goal, capped, prior, 0.01))


def test_a_metric_of_weight_zero_does_not_count() -> None:
    rng = np.random.default_rng(0)
    law = planted_law("power-link", 4, 2, rng)
    assert isinstance(law, PowerLinkLaw)
    prior = Mixture.uniform(domain_set(4))
    goal = Objective.from_dict(["a", "b"], {"a": 1.0})
    before = solve(MixtureProblem(law, goal, simplex(4), prior, 0.01))
    law.c_[1] = 1e6
    assert solve(MixtureProblem(law, goal, simplex(4), prior, 0.01)).mixture == before.mixture


def test_a_nonsense_kl_weight_or_law_is_refused() -> None:
    rng = np.random.default_rng(0)
    law, goal = planted_law("power-link", 3, 1, rng), Objective.from_dict(["a"])
    for weight in (-1.0, float("nan")):
        with pytest.raises(ConstraintError, match="KL weight"):
            solve(MixtureProblem(law, goal, simplex(3), Mixture.uniform(domain_set(3)), weight))
    assert isinstance(law, PowerLinkLaw)
    law.g = 1.5
    with pytest.raises(ConstraintError, match="convex law"):
        solve(MixtureProblem(law, goal, simplex(3), Mixture.uniform(domain_set(3)), 0.1), "clarabel")


@pytest.mark.parametrize("kl_weight", [0.0, 0.01])
@pytest.mark.parametrize("kind", ["power-link", "log-linear"])
def test_an_inaccurate_answer_is_refined_until_certified(kind: str, kl_weight: float) -> None:
    rng = np.random.default_rng(3)
    law, goal = planted_law(kind, 4, 3, rng), objective(3, "loss_nats", rng)
    box, prior = Bounds(np.full(4, 0.02), np.full(4, 0.6), ("cap",) * 4), Mixture.uniform(domain_set(4))
    exact = solve(MixtureProblem(law, goal, box, prior, kl_weight))
    programme = MixtureProblem(law, goal, box, prior, kl_weight)
    weights, status = _refined(programme, exact.mixture.weights)
    assert status == "optimal, by certificate"
    weights, status = _refined(programme, prior.weights)
    assert status == "optimal, refined and certified"
    np.testing.assert_allclose(weights, exact.mixture.weights, atol=5e-3)


def test_the_gap_bounds_the_distance_to_the_optimum() -> None:
    rng = np.random.default_rng(5)
    law, goal, prior = (
        planted_law("power-link", 5, 3, rng),
        objective(3, "loss_nats", rng),
        Mixture.uniform(domain_set(5)),
    )
    box = random_box(5, rng)
    for kl_weight in (0.0, 0.02):
        best = solve(MixtureProblem(law, goal, box, prior, kl_weight))
        optimum = best.objective_value + kl_weight * best.kl_nats
        programme = MixtureProblem(law, goal, box, prior, kl_weight)
        for x in map(box.clip, rng.dirichlet(np.ones(5), 20)):
            assert programme.gap(x) >= float(total(law, goal, prior, kl_weight, x)) - optimum - 1e-6


def test_a_proposal_is_plain_json() -> None:
    rng = np.random.default_rng(0)
    law, goal = planted_law("power-link", 3, 2, rng), objective(2, "loss_nats", rng)
    record = solve(MixtureProblem(law, goal, simplex(3), Mixture.uniform(domain_set(3)), 0.1)).as_dict
    assert json.loads(json.dumps(record)) == record
    assert (record["status"], record["solver"]) == ("optimal", "newton")


def test_importing_laws_and_solvers_loads_neither_cvxpy_nor_torch() -> None:
    script = "import sys, evermix.laws, evermix.solvers; print({'cvxpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
