"""The probe law: ranks mixtures from the probes of one model, moved on to the horizon of the run."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import spearmanr

from evermix.errors import ObservationError, RecipeError
from evermix.laws.power_link import PowerLinkLaw
from evermix.laws.probe import ProbeLaw
from evermix.laws.registry import law_class
from evermix.observations.runs import Runs


def probe_matrix(m: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray, PowerLinkLaw]:
    """Probes of purity 0.9 plus `old` = uniform, and a planted law with tau_ii = 1."""
    rng = np.random.default_rng(seed)
    old = np.full(m, 1 / m)
    P = np.vstack([0.9 * np.eye(m) + 0.1 * old, old])
    truth = PowerLinkLaw(g=1.0)
    truth.tau_ = np.exp(rng.normal(-2.5, 0.8, (m, m)))
    np.fill_diagonal(truth.tau_, 1.0)
    truth.b_, truth.c_, truth.a_ = rng.uniform(1, 2, m), rng.uniform(0.5, 1, m), rng.uniform(0.2, 0.5, m)
    truth.n_domains_, truth.n_metrics_ = m, m
    return P, truth.predict(P), truth


def test_it_ranks_mixtures_from_its_probes() -> None:
    P, Y, truth = probe_matrix()
    law = ProbeLaw(own=range(6)).fit(Runs.of(P, Y))
    np.testing.assert_array_equal(np.diag(law.tau_), 1.0)
    assert law.converged_.all()
    new = np.random.default_rng(1).dirichlet(np.full(6, 2.0), 300)
    predicted, true = law.predict(new), truth.predict(new)
    assert spearmanr(predicted.mean(axis=1), true.mean(axis=1)).statistic > 0.95
    assert min(spearmanr(predicted[:, i], true[:, i]).statistic for i in range(6)) > 0.95


def test_it_takes_metrics_that_are_no_domain() -> None:
    P, Y, _ = probe_matrix()
    law = ProbeLaw(own=[0, None, *range(2, 6)]).fit(Runs.of(P, Y))
    assert law.tau_[0, 0] == 1
    assert law.tau_[1].argmax() == 1
    assert law.converged_.all()


def test_own_out_of_range_is_refused() -> None:
    P, Y, _ = probe_matrix()
    for own in ([0, 1], [0, 1, 2, 3, 4, 6]):
        with pytest.raises(ObservationError, match="own must give each of 6 metrics"):
            ProbeLaw(own=own).fit(Runs.of(P, Y))


def test_it_is_a_power_link_law_of_the_probes_moved_on() -> None:
    """base + h (probe - base), not below half of the probe's, an error rate not above 1; written out by hand."""
    P, Y, _ = probe_matrix()
    rates = np.linspace(0.2, 0.9, len(P))[:, None]
    values = np.hstack([Y[:, :2], rates])
    base = np.array([values[:, 0].max() + 0.5, values[:, 1].min() - 0.1, 0.3])
    moved = base + 2.5 * (values - base)
    assert (moved[:, 0] < values[:, 0] / 2).any()
    assert (moved[:, 2] > 1).any()
    moved = np.maximum(moved, values / 2)
    moved[:, 2] = moved[:, 2].clip(max=1)
    own = [0, 1, None]
    law = ProbeLaw(own, base, 2.5, [False, False, True]).fit(Runs.of(P, values))
    plain = PowerLinkLaw(1.0, 0.3, 0.3, 0.3, own, -3.5, noise_rounds=0).fit(Runs.of(P, moved))
    np.testing.assert_array_equal(law.predict(np.eye(6)), plain.predict(np.eye(6)))
    counts = np.array([2.0, 1, 1, 1, 0, 1, 1])
    again = law.refit(Runs.of(P, values, counts=counts)).predict(np.eye(6))
    np.testing.assert_array_equal(again, plain.refit(Runs.of(P, moved, counts=counts)).predict(np.eye(6)))


def test_a_horizon_without_a_base_is_refused_and_a_base_has_a_number_per_metric() -> None:
    P, Y, _ = probe_matrix()
    with pytest.raises(ObservationError, match="a horizon needs the metrics of the base"):
        ProbeLaw(horizon=2.0).fit(Runs.of(P, Y))
    with pytest.raises(ObservationError, match="base must have one entry per metric, 6"):
        ProbeLaw(base=[1.0, 2.0]).fit(Runs.of(P, Y))
    with pytest.raises(ObservationError, match="is_rate must have one entry per metric, 6"):
        ProbeLaw(base=Y[0], is_rate=[True]).fit(Runs.of(P, Y))


def test_a_recipe_cannot_name_it_for_a_swarm() -> None:
    with pytest.raises(RecipeError, match=r"must not be one of probes.*got 'probe'.*mode probe-law fits it"):
        law_class("probe")
