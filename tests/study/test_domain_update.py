"""Updates of a domain set, against what the runs were really trained on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError
from evermix.study.domain_update import DomainUpdate, carry_through

WEB_CODE = DomainSet([Domain("web", 100), Domain("code", 50)])


def change(**parts: object) -> DomainUpdate:
    given_parts = {"add": {}, "remove": (), "revise": {}, "partition": {}, **parts}
    return DomainUpdate(**given_parts)  # type: ignore[arg-type]


def test_domains_after_every_kind_of_update() -> None:
    assert change(add={"maths": 7}).apply(WEB_CODE) == DomainSet([*WEB_CODE, Domain("maths", 7)])
    assert change(remove=("web",)).apply(WEB_CODE) == DomainSet([Domain("code", 50)])
    assert change(revise={"web": 90}).apply(WEB_CODE) == DomainSet([Domain("web", 90), Domain("code", 50)])
    parted = change(partition={"web": {"web:a": 60, "web:b": 40}}).apply(WEB_CODE)
    assert parted == DomainSet([Domain("web:a", 60), Domain("web:b", 40), Domain("code", 50)])


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "must add, remove, revise or partition"),
        ({"remove": ("web",), "revise": {"web": 3}}, "touch a domain once"),
        ({"partition": {"web": {"web:a": 1}}}, "at least two parts"),
    ],
)
def test_senseless_updates_are_refused(parts: dict[str, object], message: str) -> None:
    with pytest.raises(DomainError, match=message):
        change(**parts)


@pytest.mark.parametrize("parts", [{"remove": ("wbe",)}, {"revise": {"wbe": 1}}, {"add": {"web": 3}}])
def test_unknown_and_taken_names_are_refused(parts: dict[str, object]) -> None:
    with pytest.raises(DomainError, match=r"wbe|web"):
        change(**parts).apply(WEB_CODE)


def test_a_run_on_a_removed_or_revised_domain_is_lost_with_its_reason() -> None:
    assert "'web', which was removed" in str(change(remove=("web",)).carry({"web": 0.2, "code": 0.8}))
    assert "'web', which was revised" in str(change(revise={"web": 9}).carry({"web": 0.2, "code": 0.8}))
    assert change(remove=("web",)).carry({"code": 1.0}) == {"code": 1.0}


@given(share=st.floats(0.0, 1.0), a=st.integers(1, 10**12), b=st.integers(1, 10**12))
def test_a_partition_splits_by_tokens_and_keeps_the_sum(share: float, a: int, b: int) -> None:
    carried = change(partition={"web": {"web:a": a, "web:b": b}}).carry({"web": share, "code": 1 - share})
    assert isinstance(carried, dict)
    assert sum(carried.values()) == pytest.approx(1)
    if share > 0:
        assert carried["web:a"] * b == pytest.approx(carried["web:b"] * a)


def test_parts_of_unknown_size_cannot_split_a_run() -> None:
    with pytest.raises(DomainError, match="must have token counts"):
        change(partition={"web": {"web:a": None, "web:b": 3}}).carry({"web": 1.0})


def test_several_updates_in_a_row() -> None:
    first = change(partition={"web": {"web:a": 1, "web:b": 3}})
    second = change(remove=("web:a",))
    assert carry_through({"code": 1.0}, [first, second]) == {"code": 1.0}
    assert "removed" in str(carry_through({"web": 1.0}, [first, second]))
    assert carry_through({"web": 1.0}, [first]) == {"web:a": 0.25, "web:b": 0.75}


def test_a_record_reads_back() -> None:
    update = change(add={"maths": None}, remove=("web",), partition={"code": {"code:c": 1, "code:py": 2}})
    assert DomainUpdate.from_dict(update.as_dict) == update
