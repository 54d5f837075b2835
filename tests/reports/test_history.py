"""The tree of domain sets and mixtures, and past states, of a study whose history is known."""

import io
from pathlib import Path

import pytest
from rich.console import Console

import evermix as em
from evermix.domain_updates import Add, Remove
from evermix.errors import ProjectError
from evermix.ledger import Ledger
from evermix.reports.history import Branch, open_study, past_state, print_history, print_past_state, tree
from evermix.study import Study


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    recipe = em.StudyRecipe(law="log-linear", resamples=0, kl=0.1)
    study = Study(folder, {"web": 600, "code": 300, "maths": 100}, recipe)
    for asked in study.ask(study.remaining):
        study.tell(asked.run_id, {"reading": 2 - asked.mixture["web"] / 4, "sums": 2 - asked.mixture["maths"] / 3})
    study.propose()
    study.update(Add("papers <new>", 200), strategy="mixture")
    study.undo()
    study.update(Remove("code"), strategy="mixture")
    return folder


def nodes(branch: Branch) -> list[Branch]:
    return [branch, *(node for below in branch.below for node in nodes(below))]


def test_tree_has_every_version_mixture_and_way_back(project: Path) -> None:
    root = tree(open_study(project).history())
    found = nodes(root)
    assert [node.kind for node in found] == ["version", "mixture", "version", "undo", "version", "mixture"]
    assert found[2].label == "version 1: add papers <new> (mixture)"
    assert "at a fixed ratio as in mixture 0-0000: web, code, maths" in found[2].detail
    assert found[3].label == "taken back: back to version 0"
    assert found[4].label == "version 2: remove code (mixture)"
    assert [node.current for node in found] == [False, False, False, False, True, True]
    assert found[5].label == "mixture 2-carried, renormalised, without runs"
    entries = [node.entry for node in root.below]
    assert entries == sorted(entries)


def test_printed_tree_marks_where_the_study_is(project: Path) -> None:
    console = Console(record=True, width=140, file=io.StringIO())
    print_history(open_study(project).history(), console)
    text = console.export_text()
    assert text.count("<- now") == 2
    assert "web" in text
    assert "papers <new>" in text


def test_any_past_state_comes_back(project: Path) -> None:
    found = {node.label.split(":")[0].split(",")[0]: node for node in nodes(tree(open_study(project).history()))}
    before = past_state(project, found["mixture 0-0000"].entry)
    assert [row.name for row in before.domains] == ["web", "code", "maths"]
    assert sum(row.share for row in before.domains) == pytest.approx(1.0)
    during = past_state(project, found["version 1"].entry)
    assert [row.name for row in during.domains] == ["web", "code", "maths", "papers <new>"]
    assert during.fixed_ratio == ("web", "code", "maths")
    assert {row.share for row in during.domains} == {None}
    after = past_state(project, found["version 2"].entry)
    web, maths = (row.share for row in after.domains)
    old = {row.name: row.share for row in before.domains}
    assert web / maths == pytest.approx(old["web"] / old["maths"])
    console = Console(record=True, width=140, file=io.StringIO())
    print_past_state(during, console)
    assert "no mixture was decided yet" in console.export_text()


def test_states_that_never_were(project: Path, tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="a past state must be one between"):
        past_state(project, 10_000)
    Ledger(tmp_path / "p" / "ledger.sqlite").append("probe", "1", {})
    with pytest.raises(ProjectError, match="needs a swarm or a study"):
        open_study(tmp_path / "p")


def test_page_of_a_study_tells_its_history(project: Path) -> None:
    page = em.report(project).read_text(encoding="utf-8")
    assert "A study of 2 domains" in page
    assert "add papers &lt;new&gt;" in page
    assert "<new>" not in page
