"""The stopping rule: spread falls with runs as the scaling says, and the rule counts what is still needed."""

from __future__ import annotations

import numpy as np
import pytest

from evermix.designs import Settledness, StoppingRule, how_settled, recommended_runs
from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.laws.base import MixingLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.mixture import Mixture
from evermix.observations.runs import Runs

M = 4
DOMAINS = DomainSet([f"d{j}" for j in range(M)])
GRID = np.random.default_rng(0).dirichlet(np.ones(M), 3000)


def mean_cost(costs: np.ndarray) -> np.ndarray:
    return np.asarray(costs.mean(axis=-1))


def propose(law: MixingLaw) -> Mixture:
    """The mean of mixtures weighted by exp(-cost / 0.03): near the optimum, and smooth in the law."""
    cost = mean_cost(law.predict(GRID))
    return Mixture.normalised(DOMAINS, np.exp((cost.min() - cost) / 0.03) @ GRID)


def settled(n_runs: int, noise: float, seed: int = 0) -> Settledness:
    rng = np.random.default_rng(seed)
    P = rng.dirichlet(np.ones(M), n_runs)
    tau = np.array([[2.0, 0.3, 0.5, 0.1], [0.2, 1.5, 0.4, 0.1]]).T
    Y = 1 + (0.05 + P**0.7 @ tau) ** -0.5 + noise * rng.standard_normal((n_runs, 2))
    runs = Runs(P, Y)
    return how_settled(PowerLinkLaw().fit(runs), runs, mean_cost, propose, rng, 20)


def test_more_runs_and_less_noise_settle_the_mixture() -> None:
    few, many, quiet = settled(20, 0.1), settled(400, 0.1), settled(20, 0.005)
    assert many.total_variation.mean() < 0.6 * few.total_variation.mean()
    assert quiet.total_variation.mean() < 0.6 * few.total_variation.mean()
    assert (few.regret >= 0).all()
    assert (few.total_variation <= 1).all()


def test_scaling() -> None:
    found = Settledness(100, np.full(10, 0.2), np.full(10, 0.01))
    assert found.change() == pytest.approx(0.2)
    assert found.change(300) == pytest.approx(0.2 * np.sqrt(0.75))
    assert found.gain(100) == pytest.approx(0.005)
    assert found.runs_until(StoppingRule(total_variation=0.1)) == 300
    assert found.runs_until(StoppingRule(total_variation=None, gain=0.005)) == 100
    assert StoppingRule(total_variation=0.2).met(found)
    assert not StoppingRule(total_variation=0.2, gain=0.001).met(found)


def test_rules_that_rule_nothing_are_refused() -> None:
    with pytest.raises(ObservationError, match="total variation or a gain"):
        StoppingRule(total_variation=None)
    with pytest.raises(ObservationError, match="confidence"):
        StoppingRule(confidence=1.0)


def test_recommended_runs() -> None:
    assert recommended_runs(17) == 54
    assert recommended_runs(17, "power-link") == 36
    with pytest.raises(ObservationError):
        recommended_runs(0)
