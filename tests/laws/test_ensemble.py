"""Stacking and residual correction against planted worlds and a general solver."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from evermix.errors import ConstraintError, ObservationError
from evermix.laws.ensemble import EnsembleLaw, _simplex_minimum, stacking_weights
from evermix.laws.gaussian_process import GaussianProcessLaw, ResidualLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nonparametric import NearestLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs


def world(k: int = 40, wave: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    tau = np.exp(rng.normal(0, 1, (2, 4)))
    P = rng.dirichlet(np.full(4, 0.7), 400)
    Y = 2 + (P**0.7 @ tau.T) ** -0.4 + wave * np.sin(6 * P[:, :1]) + 0.01 * rng.standard_normal((400, 2))
    return P[:k], Y[:k]


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.0, 3.0))
def test_weights_solve_their_problem_on_the_simplex(seed: int, pull: float) -> None:
    rng = np.random.default_rng(seed)
    E = rng.standard_normal((12, 3)) + rng.standard_normal((12, 1))
    G, target = E.T @ E, rng.dirichlet(np.ones(3))

    def objective(v: np.ndarray) -> float:
        return float(v @ G @ v + pull * ((v - target) ** 2).sum())

    v = _simplex_minimum(G, pull, target)
    assert v.min() >= 0
    assert v.sum() == pytest.approx(1)
    sums = {"type": "eq", "fun": lambda x: x.sum() - 1}
    best = minimize(objective, np.full(3, 1 / 3), method="SLSQP", bounds=[(0, 1)] * 3, constraints=[sums])
    assert objective(v) <= best.fun * (1 + 1e-3) + 1e-3


def test_the_better_member_gets_the_weight_and_few_runs_stay_near_equal() -> None:
    rng = np.random.default_rng(1)
    good, bad = 0.1 * rng.standard_normal((500, 1)), rng.standard_normal((500, 1))
    errors = np.stack([good, bad], axis=2)
    assert stacking_weights(errors, np.array([500.0]), 1.0)[0, 0] > 0.9
    shy = stacking_weights(errors[:8], np.array([8.0]), 1e6)[0]
    np.testing.assert_allclose(shy, 0.5, atol=0.01)


def test_an_ensemble_beats_or_equals_its_members_and_averages_them() -> None:
    P, Y = world(400)
    law = EnsembleLaw([PowerLinkLaw(), NearestLaw()]).fit(Runs.of(P[:60], Y[:60]))
    error = [np.abs(m.predict(P[60:]) - Y[60:]).mean() for m in (law, *law.members_)]
    assert error[0] <= min(error[1:]) * 1.1
    parts = np.stack([m.predict(P[0]) for m in law.members_])
    np.testing.assert_allclose(law.predict(P[0]), (law.weights_.T * parts).sum(axis=0))
    assert np.allclose(law.weights_.sum(axis=1), 1)


def test_what_an_ensemble_can_do_follows_from_its_members() -> None:
    P, Y = world()
    convex = EnsembleLaw([PowerLinkLaw(), LogLinearLaw()], n_folds=3).fit(Runs.of(P, Y))
    assert convex.is_convex
    assert convex.has_gradient
    mixed = EnsembleLaw([PowerLinkLaw(), NearestLaw()], n_folds=3, shrinkage=100.0).fit(Runs.of(P, Y))
    assert not mixed.is_convex
    assert not mixed.has_gradient
    with pytest.raises(ConstraintError, match="the ensemble law has no a gradient"):
        mixed.gradient(P[0])


def test_members_that_the_runs_are_too_few_for_are_named() -> None:
    P, Y = world(5)
    law = EnsembleLaw([LogLinearLaw(ridge=0.0), PowerLinkLaw()]).fit(Runs.of(P, Y))
    assert [name for name, _ in law.left_out_] == ["log-linear"]
    assert "needs at least 5 runs" in law.left_out_[0][1]
    with pytest.raises(ObservationError, match="needs a member that the runs suffice for"):
        EnsembleLaw([LogLinearLaw(ridge=0.0)]).fit(Runs.of(P, Y))


def test_the_residual_law_finds_what_its_base_cannot_say() -> None:
    P, Y = world(400, wave=0.3)
    law = ResidualLaw(LogLinearLaw()).fit(Runs.of(P[:150], Y[:150]))
    error = [np.abs(m.predict(P[150:]) - Y[150:])[:, 0].mean() for m in (law, law.base_)]
    assert error[0] < 0.5 * error[1]
    assert not law.is_convex


def test_the_residual_law_adds_nothing_to_a_true_base() -> None:
    P, Y = world(400)
    law = ResidualLaw(PowerLinkLaw()).fit(Runs.of(P[:100], Y[:100]))
    assert np.abs(law.predict(P[100:]) - law.base_.predict(P[100:])).mean() < 0.01


def test_the_default_members_fit() -> None:
    P, Y = world(30)
    law = EnsembleLaw(n_folds=2).fit(Runs.of(P, Y))
    assert 1 <= len(law.members_) <= 5
    assert isinstance(law.members_[-1], (PowerLinkLaw, GaussianProcessLaw))
