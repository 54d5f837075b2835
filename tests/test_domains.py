"""Domain sets: unique, ordered, hashed by content."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError

names = st.lists(st.text("abc:", min_size=1, max_size=4), min_size=1, max_size=6)


@given(names)
def test_a_set_is_either_refused_or_keeps_its_order(given_names: list[str]) -> None:
    malformed = any(not part for name in given_names for part in name.split(":"))
    if malformed or len(set(given_names)) < len(given_names):
        with pytest.raises(DomainError):
            DomainSet(given_names)
        return
    domains = DomainSet(given_names)
    assert domains.names == tuple(given_names)
    assert [domains.index(name) for name in given_names] == list(range(len(domains)))
    assert all(name in domains for name in given_names)


@pytest.mark.parametrize("name", ["", " web", "web ", "web::science", ":web", "web:"])
def test_malformed_names_are_refused(name: str) -> None:
    with pytest.raises(DomainError, match="domain name must be non-empty"):
        Domain(name)


def test_errors_name_what_is_wrong() -> None:
    with pytest.raises(DomainError, match="at least one domain"):
        DomainSet([])
    with pytest.raises(DomainError, match="unique, got 'web'"):
        DomainSet(["web", "code", "web"])
    with pytest.raises(DomainError, match=r"'web' must have n_tokens >= 0, got -1"):
        Domain("web", -1)
    with pytest.raises(DomainError, match=r"got 'prose'\. Hint: known: web, code"):
        DomainSet(["web", "code"]).index("prose")
    with pytest.raises(DomainError):
        _ = DomainSet(["web"]).n_tokens


def test_token_counts_follow_the_order() -> None:
    np.testing.assert_array_equal(DomainSet([Domain("a", 3), Domain("b", 0)]).n_tokens, [3, 0])


def test_fingerprint_changes_with_anything_that_matters() -> None:
    sets = [
        DomainSet([Domain("a", 3, "x"), Domain("b", 4)]),
        DomainSet([Domain("b", 4), Domain("a", 3, "x")]),
        DomainSet([Domain("a", 3, "y"), Domain("b", 4)]),
        DomainSet([Domain("a", 5, "x"), Domain("b", 4)]),
        DomainSet([Domain("c", 3, "x"), Domain("b", 4)]),
    ]
    assert len({s.fingerprint for s in sets}) == len(sets) == len(set(sets))
    assert DomainSet(sets[0]).fingerprint == sets[0].fingerprint
    assert DomainSet(sets[0]) == sets[0]


def test_a_size_is_counted_in_tokens_or_in_rows() -> None:
    rows = DomainSet([Domain("a", n_rows=3, fingerprint="x"), Domain("b")])
    assert rows.unit == "rows"
    assert (rows.domains[0].size, rows.domains[0].unit, rows.domains[1].unit) == (3, "rows", None)
    assert DomainSet([Domain("a", 3)]).unit == DomainSet(["a"]).unit == "tokens"
    np.testing.assert_array_equal(DomainSet([Domain("a", n_rows=3), Domain("b", n_rows=0)]).sizes, [3, 0])
    np.testing.assert_array_equal(DomainSet([Domain("a", 3), Domain("b", 0)]).sizes, [3, 0])
    assert Domain("a", 7, "x").resized(3, "rows") == rows.domains[0]
    assert rows.domains[0].resized(7, "tokens") == Domain("a", 7, "x")
    assert [Domain(*each.as_row) for each in rows] == list(rows.domains)
    assert not rows.sizes_known
    assert DomainSet([Domain("a", 0)]).sizes_known


def test_three_rows_are_not_three_tokens() -> None:
    tokens, rows = DomainSet([Domain("a", 3)]), DomainSet([Domain("a", n_rows=3)])
    assert tokens != rows
    assert tokens.fingerprint != rows.fingerprint
    with pytest.raises(DomainError, match="in tokens or in rows, not in both, got '3 tokens and 2 rows'"):
        Domain("a", 3, n_rows=2)
    with pytest.raises(DomainError, match="counted in one unit, got 'a in tokens, b in rows'"):
        DomainSet([Domain("a", 3), Domain("b", n_rows=2), Domain("c")])
    with pytest.raises(DomainError, match="n_rows >= 0, got -2"):
        Domain("a", n_rows=-2)
    with pytest.raises(DomainError, match=r"'a' must have a token count"):
        _ = rows.n_tokens
    with pytest.raises(DomainError, match=r"'b' must have a row count for this\. Hint: set n_rows"):
        _ = DomainSet([Domain("a", n_rows=3), Domain("b")]).sizes


def test_the_fingerprint_of_tokens_stays_what_it_was() -> None:
    """Ledgers of earlier versions hold it: the hash of [name, n_tokens, fingerprint] of each domain."""
    assert DomainSet([Domain("a", 3, "x"), Domain("b")]).fingerprint == "60374335f682186c"
