"""Mixtures that cost nothing to choose, against scipy's optimum."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from evermix.lifecycle.arms.mixtures import Uniform, Weights
from tests.lifecycle.arms.conftest import opened

Make = Callable[..., dict[str, Any]]
WEIGHTS = {"code": 0.7, "prose": 0.2, "noise": 0.1}


@pytest.mark.parametrize("quantity", ["perplexity", "loss_nats", "bits_per_byte"])
def test_by_weights_is_the_best_where_all_domains_answer_alike(
    tiny_recipe: Make, tmp_path: Path, quantity: str
) -> None:
    context = opened(tiny_recipe(tmp_path, objective={"quantity": quantity, "weights": WEIGHTS}))
    ((phase,),) = context.orders
    found, v = Weights().mixture(context, phase), np.array([WEIGHTS[name] for name in phase.domains])

    def mean(z: np.ndarray) -> float:
        logs = z - np.log(np.exp(z).sum())
        terms = np.exp(-0.3 * logs) if quantity == "perplexity" else -logs
        return float(v @ terms)

    best = minimize(mean, np.zeros(3), method="BFGS", options={"gtol": 1e-9}).x
    assert found.weights == pytest.approx(np.exp(best) / np.exp(best).sum(), abs=1e-5)


def test_what_does_not_count_keeps_a_little_and_what_counts_alike_is_uniform(tiny_recipe: Make, tmp_path: Path) -> None:
    context = opened(tiny_recipe(tmp_path / "some", objective={"weights": {"code": 1.0, "prose": 1.0}}))
    ((phase,),) = context.orders
    assert Weights().mixture(context, phase).as_dict == pytest.approx(
        {"code": 15 / 31, "prose": 15 / 31, "noise": 1 / 31}
    )
    context = opened(tiny_recipe(tmp_path / "all"))
    ((phase,),) = context.orders
    assert Weights().mixture(context, phase).weights == pytest.approx(Uniform().mixture(context, phase).weights)
