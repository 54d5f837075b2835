"""Collapsed spaces: totals and proportions, the prior over expanded leaves, and bounds carried to the bundle."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from evermix.constraints import Bounds, Constraints, GroupBound, GroupTotal
from evermix.domain_updates import CollapsedSpace, VirtualDomain
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, DomainError, MixtureError
from evermix.mixture import Mixture

LEAVES = DomainSet([Domain("web", 1000), Domain("code", 100), Domain("books", 50), Domain("law", 10), Domain("new", 9)])
SPACE = CollapsedSpace.fix(LEAVES, {"books": 0.1, "web": 0.3, "law": 0.0})


def mixtures(k: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(5), k)


def test_the_bundle_and_its_components() -> None:
    np.testing.assert_allclose(SPACE.ptilde, [0.75, 0, 0.25, 0, 0])
    assert SPACE.fixed_ratio == ("web", "books", "law")
    assert SPACE.free == ("code", "new")
    assert SPACE.components == DomainSet([Domain("fixed ratio", 200), Domain("code", 100), Domain("new", 9)])


def test_collapse_sums_and_expand_shares_out() -> None:
    P = mixtures(7)
    R = SPACE.collapse(P)
    np.testing.assert_allclose(R, np.column_stack([P[:, [0, 2, 3]].sum(axis=1), P[:, 1], P[:, 4]]))
    np.testing.assert_allclose(SPACE.collapse(SPACE.expand(R)), R)
    np.testing.assert_allclose(SPACE.expand(R)[:, [0, 2]], R[:, :1] * [0.75, 0.25])
    np.testing.assert_allclose(SPACE.project(P), SPACE.expand(R))
    np.testing.assert_allclose(SPACE.project(P[0]), SPACE.expand(R)[0])
    assert not SPACE.holds(P).any()
    assert SPACE.holds(SPACE.project(P)).all()


def test_who_keeps_the_proportions() -> None:
    rows = [[0.3, 0.5, 0.1, 0, 0.1], [0.3, 0.5, 0.1001, 0, 0.0999], [0, 0.6, 0, 0, 0.4], [0.3, 0.4, 0.1, 0.1, 0.1]]
    assert SPACE.holds(rows).tolist() == [True, False, True, False]
    assert SPACE.holds(rows, tolerance=1e-3).tolist() == [True, True, True, False]


@given(st.lists(st.floats(0.01, 1), min_size=5, max_size=5), st.integers(0, 10**6))
def test_kl_to_the_prior_is_that_of_the_leaves_within_the_space(amounts: list[float], seed: int) -> None:
    p0 = Mixture.normalised(LEAVES, amounts)
    prior = SPACE.prior(p0)
    inside = [Mixture(LEAVES, row) for row in SPACE.project(mixtures(4, seed))]
    differences = [q.kl(p0) - q.kl(prior) for q in inside]
    np.testing.assert_allclose(differences, differences[0], atol=1e-9)
    off = Mixture(LEAVES, mixtures(1, seed)[0])
    if off["law"] == 0:
        assert off.kl(prior) >= Mixture(LEAVES, SPACE.project(off.weights)).kl(prior)


def test_a_fixed_leaf_without_prior_mass_is_refused() -> None:
    with pytest.raises(MixtureError, match=r"domain at a fixed ratio 'books' must have mass.*recompute it"):
        SPACE.prior(Mixture(LEAVES, [0.5, 0.1, 0, 0.2, 0.2]))
    assert SPACE.prior(Mixture(LEAVES, [0.5, 0.1, 0.2, 0, 0.2]))["law"] == 0


def test_release_widens_the_space() -> None:
    wider = SPACE.recomputed(["books", "law"])
    assert wider.fixed_ratio == ("web",)
    assert wider.components.names == ("fixed ratio", "code", "books", "law", "new")
    assert wider.holds(SPACE.project(mixtures(3))).all()
    with pytest.raises(
        DomainError, match=r"only a domain at a fixed ratio can be recomputed, got 'code'.*those are: web, books, law"
    ):
        SPACE.recomputed(["code"])
    with pytest.raises(MixtureError, match="must have mass"):
        SPACE.recomputed(["web", "books"])


def test_bundles_in_bundles_are_flattened() -> None:
    inner = VirtualDomain("first", Mixture(DomainSet(["web", "law"]), [0.5, 0.5]))
    outer = VirtualDomain("second", Mixture(DomainSet(["first", "code"]), [0.8, 0.2]))
    space = CollapsedSpace.flattened(LEAVES, outer, [inner])
    np.testing.assert_allclose(space.ptilde, [0.4, 0.2, 0, 0.4, 0])


def test_senseless_bundles_are_refused() -> None:
    with pytest.raises(DomainError, match="got 'prose'"):
        CollapsedSpace.fix(LEAVES, {"prose": 1.0})
    with pytest.raises(DomainError, match="name of one of its leaves"):
        CollapsedSpace.fix(LEAVES, {"web": 1.0}, "code")
    with pytest.raises(DomainError, match="unused leaf"):
        CollapsedSpace(LEAVES, SPACE.virtual, ("web",))
    with pytest.raises(MixtureError, match="shares of 5 leaves"):
        SPACE.collapse(np.ones((2, 3)) / 3)


def box(lower: list[float], upper: list[float], *groups: GroupBound) -> Bounds:
    return Bounds(np.array(lower), np.array(upper), ("",) * 5, groups)


@given(st.integers(0, 10**6))
def test_tightened_bounds_hold_the_same_mixtures_of_the_space_and_stay_feasible_under_projection(seed: int) -> None:
    rng = np.random.default_rng(seed)
    lower, upper = rng.uniform(0, 0.04, 5), rng.uniform(0.3, 1.0, 5)
    lower[3] = 0
    bounds = box(lower.tolist(), upper.tolist())
    tight = SPACE.tighten(bounds)
    P = rng.dirichlet(np.ones(5) * 3, 200)
    inside = SPACE.project(P)
    np.testing.assert_array_equal(tight.hold(inside), bounds.hold(inside))
    clipped = np.array([tight.clip(row) for row in P[:5]])
    assert tight.hold(SPACE.project(clipped), 1e-8).all()


def test_repetition_caps_become_the_cap_of_the_bundle() -> None:
    bounds = Constraints(max_epochs=4).bounds(LEAVES, 400.0)
    tight = SPACE.tighten(bounds)
    np.testing.assert_allclose(tight.upper, [0.75, 1.0, 0.25, 0, 0.09])
    scarce = SPACE.tighten(Constraints(max_epochs=4).bounds(LEAVES, 1000.0))  # books: 0.2 of 1000, so r_v <= 0.8
    np.testing.assert_allclose(scarce.upper, [0.6, 0.4, 0.2, 0, 0.036])
    assert scarce.reasons == ("fixed ratio", "epochs", "epochs", "fixed ratio", "epochs")


def test_contradicting_bounds_name_the_leaf_and_the_way_out() -> None:
    with pytest.raises(ConstraintError, match=r"0\.6667, which 'web' needs, and 0\.4000, which 'books'"):
        SPACE.tighten(box([0.5, 0, 0, 0, 0], [1, 1, 0.1, 1, 1]))
    with pytest.raises(ConstraintError, match=r"'law' is fixed at a share of zero.*recompute 'law'"):
        SPACE.tighten(box([0, 0, 0, 0.1, 0], [1] * 5))
    with pytest.raises(
        ConstraintError, match=r"room for a sum of 1; 'books' holds the 3 domains at a fixed ratio to 0\.4000"
    ):
        SPACE.tighten(box([0] * 5, [1, 0.3, 0.1, 1, 0.2]))
    with pytest.raises(ConstraintError, match="room for a sum of 1; 'web' holds"):
        SPACE.tighten(box([0.6, 0.15, 0, 0, 0.15], [1] * 5))


def group(low: float, high: float, *names: str) -> GroupBound:
    return GroupBound("some", np.array([name in names for name in LEAVES.names]), low, high)


def test_groups_hold_all_of_the_bundle_or_none_or_nothing_else() -> None:
    whole = group(0.2, 0.5, "web", "books", "code")
    assert SPACE.tighten(box([0] * 5, [1] * 5, whole)).groups == (whole,)
    assert SPACE.tighten(box([0] * 5, [1] * 5, group(0, 0.5, "law", "new"))).groups
    with pytest.raises(ConstraintError, match=r"group 'some' must hold all domains at a fixed ratio.*recompute 'web'"):
        SPACE.tighten(box([0] * 5, [1] * 5, group(0, 0.5, "web", "code")))
    within = SPACE.tighten(box([0] * 5, [1] * 5, group(0.1, 0.3, "web", "law")))
    assert within.groups == ()
    np.testing.assert_allclose(within.upper[:3], [0.3, 1, 0.1])
    np.testing.assert_allclose(within.lower[:3], [0.1, 0, 0.1 / 3])
    with pytest.raises(ConstraintError, match="holds only domains fixed at zero"):
        SPACE.tighten(box([0] * 5, [1] * 5, group(0.1, 0.3, "law")))


def test_named_groups_of_constraints_come_through() -> None:
    constraints = Constraints(groups={"old": GroupTotal(("web", "books", "law"), 0.3, 0.6)})
    tight = SPACE.tighten(constraints.bounds(LEAVES, 1.0))
    greatest = linprog(-np.eye(5)[0], A_eq=np.ones((1, 5)), b_eq=[1], bounds=np.c_[tight.lower, tight.upper])
    assert -greatest.fun == pytest.approx(0.45)
