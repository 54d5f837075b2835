"""Rules on domains that an update has removed, renamed or partitioned."""

from pathlib import Path
from typing import Any

import pytest

from evermix.domain_updates import Add, Partition, Remove
from evermix.domains import Domain, DomainSet
from evermix.errors import ConstraintError, DomainError
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from tests.study.evolving import NEW, RECIPE, TOKENS, answer, begun

PARTS = (Domain("web:news", 2 * 10**11), Domain("web:blogs", 4 * 10**11))


def recipe(**keys: Any) -> StudyRecipe:
    return StudyRecipe.model_validate({**RECIPE.model_dump(exclude_unset=True), **keys})


def updated(folder: Path, asked: StudyRecipe, *changes: Any) -> Study:
    study = Study(folder, DomainSet(Domain(name, n, name) for name, n in TOKENS.items()), asked)
    study.update(changes, "full")
    return study


def today(study: Study) -> tuple[dict[str, Any], list[str]]:
    found, left_out = study.now().recipe_today
    return found.model_dump(exclude_unset=True), [item.name for item in left_out]


def test_rules_on_a_removed_domain_are_left_out_by_name(tmp_path: Path) -> None:
    asked = recipe(
        constraints={"floors": {"books": 0.1, "code": 0.2}, "groups": {"prose": {"members": ["books"], "least": 0.1}}},
        compare={"old": {"books": 0.5, "code": 0.5}, "gone": {"books": 1.0}},
    )
    found, left_out = today(updated(tmp_path / "s", asked, Remove("books")))
    assert found["constraints"] == {"floors": {"code": 0.2}, "groups": {}}
    assert found["compare"] == {"old": {"code": 1.0}}
    assert left_out == [
        "group prose",
        "floors books",
        "share of books in compare old",
        "share of books in compare gone",
    ]


def test_rules_on_a_partitioned_domain_hold_for_its_parts_together(tmp_path: Path) -> None:
    asked = recipe(constraints={"caps": {"web": 0.3}, "floors": {"web": 0.1}}, prior={"web": 0.6, "code": 0.4})
    study = updated(tmp_path / "s", asked, Partition("web", PARTS))
    found, left_out = today(study)
    group = found["constraints"]["groups"]["parts of web"]
    assert (group["least"], group["greatest"]) == (0.1, 0.3)
    assert found["prior"] == pytest.approx({"web:news": 0.2, "web:blogs": 0.4, "code": 0.4})
    assert not left_out
    answer(study, study.ask(12))
    mixture = study.propose().mixture
    assert 0.1 - 1e-9 <= mixture["web:news"] + mixture["web:blogs"] <= 0.3 + 1e-9


def test_rules_follow_a_renamed_domain(tmp_path: Path) -> None:
    asked = recipe(constraints={"fixed": {"web": 0.3}, "groups": {"g": {"members": ["web", "code"], "least": 0.5}}})
    study = updated(tmp_path / "s", asked, Remove("web"), Add("internet", TOKENS["web"], "web"))
    found, left_out = today(study)
    assert found["constraints"]["fixed"] == {"internet": 0.3}
    assert found["constraints"]["groups"]["g"]["members"] == ("internet", "code")
    assert not left_out


def test_a_given_prior_gives_a_new_domain_its_natural_share(tmp_path: Path) -> None:
    study = updated(tmp_path / "s", recipe(prior={"web": 0.5, "code": 0.5}), Add("forum", 10**12))
    found, _ = today(study)
    assert found["prior"] == pytest.approx({"web": 0.25, "code": 0.25, "forum": 0.5})
    mine = recipe(prior={"web": 0.9, "code": 0.1})
    assert Study(tmp_path / "s", recipe=mine).now().recipe_today[0].prior == {"web": 0.9, "code": 0.1}


def test_a_name_that_was_never_a_domain_is_refused(tmp_path: Path) -> None:
    begun(tmp_path / "s", propose=False)
    for keys in (
        {"constraints": {"caps": {"wbe": 0.1}}},
        {"constraints": {"groups": {"g": {"members": ["wbe:"], "least": 0.1}}}},
        {"compare": {"old": {"wbe": 1.0}}},
        {"prior": {"wbe": 1.0}},
    ):
        with pytest.raises((DomainError, ConstraintError), match="wbe"):
            Study(tmp_path / "s", recipe=recipe(**keys)).propose()


def test_a_rule_on_a_domain_of_an_undone_branch_is_left_out(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    study.update(Add("papers", NEW["papers"]), "swarm")
    study.tell("run-0000", {"held-out papers": 2.0})
    study.undo()
    asked = recipe(
        constraints={"floors": {"papers": 0.1}}, objective={"weights": {"reading": 1.0, "held-out papers": 1.0}}
    )
    again = Study(tmp_path / "s", recipe=asked)
    found, left_out = today(again)
    assert left_out == ["floors papers", "objective held-out papers"]
    assert found["objective"]["weights"] == {"reading": 1.0}
    assert again.propose().mixture.domains.names == tuple(TOKENS)
    with pytest.raises(ConstraintError, match="must name a metric"):
        Study(tmp_path / "s", recipe=recipe(objective={"weights": {"redaing": 1.0}})).propose()
