from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.trust.coverage import confounded, extrapolation, hull_distance


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_averages_of_runs_are_inside_the_hull(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs = rng.dirichlet(np.ones(4), 8)
    assert hull_distance(rng.dirichlet(np.ones(8)) @ runs, runs) == pytest.approx(0, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_hull_distance_is_at_most_that_to_the_nearest_run(seed: int) -> None:
    rng = np.random.default_rng(seed)
    runs, p = rng.dirichlet(np.ones(4), 5), rng.dirichlet(np.full(4, 0.3))
    where = extrapolation(p, runs)
    assert where.outside_hull <= where.nearest + 1e-9
    assert where.nearest <= 1
    # no random average of runs comes closer than the linear programme
    averages = rng.dirichlet(np.ones(5), 500) @ runs
    assert where.outside_hull <= np.abs(averages - p).sum(axis=1).min() / 2 + 1e-9


def test_a_known_distance() -> None:
    """Runs of two domains between 20 and 60%: a share of 90% is 30 points of total variation outside."""
    runs = np.array([[0.2, 0.8], [0.6, 0.4], [0.6, 0.4]])
    where = extrapolation(np.array([0.9, 0.1]), runs)
    assert where.outside_hull == pytest.approx(0.3)
    assert where.nearest == pytest.approx(0.3)
    assert where.typical == pytest.approx(0.4)  # replicates are one mixture
    np.testing.assert_allclose(where.above, [0.3, 0.0])


def test_shares_that_move_together_are_found() -> None:
    rng = np.random.default_rng(0)
    runs = rng.dirichlet(np.ones(4), 40)
    assert confounded(runs) == ()
    together = np.column_stack([runs[:, 0] / 3, runs[:, 0] * 2 / 3, runs[:, 1:]])
    (group,) = confounded(together)
    assert group.domains == (0, 1)
    assert group.correlation == pytest.approx(1)


def test_three_domains_bound_by_a_sum_are_found() -> None:
    """No pair is correlated above .95, but the third share is always the mean of two others."""
    rng = np.random.default_rng(1)
    free = rng.dirichlet(np.ones(5), 60)
    runs = free.copy()
    runs[:, 2] = (free[:, 0] + free[:, 1]) / 2 + 1e-4 * rng.standard_normal(60)
    runs[:, 4] += free[:, 2] - runs[:, 2]
    (group,) = confounded(runs)
    assert set(group.domains) == {0, 1, 2}
    assert group.condition_index > 30


def test_two_domains_trade_off_by_nature() -> None:
    share = np.linspace(0.1, 0.9, 9)
    assert confounded(np.column_stack([share, 1 - share])) == ()
