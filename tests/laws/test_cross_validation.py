"""Held-out predictions: what is left out is really left out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from evermix.errors import ObservationError
from evermix.laws.cross_validation import cross_validate, fold_labels, held_out, spearman
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.log_linear import LogLinearLaw
from evermix.laws.nonparametric import NearestLaw
from evermix.laws.power_link import PowerLinkLaw
from evermix.observations.runs import Runs


def world(k: int = 30) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    P = rng.dirichlet(np.full(4, 0.7), k)
    return P, 2 + (P**0.7 @ np.exp(rng.normal(0, 1, (3, 4))).T) ** -0.3 + 0.01 * rng.standard_normal((k, 3))


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000), st.lists(st.integers(0, 6), min_size=4, max_size=30))
def test_folds_are_balanced_and_keep_replicates_together(n_folds: int, seed: int, which: list[int]) -> None:
    P = np.random.default_rng(1).dirichlet(np.ones(3), 7)[which]
    if len(set(which)) < 2:
        return
    labels = fold_labels(P, n_folds, seed)
    for mixture in set(which):
        assert len({int(label) for label, w in zip(labels, which, strict=True) if w == mixture}) == 1
    sizes = [len({w for w, label in zip(which, labels, strict=True) if label == f}) for f in range(labels.max() + 1)]
    assert max(sizes) - min(sizes) <= 1
    assert len(sizes) == min(n_folds, len(set(which)))


def test_a_held_out_value_does_not_change_its_own_prediction() -> None:
    P, Y = world()
    before = cross_validate(PowerLinkLaw(), Runs.of(P, Y)).predicted
    spoilt = Y.copy()
    spoilt[7] += 5.0
    after = cross_validate(PowerLinkLaw(), Runs.of(P, spoilt)).predicted
    np.testing.assert_allclose(after[7], before[7], rtol=1e-9)
    assert np.abs(after - before).max() > 0.01


def test_it_is_the_fit_without_the_fold() -> None:
    P, Y = world()
    labels = fold_labels(P, 5, 3)
    told = cross_validate(NearestLaw(), Runs.of(P, Y), n_folds=5, seed=3)
    out = labels == 2
    np.testing.assert_allclose(told.predicted[out], NearestLaw().fit(Runs.of(P[~out], Y[~out])).predict(P[out]))
    assert told.std is None
    assert told.n_folds == 5


def test_scores_are_those_of_scipy_and_skip_missing_cells() -> None:
    P, Y = world()
    Y[:4, 1] = np.nan
    told = cross_validate(GaussianProcessLaw(), Runs.of(P, Y))
    assert told.std is not None
    assert (told.std > 0).all()
    for i in range(3):
        known = ~np.isnan(Y[:, i])
        assert told.spearman[i] == pytest.approx(spearmanr(told.predicted[known, i], Y[known, i]).statistic)
        error = told.predicted[known, i] - Y[known, i]
        assert told.rmse[i] == pytest.approx(np.sqrt((error**2).mean()))


def test_a_constant_prediction_has_no_rank_correlation() -> None:
    _, Y = world()
    assert np.isnan(spearman(np.ones_like(Y), Y)).all()


def test_too_few_runs_are_refused_in_the_laws_own_words() -> None:
    P, Y = world(5)
    with pytest.raises(ObservationError, match="log-linear law over 4 domains needs at least 5 runs"):
        cross_validate(LogLinearLaw(ridge=0.0), Runs.of(P, Y))
    with pytest.raises(ObservationError, match="at least 2 folds"):
        cross_validate(NearestLaw(), Runs.of(P, Y), n_folds=1)
    with pytest.raises(ObservationError, match="2 distinct mixtures"):
        cross_validate(NearestLaw(), Runs.of(np.tile(P[:1], (5, 1)), Y))


def test_the_fitted_law_given_is_not_touched() -> None:
    P, Y = world()
    law = NearestLaw()
    held_out(law, Runs.of(P, Y), fold_labels(P, 3, 0))
    assert not hasattr(law, "n_domains_")
