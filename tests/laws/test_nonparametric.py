"""Laws without a formula: nearest foretells no better than the best run; LightGBM behind the law's contract."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from evermix.errors import ObservationError
from evermix.laws.nonparametric import BoostedTreesLaw, NearestLaw
from evermix.observations.runs import Runs


def runs(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.dirichlet(np.full(4, 0.5), 15), rng.uniform(1, 3, (15, 2))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_mixture_beats_the_best_observed_run(seed: int) -> None:
    P, Y = runs(seed)
    law = NearestLaw().fit(Runs.of(P, Y))
    everywhere = law.predict(np.random.default_rng(seed + 1).dirichlet(np.full(4, 0.3), 300)).mean(axis=1)
    assert everywhere.min() >= Y.mean(axis=1).min() - 1e-9


def test_an_observed_mixture_is_predicted_as_observed_and_replicates_by_their_mean() -> None:
    P, Y = runs(0)
    twice = np.vstack([P, P[:1]])
    values = np.vstack([Y, Y[:1] + 0.4])
    law = NearestLaw().fit(Runs.of(twice, values))
    np.testing.assert_allclose(law.predict(P[1:]), Y[1:], atol=1e-6)
    np.testing.assert_allclose(law.predict(P[0]), Y[0] + 0.2, atol=1e-6)


def test_power_must_be_positive() -> None:
    with pytest.raises(ObservationError, match="power of the nearest law must be > 0"):
        NearestLaw(power=0.0).fit(Runs.of(*runs(0)))


def world(k: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(5, 0.7), k)
    return P, 2 + (P**0.7 @ np.exp(rng.normal(0, 1, (2, 5))).T) ** -0.5


def test_learns_from_many_runs_and_is_constant_with_few() -> None:
    pytest.importorskip("lightgbm")
    P, Y = world(700)
    law = BoostedTreesLaw(n_rounds=400).fit(Runs.of(P[:400], Y[:400]))
    assert spearmanr(law.predict(P[400:])[:, 0], Y[400:, 0]).statistic > 0.9
    few = BoostedTreesLaw(n_rounds=50).fit(Runs.of(P[:30], Y[:30])).predict(P)
    np.testing.assert_allclose(few, Y[:30].mean(axis=0) * np.ones_like(few), rtol=1e-4)


def test_equals_lightgbm_with_regmix_settings() -> None:
    lightgbm = pytest.importorskip("lightgbm")
    P, Y = world(150)
    settings = {"objective": "regression", "learning_rate": 0.01, "verbosity": -1, "num_threads": 1, "seed": 42}
    theirs = lightgbm.train(settings, lightgbm.Dataset(P, Y[:, 0]), 1000).predict(P)
    np.testing.assert_allclose(BoostedTreesLaw().fit(Runs.of(P, Y[:, :1])).predict(P)[:, 0], theirs, atol=1e-6)


def test_without_lightgbm_the_way_out_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "lightgbm":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ObservationError, match=r"pip install -e '\.\[regress\]'"):
        BoostedTreesLaw().fit(Runs.of(*world(50)))
