"""Updates of a domain set, against what the runs were really trained on."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.domain_updates import Add, DomainUpdate, Lineage, Partition, Remove, Revise, carry_through
from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError
from evermix.mixture import Mixture

WEB_CODE = DomainSet([Domain("web", 100, "w1"), Domain("code", 50, "c1")])


def update(*changes: Add | Remove | Revise | Partition) -> DomainUpdate:
    return DomainUpdate(changes)


def parted(name: str, **tokens: int | None) -> Partition:
    return Partition(name, tuple(Domain(f"{name}:{part}", n) for part, n in tokens.items()))


def test_domains_after_every_kind_of_update() -> None:
    assert update(Add("maths", 7)).apply(WEB_CODE) == DomainSet([*WEB_CODE, Domain("maths", 7)])
    assert update(Remove("web")).apply(WEB_CODE) == DomainSet([Domain("code", 50, "c1")])
    assert update(Revise("web", 90)).apply(WEB_CODE) == DomainSet([Domain("web", 90), Domain("code", 50, "c1")])
    after = update(parted("web", a=60, b=40)).apply(WEB_CODE)
    assert after == DomainSet([Domain("web:a", 60), Domain("web:b", 40), Domain("code", 50, "c1")])


def test_senseless_updates_are_refused() -> None:
    with pytest.raises(DomainError, match="must add, remove, revise or partition"):
        update()
    with pytest.raises(DomainError, match="touch a domain once, got 'web'"):
        update(Remove("web"), Revise("web", 3))
    with pytest.raises(DomainError, match=r"'web' must have at least two parts, got \['web:a'\]"):
        parted("web", a=1)


@pytest.mark.parametrize("change", [Remove("wbe"), Revise("wbe", 1), parted("wbe", a=1, b=1), Add("web", 3)])
def test_unknown_and_taken_names_are_refused(change: Add | Remove | Revise | Partition) -> None:
    with pytest.raises(DomainError, match=r"wbe|web"):
        update(change).apply(WEB_CODE)


def test_the_last_domain_cannot_be_removed() -> None:
    with pytest.raises(DomainError, match="at least one domain"):
        update(Remove("web"), Remove("code")).apply(WEB_CODE)


def test_a_run_on_a_removed_or_revised_domain_is_lost_with_its_reason() -> None:
    assert "'web', which was removed" in str(update(Remove("web")).carry({"web": 0.2, "code": 0.8}))
    assert "'web', which was revised" in str(update(Revise("web", 9)).carry({"web": 0.2, "code": 0.8}))
    assert update(Remove("web")).carry({"code": 1.0, "web": 0.0}) == {"code": 1.0}


def test_a_ghost_keeps_the_share_of_content_that_is_gone() -> None:
    shares = {"web": 0.2, "code": 0.8}
    kept = {"web (until 3)": 0.2, "code": 0.8}
    assert update(Remove("web")).carry(shares, keep_retired=True, version=3) == kept
    assert update(Revise("web", 9, "w2")).carry(shares, keep_retired=True, domains=WEB_CODE, version=3) == kept
    assert (
        carry_through(shares, [update(Add("maths", 1)), update(Revise("web", 1))], keep_retired=True, version=1) == kept
    )
    twice = carry_through(shares, [update(Revise("web", 1)), update(Revise("web", 2))], WEB_CODE, keep_retired=True)
    assert twice == {"web (until 1)": 0.2, "code": 0.8}


def test_a_rename_and_an_empty_revision_keep_their_runs() -> None:
    rename = update(Remove("web"), Add("crawl", 120, "w1"))
    assert rename.carry({"web": 0.2, "code": 0.8}, domains=WEB_CODE) == {"crawl": 0.2, "code": 0.8}
    assert "removed" in str(rename.carry({"web": 0.2, "code": 0.8}))  # without the set nobody knows its content
    recount = update(Revise("web", 120, "w1"))
    assert recount.carry({"web": 0.2, "code": 0.8}, domains=WEB_CODE) == {"web": 0.2, "code": 0.8}
    assert recount.affected(WEB_CODE) == rename.affected(WEB_CODE) == ()
    assert rename.unaffected(WEB_CODE) == ("code", "crawl")
    both = [rename, update(Revise("crawl", 130, "w1"))]
    assert carry_through({"web": 1.0}, both, WEB_CODE) == {"crawl": 1.0}


def test_content_that_is_unknown_is_never_taken_for_the_same() -> None:
    unknown = DomainSet(["web", "code"])
    assert update(Remove("web"), Add("crawl")).affected(unknown) == ("crawl",)
    assert update(Revise("web")).affected(unknown) == ("web",)


def test_one_removed_domain_has_one_heir() -> None:
    twins = update(Remove("web"), Add("crawl", 100, "w1"), Add("copy", 100, "w1"))
    assert twins.lineage(WEB_CODE) == (
        Lineage("code", "code", "unchanged"),
        Lineage("crawl", "web", "same content"),
        Lineage("copy", None, "none"),
    )


def test_lineage_names_who_is_affected() -> None:
    change = update(parted("web", a=60, b=40), Revise("code", 9, "c2"), Add("maths", 7))
    assert change.lineage(WEB_CODE) == (
        Lineage("web:a", "web", "part of"),
        Lineage("web:b", "web", "part of"),
        Lineage("code", None, "none"),
        Lineage("maths", None, "none"),
    )
    assert change.affected(WEB_CODE) == ("web:a", "web:b", "code", "maths")
    assert change.unaffected(WEB_CODE) == ()


def test_kept_shares_follow_the_names() -> None:
    three = DomainSet([*WEB_CODE, Domain("law", 5, "l1")])
    change = update(Remove("web"), Add("crawl", 100, "w1"), Revise("code", 60, "c2"), Add("maths", 7))
    assert change.kept(Mixture(three, [0.5, 0.3, 0.2])) == {"crawl": 0.5, "law": 0.2}


@given(share=st.floats(0.0, 1.0), a=st.integers(1, 10**12), b=st.integers(1, 10**12))
def test_a_partition_splits_by_tokens_and_keeps_the_sum(share: float, a: int, b: int) -> None:
    carried = update(parted("web", a=a, b=b)).carry({"web": share, "code": 1 - share})
    assert isinstance(carried, dict)
    assert sum(carried.values()) == pytest.approx(1)
    if share > 0:
        assert carried["web:a"] * b == pytest.approx(carried["web:b"] * a)


def test_parts_of_unknown_size_cannot_share_a_run() -> None:
    change = update(parted("web", a=None, b=3))
    assert change.carry({"code": 1.0}) == {"code": 1.0}
    with pytest.raises(DomainError, match=r"must have token counts.*got 'web:a'"):
        change.carry({"web": 0.5, "code": 0.5})
    with pytest.raises(DomainError, match="'web' must have tokens"):
        update(parted("web", a=0, b=0)).carry({"web": 1.0})


def test_sizes_in_rows_split_a_run_and_are_kept() -> None:
    parts = (Domain("a:x", n_rows=1), Domain("a:y", n_rows=3))
    update = DomainUpdate((Partition("a", parts), Add("c", n_rows=5), Revise("b", n_rows=6)))
    assert update.carry({"a": 1.0}) == {"a:x": 0.25, "a:y": 0.75}
    after = update.apply(DomainSet([Domain("a", n_rows=4), Domain("b", n_rows=2)]))
    assert after == DomainSet([*parts, Domain("b", n_rows=6), Domain("c", n_rows=5)])
    assert DomainUpdate.from_dict(json.loads(json.dumps(update.as_dict))) == update
    with pytest.raises(DomainError, match=r"parts of 'a' must have row counts.*give every part its rows"):
        DomainUpdate((Partition("a", (Domain("a:x", n_rows=1), Domain("a:y"))),)).carry({"a": 1.0})


def test_updates_in_a_row_carry_as_far_as_they_can() -> None:
    updates = [update(parted("web", a=60, b=40)), update(Remove("web:b")), update(Add("maths", 3))]
    assert carry_through({"code": 1.0}, updates) == {"code": 1.0}
    assert "'web:b', which was removed" in str(carry_through({"web": 1.0}, updates))


def test_plain_values_bring_an_update_back() -> None:
    change = update(Add("maths", 7, "m"), Remove("law"), Revise("code", None), parted("web", a=60, b=40))
    assert DomainUpdate.from_dict(json.loads(json.dumps(change.as_dict))) == change


@pytest.mark.parametrize("record", [{"kind": "merge", "name": "web"}, {"name": "web"}, {"kind": "add", "n": 1}])
def test_a_record_of_something_else_is_refused(record: dict[str, object]) -> None:
    with pytest.raises(DomainError, match="a change must have a kind"):
        DomainUpdate.from_dict({"changes": [record]})
