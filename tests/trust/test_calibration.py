from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evermix.observations import Observations
from evermix.observations.runs import Runs
from evermix.trust.calibration import LEVELS, ScreeningOptions, calibrate, held_out, run_noise, screen
from tests.trust.swarms import LinearLaw, linear_law, linear_world, world


def test_an_honest_law_is_calibrated() -> None:
    w = linear_world(200, 0.1, np.random.default_rng(0))
    calibration = calibrate(w.fitted(LinearLaw()), w.observations, w.objective)
    for quality in (*calibration.metrics, calibration.objective):
        assert quality.slope == pytest.approx(1, abs=0.15)
        np.testing.assert_allclose(quality.coverage, LEVELS, atol=0.1)
    assert [q.rmse for q in calibration.metrics] == pytest.approx([0.1] * 3, rel=0.15)
    assert calibration.objective.rmse == pytest.approx(0.1 / np.sqrt(3), rel=0.15)
    assert calibration.as_dict["objective"]["ceiling"] is None


def test_the_noise_ceiling_bounds_the_correlation() -> None:
    w = linear_world(60, 0.15, np.random.default_rng(1), replicates=2)
    calibration = calibrate(w.fitted(LinearLaw()), w.observations, w.objective)
    np.testing.assert_allclose(run_noise(w.observations), 0.15, rtol=0.25)
    assert calibration.noise == pytest.approx(0.15 / np.sqrt(3), rel=0.25)
    whole = calibration.objective
    truth = w.true_value(w.observations.weights)
    attained = float(np.corrcoef(truth, calibration.observed_objective)[0, 1])
    assert whole.ceiling == pytest.approx(attained, abs=0.1)
    assert whole.spearman < whole.ceiling + 0.05


def test_standard_errors_serve_where_replicates_lack() -> None:
    w = linear_world(20, 0.1, np.random.default_rng(2))
    errors = np.full(w.observations.values.shape, 0.1)
    observations = replace(w.observations, standard_errors=errors)
    np.testing.assert_allclose(run_noise(observations), 0.1)
    assert calibrate(w.fitted(LinearLaw()), observations, w.objective).noise == pytest.approx(0.1 / np.sqrt(3))


def test_the_slope_tells_who_exaggerates() -> None:
    x = np.linspace(1, 2, 20)
    std = np.ones(20)
    assert held_out("m", x, 1 + 0.5 * (x - 1), std, 0.0).slope == pytest.approx(0.5)
    perfect = held_out("m", x, x, std, 0.0)
    assert (perfect.spearman, perfect.r2, perfect.rmse, perfect.ceiling) == pytest.approx((1, 1, 0, 1))
    assert held_out("m", np.full(20, 1.5), x, std, 0.0).spearman == 0
    assert np.isnan(held_out("m", x, np.ones(20), std, 0.0).spearman)


def test_an_explosion_is_counted_and_does_not_hide_the_rest() -> None:
    """One run alone holds a domain, with a share so small that its slope is noise: left out, it is foretold wildly."""
    rng = np.random.default_rng(3)
    w = linear_world(40, 0.02, rng)
    P = w.observations.weights.copy()
    P[:, 0] *= 1e-6
    P /= P.sum(axis=1, keepdims=True)
    P[0] = [0.97, 0.01, 0.01, 0.01]
    values = w.truth.predict(P) + 0.02 * rng.standard_normal((40, 3))
    observations = Observations(w.observations.domains, P, w.observations.metrics, values)
    law = LinearLaw().fit(Runs.of(P, values))
    calibration = calibrate(law, observations, w.objective)
    assert calibration.objective.n_exploded == 1
    assert calibration.objective.rmse < np.ptp(calibration.observed_objective)


def test_the_only_run_of_a_domain_is_never_held_out() -> None:
    """Without it the law would know nothing of the domain; it is not judged by it either."""
    w = linear_world(30, 0.05, np.random.default_rng(6))
    P = w.observations.weights.copy()
    P[1:, 0] = 0
    P /= P.sum(axis=1, keepdims=True)
    observations = Observations(w.observations.domains, P, w.observations.metrics, w.truth.predict(P))
    calibration = calibrate(LinearLaw().fit(Runs.of(P, observations.costs)), observations, w.objective)
    assert np.isnan(calibration.predicted[0]).all()
    assert calibration.objective.n_runs == 29
    assert calibration.objective.spearman == pytest.approx(1)


def test_screening_tells_noise_from_signal() -> None:
    """A metric the mixtures move, one they do not move, and one that is drowned in measured noise."""
    rng = np.random.default_rng(4)
    t = np.array([[2.0, 3.0, 4.0, 2.5], [3.0] * 4, [3.0, 3.1, 3.0, 3.05]])
    w = world(linear_law(t), 40, 0.1, rng, replicates=2)
    clear, flat, drowned = screen(w.fitted(LinearLaw()), w.observations)
    assert (clear.verdict, flat.verdict, drowned.verdict) == ("keep", "drop", "drop")
    assert clear.noise_source == "measured"
    assert clear.signal_to_noise > 2 > 0.5 > drowned.signal_to_noise
    assert clear.agreement > 0.95
    assert "run-to-run noise" in drowned.reason
    lenient = ScreeningOptions(snr_drop=0.0, agreement_drop=-1.0)
    assert all(row.verdict != "drop" for row in screen(w.fitted(LinearLaw()), w.observations, lenient))


def test_screening_without_replicates_takes_the_laws_noise() -> None:
    rng = np.random.default_rng(5)
    w = world(linear_law(np.array([[2.0, 3.0, 4.0, 2.5], [3.0] * 4])), 40, 0.1, rng)
    clear, flat = screen(w.fitted(LinearLaw()), w.observations)
    assert clear.noise_source == "law"
    assert clear.verdict == "keep"
    assert flat.verdict == "drop"
    assert flat.as_dict["metric"] == "m1"
