"""Schedules: piecewise constant, and every sequence is counted in exactly one phase."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture
from evermix.schedule import MixtureSchedule, MixtureSegment

DOMAINS = DomainSet(["a", "b", "c"])


def random_schedule(starts: set[int]) -> MixtureSchedule:
    rng = np.random.default_rng(len(starts))
    schedule = MixtureSchedule.constant(Mixture.uniform(DOMAINS))
    for start in sorted(starts):
        schedule = schedule.then(start, Mixture(DOMAINS, rng.dirichlet(np.ones(3))))
    return schedule


@given(st.sets(st.integers(1, 60), max_size=4), st.integers(1, 80))
def test_spent_is_the_sum_over_sequences(starts: set[int], n: int) -> None:
    schedule = random_schedule(starts)
    by_hand = sum(schedule.mixture_at(k).weights for k in range(n))
    np.testing.assert_allclose(schedule.sequences_spent(n), by_hand, atol=1e-9)
    np.testing.assert_allclose(schedule.average(n).weights, by_hand / n, atol=1e-12)


def test_a_phase_holds_from_its_start() -> None:
    later = Mixture(DOMAINS, [1, 0, 0])
    schedule = MixtureSchedule.constant(Mixture.uniform(DOMAINS)).then(10, later)
    assert schedule.mixture_at(9) == Mixture.uniform(DOMAINS)
    assert schedule.mixture_at(10) == later
    assert schedule.domains == DOMAINS


@pytest.mark.parametrize("starts", [[], [1], [0, 5, 5], [0, 7, 3]])
def test_phases_must_start_at_zero_and_increase(starts: list[int]) -> None:
    with pytest.raises(MixtureError, match="start at 0 and strictly increase"):
        MixtureSchedule(tuple(MixtureSegment(s, Mixture.uniform(DOMAINS)) for s in starts))


def test_phases_must_share_their_domains() -> None:
    with pytest.raises(MixtureError, match="share one domain set"):
        MixtureSchedule.constant(Mixture.uniform(DOMAINS)).then(5, Mixture.uniform(DomainSet(["a"])))
