"""The mixture stream: exact apportionment, common random numbers, exact resume."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evermix.corpus.stream import MixtureStream
from evermix.domains import DomainSet
from evermix.errors import CorpusError
from evermix.mixture import Mixture
from evermix.schedule import MixtureSchedule, MixtureSegment

ABC = DomainSet(["a", "b", "c"])


def mix(*weights: float) -> Mixture:
    return Mixture(ABC, weights)


def stream(*segments: tuple[int, Mixture], sizes: tuple[int, ...] = (7, 50, 1), seed: int = 3) -> MixtureStream:
    return MixtureStream(sizes, ABC.names, MixtureSchedule(tuple(MixtureSegment(s, m) for s, m in segments)), seed)


@st.composite
def shares(draw: st.DrawFn) -> np.ndarray:
    m = draw(st.integers(1, 100))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    kind = draw(st.sampled_from(["dirichlet", "sparse", "tiny", "equal", "rational"]))
    if kind == "dirichlet":
        w = rng.dirichlet(np.full(m, 0.3)) + 1e-300
    elif kind == "sparse":
        w = rng.random(m) * (rng.random(m) < 0.3)
    elif kind == "tiny":
        w = 10.0 ** rng.uniform(-14, 0, m)
    elif kind == "equal":
        w = np.ones(m)
    else:
        w = rng.integers(0, 5, m).astype(float)
    if w.sum() == 0:
        w[0] = 1
    return w / w.sum()


@given(shares(), st.integers(1, 1500))
@settings(max_examples=150, deadline=None)
def test_every_prefix_is_within_one_of_its_share(weights, n):
    names = [f"d{j}" for j in range(len(weights))]
    domains = DomainSet(names)
    drawn = MixtureStream([5] * len(names), names, MixtureSchedule.constant(Mixture(domains, weights)), 0).draw(n) // 5
    counts = np.cumsum(drawn[:, None] == np.arange(len(names)), axis=0)
    expected = np.arange(1, n + 1)[:, None] * weights
    assert np.abs(counts - expected).max() < 1
    assert counts[-1][weights == 0].sum() == 0


def test_deviation_stays_below_one_after_a_million_draws():
    weights = np.array([0.5, 1 / 3, 1 / 6 - 1e-6, 1e-6])
    names = list("abcd")
    s = MixtureStream([9] * 4, names, MixtureSchedule.constant(Mixture(DomainSet(names), weights)), 0)
    for _ in range(10):
        s.draw(20_000)
        assert np.abs(s.counts - s.position * weights).max() < 1


def test_each_epoch_is_a_fresh_permutation():
    drawn = stream((0, mix(1, 0, 0))).draw(70).reshape(10, 7)
    assert all(sorted(epoch) == list(range(7)) for epoch in drawn)
    assert len({tuple(epoch) for epoch in drawn}) == 10


def test_a_domains_kth_draw_does_not_depend_on_the_mixture():
    def of_b(drawn):
        return drawn[(drawn >= 7) & (drawn < 57)]

    one, other = of_b(stream((0, mix(0.5, 0.4, 0.1))).draw(500)), of_b(stream((0, mix(0.1, 0.9, 0))).draw(500))
    both = min(len(one), len(other))
    assert both > 150
    np.testing.assert_array_equal(one[:both], other[:both])


def test_a_domains_order_does_not_depend_on_the_other_domains():
    alone = MixtureStream([50], ["b"], MixtureSchedule.constant(Mixture(DomainSet(["b"]), [1.0])), 3).draw(60)
    np.testing.assert_array_equal(alone + 7, stream((0, mix(0, 1, 0))).draw(60))


@given(st.lists(st.integers(0, 40), max_size=12), st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_draw_sizes_and_resume_do_not_matter(sizes, cut):
    segments = ((0, mix(0.5, 0.3, 0.2)), (31, mix(0.1, 0.9, 0)), (100, mix(1, 0, 0)), (101, mix(0.3, 0.3, 0.4)))
    whole = stream(*segments).draw(400)
    s = stream(*segments)
    parts = [s.draw(n) for n in sizes]
    saved = json.loads(json.dumps(s.state_dict()))
    resumed = stream((0, mix(1, 0, 0)))
    resumed.load_state_dict(saved)
    parts.append(resumed.draw(max(400 - s.position, 0)))
    np.testing.assert_array_equal(np.concatenate(parts)[:400], whole)
    resumed.seek(cut)
    np.testing.assert_array_equal(resumed.draw(400 - cut), whole[cut:])


def test_ranks_share_out_each_global_batch():
    segments = ((0, mix(0.5, 0.3, 0.2)), (24, mix(0, 0.5, 0.5)))
    whole = stream(*segments).draw(48)
    for world in (1, 2, 4, 12):
        ranks = [stream(*segments) for _ in range(world)]
        for step in (0, 1, 3, 2):
            batch = np.empty(12, np.int64)
            for rank, s in enumerate(ranks):
                batch[rank::world] = s.indices_for(step, rank, world, 12)
            np.testing.assert_array_equal(batch, whole[12 * step : 12 * step + 12])
    with pytest.raises(CorpusError, match="divide evenly"):
        stream(*segments).indices_for(0, 0, 5, 12)


def test_a_segment_appended_on_the_way_equals_one_planned_before():
    planned = stream((0, mix(0.5, 0.3, 0.2)), (37, mix(0.1, 0.2, 0.7)))
    whole = planned.draw(120)
    s = stream((0, mix(0.5, 0.3, 0.2)))
    first = s.draw(37)
    s.append_segment(mix(0.9, 0.1, 0))
    s.append_segment(mix(0.1, 0.2, 0.7))  # a second change at the same place replaces the first
    np.testing.assert_array_equal(np.concatenate([first, s.draw(83)]), whole)
    assert [p.start_sequence for p in s.schedule.segments] == [0, 37]
    ahead = stream((0, mix(0.5, 0.3, 0.2)))
    ahead.draw(10)
    ahead.append_segment(mix(0.1, 0.2, 0.7), start_sequence=37)
    np.testing.assert_array_equal(ahead.draw(110), whole[10:])


def test_a_segment_may_not_begin_in_the_past():
    s = stream((0, mix(0.5, 0.3, 0.2)))
    s.draw(5)
    with pytest.raises(CorpusError, match="position 5, got 4"):
        s.append_segment(mix(1, 0, 0), start_sequence=4)
    s.seek(0)
    s.append_segment(mix(1, 0, 0))
    assert set(s.draw(20)) <= set(range(7))


def test_counts_and_epochs_add_up():
    s = stream((0, mix(0.5, 0.3, 0.2)))
    s.draw(100)
    np.testing.assert_array_equal(s.counts, [50, 30, 20])
    np.testing.assert_allclose(s.epochs(), [50 / 7, 30 / 50, 20])


def test_an_empty_domain_may_only_have_share_zero():
    s = stream((0, mix(0.5, 0, 0.5)), sizes=(7, 0, 1))
    assert s.draw(10).max() == 7
    with pytest.raises(CorpusError, match="domain 'b' must hold a train sequence"):
        s.append_segment(mix(0.4, 0.2, 0.4))
    np.testing.assert_array_equal(s.schedule.segments[-1].mixture.weights, [0.5, 0, 0.5])


@pytest.mark.parametrize(
    ("other", "field"),
    [
        (stream((0, mix(1, 0, 0)), seed=4), "seed"),
        (stream((0, mix(1, 0, 0)), sizes=(8, 50, 1)), "sizes"),
    ],
)
def test_a_state_of_another_run_is_refused(other, field):
    with pytest.raises(CorpusError, match=field):
        stream((0, mix(1, 0, 0))).load_state_dict(other.state_dict())


def test_the_schedule_must_be_over_the_stores_domains():
    with pytest.raises(CorpusError, match="over the domains of its store"):
        MixtureStream([1, 2], ["a", "b"], MixtureSchedule.constant(mix(1, 0, 0)), 0)


def test_the_order_is_pinned():
    """The same seed gives the same sequences on every machine and numpy version."""
    assert stream((0, mix(0.5, 0.4, 0.1))).draw(12).tolist() == [6, 16, 3, 14, 2, 40, 57, 4, 42, 5, 0, 23]
