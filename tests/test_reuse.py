"""Virtual domains: collapse and expand are inverse, and mass adds up."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, MixtureError
from evermix.mixture import Mixture
from evermix.reuse import VirtualDomain, collapse, expand

LEAVES = DomainSet([Domain("web", 1000), Domain("code", 100), Domain("books", 50), Domain("law", 10)])
amounts = st.lists(st.floats(0, 1), min_size=4, max_size=4)


@given(amounts, st.sets(st.sampled_from(LEAVES.names)))
def test_expand_undoes_collapse(shares: list[float], kept: set[str]) -> None:
    bundled = sum(share for share, name in zip(shares, LEAVES.names, strict=True) if name not in kept)
    assume(bundled > 1e-6)
    mixture = Mixture.normalised(LEAVES, shares)
    components, virtual = collapse(mixture, "old", kept)
    assert components.domains.names == ("old", *(n for n in LEAVES.names if n in kept))
    np.testing.assert_allclose(expand(components, virtual, LEAVES).weights, mixture.weights, atol=1e-12)


def test_expand_adds_up_leaves_that_are_components_too() -> None:
    old = VirtualDomain("old", Mixture(LEAVES, [0.5, 0.5, 0, 0]))
    components = Mixture.from_dict(DomainSet(["old", "web", "code", "books", "law"]), {"old": 0.4, "web": 0.6})
    assert expand(components, old, LEAVES) == Mixture(LEAVES, [0.8, 0.2, 0, 0])


def test_expand_may_bring_new_leaves() -> None:
    inner = DomainSet(["web", "code"])
    old = VirtualDomain("old", Mixture(inner, [0.75, 0.25]))
    result = expand(Mixture(DomainSet(["old", "law"]), [0.8, 0.2]), old, LEAVES)
    np.testing.assert_allclose(result.weights, [0.6, 0.2, 0, 0.2])


def test_tokens_of_a_virtual_domain_carry_the_repetition_cap() -> None:
    virtual = VirtualDomain("old", Mixture(LEAVES, [0.5, 0.25, 0.25, 0]))
    assert virtual.n_tokens == 200  # 50 / 0.25: books run out first
    assert VirtualDomain("old", Mixture(DomainSet(["a", "b"]), [0.5, 0.5])).n_tokens is None


def test_bundling_nothing_is_refused() -> None:
    mixture = Mixture(LEAVES, [1, 0, 0, 0])
    with pytest.raises(MixtureError, match="bundled into 'old' must have mass"):
        collapse(mixture, "old", ["web"])


def test_names_must_not_collide_or_be_unknown() -> None:
    mixture = Mixture.uniform(LEAVES)
    with pytest.raises(DomainError, match="name of one of its leaves"):
        collapse(mixture, "web", ["code"])
    with pytest.raises(DomainError, match="got 'prose'"):
        collapse(mixture, "old", ["prose"])
    components, virtual = collapse(mixture, "old", ["code"])
    with pytest.raises(DomainError, match="got 'web'"):
        expand(components, virtual, DomainSet(["code", "books", "law"]))
    with pytest.raises(DomainError, match="name of a leaf"):
        expand(components, virtual, DomainSet([*LEAVES, Domain("old")]))
