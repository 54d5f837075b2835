"""Three-way split: by content, deterministic, disjoint, all sides filled when three texts differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.corpus.split import content_key, cut, piece_bytes, split_masks, spread

TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=3), min_size=1, max_size=60)
FRACTIONS = st.floats(0.01, 0.9)


def keys_of(texts):
    return np.array([content_key(text) for text in texts], dtype=np.uint64)


def masks(texts, fraction=0.1, wanted=1.0):
    return split_masks(keys_of(texts), np.array([len(text) for text in texts]), fraction, wanted)


def sides(texts, fraction=0.1, wanted=1.0):
    """The distinct texts of every side, and the tokens on it; a token is a character."""
    inside = {
        s: [t for t, is_in in zip(texts, m, strict=True) if is_in] for s, m in masks(texts, fraction, wanted).items()
    }
    return {side: set(found) for side, found in inside.items()}, {
        s: sum(map(len, found)) for s, found in inside.items()
    }


@given(TEXTS, FRACTIONS, st.floats(0.5, 40))
def test_every_document_is_on_one_side_with_its_duplicates(texts, fraction, wanted):
    assert (np.sum(list(masks(texts, fraction, wanted).values()), axis=0) == 1).all()
    found, _ = sides(texts, fraction, wanted)
    assert sum(map(len, found.values())) == len(set(texts))  # no text on two sides


@given(TEXTS, FRACTIONS, st.floats(0.5, 40))
def test_every_side_has_a_document_where_three_differ(texts, fraction, wanted):
    found, _ = sides(texts, fraction, wanted)
    filled = [side for side in ("train", "decision", "test") if found[side]]
    assert filled == ["train", "decision", "test"][: len(set(texts))]


@given(TEXTS, FRACTIONS, st.floats(0.5, 40), st.randoms(use_true_random=False))
def test_sides_depend_on_what_there_is_and_not_on_its_order(texts, fraction, wanted, random):
    shuffled = list(texts)
    random.shuffle(shuffled)
    assert sides(shuffled, fraction, wanted) == sides(texts, fraction, wanted)


@given(st.integers(3, 400), FRACTIONS, st.floats(1, 30), st.integers(1, 9))
def test_both_sides_have_what_is_wanted_where_there_is_enough(n, fraction, wanted, most):
    """Distinct texts of 4 to 4 + most tokens: two sides of `wanted`, one text over for each, and one to train on."""
    texts = [f"{k:04d}" + "x" * (k % most) for k in range(n)]
    _, tokens = sides(texts, fraction, wanted)
    largest = max(map(len, texts))
    if sum(map(len, texts)) >= 2 * wanted + 3 * largest:
        assert tokens["decision"] >= wanted
        assert tokens["test"] >= wanted
    even = min(tokens["decision"], tokens["test"])
    assert even >= min(wanted, (tokens["decision"] + tokens["test"] - largest) / 2) - 1e-9


@given(TEXTS, TEXTS, FRACTIONS)
def test_a_shared_text_is_on_one_side_in_both_domains(shared, own, fraction):
    """Where both are large: enough texts are held out by their keys alone."""
    padding = [f"text {k}" for k in range(2000)]
    first, second = shared + padding, shared + own + padding[::-1]
    one, other = (sides(texts, max(fraction, 0.05))[0] for texts in (first, second))
    for side in ("train", "decision", "test"):
        assert one[side] == other[side] & set(first)


def test_the_fraction_is_met_and_halved_and_stays_when_documents_are_added():
    texts = [f"document {i}" for i in range(4000)]
    found = masks(texts, 0.2)
    assert found["decision"].mean() == pytest.approx(0.1, abs=0.02)
    assert found["test"].mean() == pytest.approx(0.1, abs=0.02)
    more = masks([f"new {i}" for i in range(4000)] + texts[::-1], 0.2)
    for side, mask in found.items():
        np.testing.assert_array_equal(more[side][4000:][::-1], mask)


def test_sides_are_independent_of_how_early_a_text_is_held_out():
    """By other bits of the key: of what any fraction holds out, half decides."""
    keys = keys_of([f"document {i}" for i in range(20_000)])
    for fraction in (0.02, 0.1, 0.5):
        found = split_masks(keys, np.ones(len(keys), np.int64), fraction, 1.0)
        assert found["decision"].sum() / (~found["train"]).sum() == pytest.approx(
            0.5, abs=0.1 if fraction < 0.1 else 0.03
        )


def test_more_documents_are_held_out_until_both_sides_have_the_wanted_tokens():
    texts = [f"document {i}" for i in range(30)]
    largest = max(map(len, texts))
    _, tokens = sides(texts, 1e-9, wanted=50)
    assert min(tokens["decision"], tokens["test"]) >= 50
    assert tokens["decision"] + tokens["test"] < 2 * (50 + largest)


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(4, 60))
def test_cut_pieces_join_to_the_text_and_keep_to_the_limit(text, limit):
    pieces = list(cut(text, limit))
    assert "".join(pieces) == text
    assert all(0 < len(p.encode()) <= limit for p in pieces)


def test_cuts_fall_at_line_ends():
    text = "".join(f"line {i}\n" for i in range(100))
    assert all(p.endswith("\n") for p in cut(text, 50))


def test_only_domains_of_few_or_giant_documents_are_cut():
    assert piece_bytes(n_distinct=1000, largest_bytes=10, n_bytes=10_000) is None
    assert piece_bytes(n_distinct=19, largest_bytes=10, n_bytes=100_000) == 2000
    assert piece_bytes(n_distinct=1000, largest_bytes=9_000_000, n_bytes=10_000_000) == 16384
    assert piece_bytes(n_distinct=1, largest_bytes=100, n_bytes=100) == 512


@given(st.integers(1, 500), st.integers(1, 600))
def test_spread_positions_differ_rise_and_leave_no_end_out(n: int, most: int) -> None:
    found = spread(n, most)
    assert len(found) == min(n, most)
    assert (np.diff(found) > 0).all()
    gap = n / len(found)
    assert 0 <= found[0] <= gap
    assert n - 1 - gap <= found[-1] <= n - 1
    np.testing.assert_array_equal(spread(n, None), np.arange(n))
