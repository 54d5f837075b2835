"""Virtual domains: collapse and expand are inverse, and mass adds up."""

from __future__ import annotations

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from evermix.domain_updates import VirtualDomain, collapse, effective_prior, expand, flatten
from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, MixtureError
from evermix.mixture import Mixture

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
    assert virtual.size == 200  # 50 / 0.25: books run out first
    assert VirtualDomain("old", Mixture(DomainSet(["a", "b"]), [0.5, 0.5])).size is None
    assert virtual.domain == Domain("old", 200)
    rows = DomainSet(domain.resized(domain.n_tokens, "rows") for domain in LEAVES)
    assert VirtualDomain("old", Mixture(rows, virtual.inner.weights)).domain == Domain("old", n_rows=200)


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


@given(amounts, amounts, st.sets(st.sampled_from(LEAVES.names)))
def test_kl_to_the_effective_prior_is_kl_over_leaves_up_to_a_constant(
    a: list[float], b: list[float], kept: set[str]
) -> None:
    prior = Mixture.normalised(LEAVES, np.array(a) + 0.05)
    _, old = collapse(Mixture.normalised(LEAVES, np.array(b) + 1e-3), "old", kept if len(kept) < 4 else ["web"])
    names = ["old", *(n for n in LEAVES.names if n in (kept if len(kept) < 4 else {"web"}))]
    components = DomainSet(names)
    effective = effective_prior(prior, components, [old])
    rng = np.random.default_rng(0)
    differences = [
        expand(r, old, LEAVES).kl(prior) - r.kl(effective)
        for r in (Mixture(components, rng.dirichlet(np.ones(len(names)))) for _ in range(5))
    ]
    np.testing.assert_allclose(differences, differences[0], atol=1e-9)


def test_effective_prior_solves_as_the_programme_over_expanded_leaves() -> None:
    prior = Mixture(LEAVES, [0.4, 0.3, 0.2, 0.1])
    old = VirtualDomain("old", Mixture(DomainSet(["web", "code"]), [0.75, 0.25]))
    components = DomainSet(["old", "books", "law"])
    slope, weight = np.array([0.3, 0.5, 0.1]), 0.2
    r = cp.Variable(3, nonneg=True)
    mapping = np.zeros((4, 3))
    mapping[[0, 1, 2, 3], [0, 0, 1, 2]] = [0.75, 0.25, 1, 1]
    leaves = mapping @ r
    total = slope @ r + weight * cp.sum(cp.kl_div(leaves, prior.weights))
    cp.Problem(cp.Minimize(total), [cp.sum(r) == 1]).solve(solver=cp.CLARABEL)
    pi = effective_prior(prior, components, [old]).weights
    closed = pi * np.exp(-slope / weight)  # min slope.r + weight KL(r || pi)
    np.testing.assert_allclose(r.value, closed / closed.sum(), atol=1e-4)


def test_a_component_that_is_a_leaf_keeps_its_prior_mass() -> None:
    prior = Mixture(LEAVES, [0.4, 0.3, 0.2, 0.1])
    np.testing.assert_allclose(effective_prior(prior, LEAVES, []).weights, prior.weights, rtol=1e-12)


def test_virtual_domains_within_virtual_domains_are_flattened() -> None:
    inner = VirtualDomain("first", Mixture(DomainSet(["web", "code"]), [0.5, 0.5]))
    outer = VirtualDomain("second", Mixture(DomainSet(["first", "books"]), [0.6, 0.4]))
    assert flatten(outer, [inner]).inner.as_dict == pytest.approx({"web": 0.3, "code": 0.3, "books": 0.4})
    prior, components = Mixture(LEAVES, [0.4, 0.3, 0.2, 0.1]), DomainSet(["second", "law"])
    nested = effective_prior(prior, components, [outer, inner])
    assert nested == effective_prior(prior, components, [flatten(outer, [inner])])


def test_overlap_circles_and_missing_mass_are_refused() -> None:
    prior = Mixture(LEAVES, [0.4, 0.3, 0.3, 0.0])
    old = VirtualDomain("old", Mixture(DomainSet(["web", "code"]), [0.5, 0.5]))
    with pytest.raises(DomainError, match="'web' is in 'old' and 'web'"):
        effective_prior(prior, DomainSet(["old", "web"]), [old])
    with pytest.raises(DomainError, match="got 'prose'"):
        effective_prior(prior, DomainSet(["old", "prose"]), [old])
    a = VirtualDomain("a", Mixture(DomainSet(["b", "web"]), [0.5, 0.5]))
    b = VirtualDomain("b", Mixture(DomainSet(["a", "web"]), [0.5, 0.5]))
    with pytest.raises(DomainError, match="contain each other"):
        effective_prior(prior, DomainSet(["a", "law"]), [a, b])
    assert effective_prior(prior, DomainSet(["old", "law"]), [old]).as_dict == {"old": 1.0, "law": 0.0}
    with pytest.raises(MixtureError, match="prior mass"):
        effective_prior(prior, DomainSet(["law"]), [])
