"""Runs: what laws are fitted to, checked once and frozen."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.observations import Observations, Runs

P = [[0.2, 0.8], [0.5, 0.5], [1.0, 0.0]]
Y = [[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]


def test_arrays_are_copied_and_frozen() -> None:
    mixtures = np.array(P)
    runs = Runs.of(mixtures, Y, counts=[1, 0, 2])
    mixtures[0] = 0.5
    assert runs.mixtures[0].tolist() == [0.2, 0.8]
    with pytest.raises(ValueError, match="read-only"):
        runs.values[0, 0] = 9.0
    assert (len(runs), runs.n_domains, runs.n_metrics) == (3, 2, 2)


def test_parts_keep_what_belongs_to_them() -> None:
    runs = Runs.of(P, Y, [[0.1, 0.2], [0.3, 7.0], [0.5, 0.6]], [1, 0, 2])
    assert runs.sigma is not None
    assert np.isnan(runs.sigma[1, 1])
    some = runs.take(np.array([2, 0])).of_metrics(np.array([1]))
    assert some.mixtures.tolist() == [P[2], P[0]]
    assert some.values.tolist() == [[6.0], [2.0]]
    assert some.sigma is not None
    assert some.sigma.tolist() == [[0.6], [0.2]]
    assert some.counts is not None
    assert some.counts.tolist() == [2, 1]
    assert runs.take(np.array([True, False, True])).values[:, 0].tolist() == [1.0, 5.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mixtures": np.array(P)[:2]}, r"P \(runs, domains\) and Y \(runs, metrics\) of the same runs"),
        ({"mixtures": np.array([[0.2, 0.8], [0.5, 0.5], [1.1, -0.1]])}, "weight of run 2 in domain 1 must be a number"),
        ({"mixtures": 100 * np.array(P)}, "weights of run 0 must sum to 1"),
        ({"values": np.array([[1.0, 2], [3, 0], [5, 6]])}, "value of run 1 in metric 1 must be a number > 0"),
        ({"sigma": np.ones((3, 1))}, r"sigma must have the shape of Y, \(3, 2\)"),
        ({"sigma": np.zeros((3, 2))}, "standard error of run 0 in metric 0 must be a number > 0"),
        ({"counts": np.ones(2)}, "counts must have one number per run, 3"),
        ({"counts": np.array([1.0, -1, 1])}, "count of run 1"),
    ],
)
def test_malformed_arrays_are_named_by_position(change: dict[str, np.ndarray], message: str) -> None:
    with pytest.raises(ObservationError, match=message):
        replace(Runs.of(P, Y), **change)


def test_observations_give_their_costs() -> None:
    observed = Observations(
        DomainSet(["a", "b"]), np.array(P), ("loss", "accuracy"), np.array(Y), maximised={"accuracy"}
    )
    np.testing.assert_array_equal(observed.runs.mixtures, observed.weights)
    np.testing.assert_array_equal(observed.runs.values, observed.costs)
    assert observed.runs.values[0, 1] > observed.runs.values[2, 1]  # the higher accuracy costs less
    assert observed.runs.sigma is None
