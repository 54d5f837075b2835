"""The bundled swarm is what its script makes, and a law learns the law that was planted in it."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from evermix.laws.power_link import PowerLinkLaw
from evermix.observations import read_observations
from evermix.observations.runs import Runs

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_bundled_swarm(tmp_path: Path) -> None:
    reading = read_observations(EXAMPLES / "swarm")
    observed = reading.observations
    assert reading.left_out == ()
    assert (observed.n_runs, len(observed.domains), len(observed.metrics), len(observed.replicates)) == (40, 6, 5, 4)
    assert observed.maximised == {"exam_acc"}
    assert observed.domains.n_tokens.sum() == 300e9
    script = runpy.run_path(str(EXAMPLES / "make_swarm.py"))
    script["make"](tmp_path)
    again = read_observations(tmp_path).observations
    np.testing.assert_allclose(again.weights, observed.weights, atol=1e-12)
    np.testing.assert_allclose(again.values, observed.values, atol=1e-12)
    others = np.random.default_rng(0).dirichlet(np.ones(6), 50)
    law = PowerLinkLaw().fit(Runs.of(observed.weights, observed.costs))
    predicted = observed.orientation.value(law.predict(others))
    planted = script["planted"](others)
    assert min(spearmanr(predicted[:, i], planted[:, i]).statistic for i in range(5)) > 0.9
