"""Held-out split: by content, deterministic, disjoint, never empty when two texts differ."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.corpus.split import content_key, cut, heldout_mask, piece_bytes


def mask(texts, fraction=0.1, wanted=1.0):
    keys = np.array([content_key(t) for t in texts], dtype=np.uint64)
    return heldout_mask(keys, np.array([len(t) for t in texts]), fraction, wanted)


@given(st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=60), st.floats(0.01, 0.9))
def test_equal_documents_are_on_one_side_and_both_sides_hold_text(texts, fraction):
    held = mask(texts, fraction)
    inside = {t for t, h in zip(texts, held, strict=True) if h}
    outside = {t for t, h in zip(texts, held, strict=True) if not h}
    assert not inside & outside
    assert outside
    assert inside or len(set(texts)) == 1


def test_the_fraction_is_met_and_stays_when_documents_are_added():
    texts = [f"document {i}" for i in range(4000)]
    held = mask(texts, 0.1)
    assert held.mean() == pytest.approx(0.1, abs=0.02)
    more = mask([f"new {i}" for i in range(4000)] + texts[::-1], 0.1)
    np.testing.assert_array_equal(more[4000:][::-1], held)


def test_more_documents_are_held_out_until_the_wanted_tokens_are_there():
    texts = [f"document {i}" for i in range(30)]
    held = mask(texts, 1e-9, wanted=50)
    sizes = np.array([len(t) for t in texts])
    assert 50 <= sizes[held].sum() < 50 + sizes.max()


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
