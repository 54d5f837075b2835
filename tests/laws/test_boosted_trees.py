"""LightGBM behind the law's contract."""

from __future__ import annotations

import builtins
from typing import Any

import numpy as np
import pytest
from scipy.stats import spearmanr

from evermix.errors import ObservationError
from evermix.laws.boosted_trees import BoostedTreesLaw
from evermix.observations.runs import Runs


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
    with pytest.raises(ObservationError, match=r"pip install 'evermix\[regress\]'"):
        BoostedTreesLaw().fit(Runs.of(*world(50)))
