"""Diagnosis of reuse on worlds whose law is known: predicted losses against true ones, and what is recomputed."""

from __future__ import annotations

import json

import cvxpy as cp
import numpy as np
import pytest

from evermix.deciding.fitting import FittedLaw, fit
from evermix.domain_updates import CollapsedSpace
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, DomainError
from evermix.mixture import Mixture
from evermix.observations import Observations
from evermix.recipe.decision import ConstraintRecipe, StudyRecipe
from evermix.study.partial_reuse import DiagnosisOptions, diagnose, interval_of_worth, tangent_coefficients

OLD = ("web", "code", "books", "law")
LEAVES = DomainSet([Domain(name, 10**9) for name in (*OLD, "python")])
WITH_GHOST = DomainSet([Domain("pdf (until 1)"), *LEAVES])
METRICS = ("reading", "facts", "cases", "programs", "syntax")
COUPLED = np.array(  # code helps programs, python does it better
    [[3, 0, 3, 0, 0], [3, 0, 0, 2, 0], [0, 0, 2, 4, 0], [0, 2, 0, 0, 5], [0, 2, 0, 0, 5]], dtype=float
)
UNCOUPLED = COUPLED * [[1, 0, 1, 1, 1]] + [[0, 3, 0, 0, 0], [0, 3, 0, 0, 0], [0] * 5, [0] * 5, [0] * 5]
FIXED = {"web": 0.3, "code": 0.3, "books": 0.2, "law": 0.2}
RECIPE = StudyRecipe(law="log-linear", prior=dict.fromkeys(LEAVES.names, 0.2), kl=0.05)


def evidence(B: np.ndarray, noise: float = 0.002, seed: int = 0, recipe: StudyRecipe = RECIPE) -> FittedLaw:
    """18 runs without python, 9 that keep the fixed proportions."""
    rng = np.random.default_rng(seed)
    old = np.column_stack([rng.dirichlet(np.ones(4), 18), np.zeros(18)])
    P = np.vstack([old, CollapsedSpace.fix(LEAVES, FIXED).expand(rng.dirichlet(np.ones(2), 9))])
    Y = 1 + 0.5 * np.exp(-P @ B.T) + rng.normal(0, noise, (len(P), len(METRICS)))
    return fit(Observations(LEAVES, P, METRICS, Y), recipe)


def space(**shares: float) -> CollapsedSpace:
    return CollapsedSpace.fix(LEAVES, shares or FIXED)


def test_a_domain_that_shares_metrics_with_the_new_one_is_released() -> None:
    found = diagnose(evidence(COUPLED), space())
    assert found.recompute[0].domain == "code"
    assert found.advice.startswith("recompute code")
    assert found.candidates[0].domain == "code"
    assert found.candidates[0].low > 0
    assert found.recompute[0].runs == 3
    assert found.runs_saved == 12
    assert max(found.coupling, key=lambda name: found.coupling[name]) == "code"
    assert found.remaining_loss.value <= 0.02 * found.gain < found.predicted_loss.value
    json.dumps(found.as_dict, allow_nan=False)


def test_without_noise_the_predicted_loss_is_the_true_one() -> None:
    """Against cvxpy on the true law: all free, and with the bundle's proportions as constraints."""
    fitted = evidence(COUPLED, noise=1e-7)
    found = diagnose(fitted, space(), options=DiagnosisOptions(kl_weight=0.002))
    p = cp.Variable(5, nonneg=True)
    value = 0.5 * cp.sum(cp.exp(-COUPLED @ p)) / 5 + 0.002 * cp.sum(cp.kl_div(p, np.full(5, 0.2)))
    free = cp.Problem(cp.Minimize(value), [cp.sum(p) == 1]).solve(solver="CLARABEL")
    ptilde = np.array([*FIXED.values()])
    kept = [cp.sum(p) == 1, p[:4] == cp.sum(p[:4]) * ptilde]
    fixed_ratio = cp.Problem(cp.Minimize(value), kept).solve(solver="CLARABEL")
    assert found.predicted_loss.value == pytest.approx(fixed_ratio - free, rel=1e-3)
    assert found.predicted_loss.low <= found.predicted_loss.value <= found.predicted_loss.high


def optimal_proportions(B: np.ndarray) -> dict[str, float]:
    """The best mixture of the old domains, by cvxpy."""
    p = cp.Variable(4, nonneg=True)
    value = 0.5 * cp.sum(cp.exp(-B[:, :4] @ p)) / 5 + 0.001 * cp.sum(cp.kl_div(p, np.full(4, 0.25)))
    cp.Problem(cp.Minimize(value), [cp.sum(p) == 1]).solve(solver="CLARABEL")
    return dict(zip(OLD, np.asarray(p.value).tolist(), strict=True))


def test_where_nothing_is_shared_full_reuse_is_safe() -> None:
    found = diagnose(evidence(UNCOUPLED), space(**optimal_proportions(UNCOUPLED)))
    assert found.recompute == ()
    assert found.advice == "full reuse is safe"
    assert found.predicted_loss.value < 0.02 * found.gain
    assert found.coupling["code"] < diagnose(evidence(COUPLED), space()).coupling["code"]
    assert 0 < found.one_minus_rho < 1
    assert 0 <= found.reuse_gap <= 0.1


def test_retired_domains_tell_something_but_hold_nothing() -> None:
    fitted = evidence(COUPLED)
    runs = fitted.observations
    rng = np.random.default_rng(1)
    P = np.vstack(
        [
            np.column_stack([np.zeros(runs.n_runs), runs.weights]),
            np.column_stack([rng.dirichlet(np.ones(5), 8), np.zeros(8)]),
        ]
    )
    extra = 1 + 0.5 * np.exp(-P[-8:] @ np.column_stack([np.full(5, 4.0), COUPLED]).T)
    ghosted = Observations(WITH_GHOST, P, METRICS, np.vstack([runs.values, extra]))
    recipe = RECIPE.model_copy(update={"prior": "swarm"})
    options = DiagnosisOptions(prior=Mixture.uniform(LEAVES))
    found = diagnose(fit(ghosted, recipe), space(), options=options)
    assert found.recompute[0].domain == "code"
    plain = diagnose(fitted, space())
    assert found.predicted_loss.value == pytest.approx(plain.predicted_loss.value, rel=0.15)
    assert set(found.coupling) == set(OLD)


def test_caps_count_in_every_space() -> None:
    """Python may take 5% only, so there is little to displace code."""
    constraints = ConstraintRecipe(caps={"python": 0.05})
    capped = diagnose(evidence(COUPLED), space(), RECIPE.model_copy(update={"constraints": constraints}))
    assert capped.one_minus_rho <= 0.05 + 1e-6
    constraints = ConstraintRecipe(floors={"web": 0.6}, caps={"code": 0.1})
    with pytest.raises(ConstraintError, match=r"'web'.*'code'"):
        diagnose(evidence(COUPLED), space(), RECIPE.model_copy(update={"constraints": constraints}))


def test_a_law_that_predicts_nothing_advises_nothing() -> None:
    recipe = RECIPE.model_copy(update={"law": "power-link"})
    fitted = evidence(COUPLED, noise=0.3, seed=3, recipe=recipe)
    found = diagnose(fitted, space())
    assert fitted.calibration.objective.spearman <= 0
    assert found.recompute == ()
    assert "cannot tell" in found.advice


def test_laws_of_other_kinds_are_judged_too() -> None:
    recipe = RECIPE.model_copy(update={"law": "power-link"})
    assert "code" in [each.domain for each in diagnose(evidence(COUPLED, recipe=recipe), space()).recompute]
    fitted = evidence(COUPLED, recipe=recipe)
    at = np.full(5, 0.2)
    slopes = tangent_coefficients(fitted.law, at, fitted)
    np.testing.assert_allclose(
        slopes[:, 0] / slopes[:, 3], fitted.law.gradient(at)[:, 0] / fitted.law.gradient(at)[:, 3]
    )


def test_a_bundle_of_one_has_nothing_to_release() -> None:
    found = diagnose(evidence(COUPLED), space(web=1.0, books=0.0))
    assert [each.domain for each in found.candidates] == ["books"]


def test_a_leaf_that_the_evidence_does_not_know_is_named() -> None:
    wider = DomainSet([*LEAVES, Domain("maths", 1)])
    with pytest.raises(DomainError, match="got 'maths'"):
        diagnose(evidence(COUPLED), CollapsedSpace.fix(wider, FIXED))


def test_intervals_of_worth() -> None:
    draws = np.random.default_rng(0).normal(2.0, 0.5, 4000)
    found = interval_of_worth(2.0, draws, 0.8)
    assert found.value == pytest.approx(2.0 - 0.25 / 8, abs=0.01)
    assert (found.low, found.high) == pytest.approx((2 - 1.2816 * 0.5, 2 + 1.2816 * 0.5), abs=0.03)
    assert interval_of_worth(0.3, draws, 0.8).low == 0
    assert interval_of_worth(-1e-12, draws, 0.8).value == 0
    assert interval_of_worth(1.0, np.array([np.nan, 1.0]), 0.8).high == float("inf")


@pytest.mark.parametrize("wrong", [{"level": 1.0}, {"tolerance": -0.1}, {"resamples": 1}, {"runs_per_component": 0}])
def test_senseless_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConstraintError, match="must be"):
        DiagnosisOptions(**wrong)  # type: ignore[arg-type]
