"""Undo, branches, past states, and the history that the ledger tells of them."""

from pathlib import Path

import numpy as np
import pytest

from evermix.domain_updates import Add, Remove
from evermix.errors import ProjectError
from evermix.study import Study
from tests.study.evolving import NEW, RECIPE, TOKENS, answer, begun, measure

PAPERS, FORUM = (Add(name, NEW[name]) for name in ("papers", "forum"))


@pytest.fixture(scope="module")
def branched(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """papers are added, taken back, and forum is added instead; each is measured and proposed."""
    study = begun(tmp_path_factory.mktemp("branched") / "s")
    for update in (PAPERS, FORUM):
        if study.version.number:
            study.undo()
        plan = study.update(update, "mixture")
        answer(study, study.ask(plan.chosen.n_runs))
        study.propose()
    return study


def test_undo_gives_the_very_same_proposal_as_before(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    before, entries = study.mixture, len(study.project.ledger.entries())
    plan = study.update(PAPERS, "mixture")
    answer(study, study.ask(plan.chosen.n_runs))
    study.tell("run-0003", {"new metric": 2.0})
    study.propose()
    assert study.undo().names == tuple(TOKENS)
    assert study.mixture == before
    assert study.observations()[0].metrics == ("programs", "reading", "sums")
    assert study.observations()[0].n_runs == 15
    written = len(study.project.ledger.entries())
    assert study.propose().mixture == before
    assert len(study.project.ledger.entries()) == written > entries
    assert study.propose().mixture == study.mixture


def test_a_branch_sees_its_ancestors_runs_only(branched: Study) -> None:
    observations, left_out = branched.observations()
    assert branched.domains.names == (*TOKENS, "forum")
    assert observations.n_runs + len(left_out) == 15 + 6
    assert branched.fit_all_runs().observations.n_runs == 21
    assert {version.number: version.parent for version in branched.now().state.versions.versions} == {
        0: None,
        1: 0,
        2: 0,
    }
    assert len(set(observations.run_ids or ())) == 6


def test_undoing_further_reaches_the_first_era_and_then_ends(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    study.update(PAPERS, "mixture")
    study.recompute("maths")
    study.update(FORUM, "full")
    assert study.undo().names == (*TOKENS, "papers")
    assert study.version.recomputed == ("maths",)
    assert study.undo().names == tuple(TOKENS)  # a recomputation goes with its update
    with pytest.raises(ProjectError, match="must be an update to take back"):
        study.undo()


def test_runs_asked_before_an_update_may_be_told_after_it(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    late = study.ask(1)[0]
    study.update(PAPERS, "swarm")
    assert late.run_id not in [run.run_id for run in study.pending()]
    study.tell(late.run_id, measure(late.mixture.as_dict))
    kept, _ = study.observations()
    row = kept.weights[(kept.run_ids or ()).index(late.run_id)]
    np.testing.assert_allclose(row, [*late.mixture.weights, 0.0])
    study.undo()
    assert late.run_id in (study.observations()[0].run_ids or ())


def test_a_run_of_another_branch_cannot_be_told_further(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    study.update(PAPERS, "mixture")
    run = study.ask()[0]
    answer(study, [run])
    study.undo()
    with pytest.raises(Exception, match=r"told in version 1, which was undone.*under another name"):
        study.tell(run.run_id, {"more": 1.0})


def test_every_past_state_can_be_reproduced(branched: Study) -> None:
    entries = branched.project.ledger.entries()
    proposals = [entry for entry in entries if entry.kind == "proposal"]
    assert len(proposals) == 3
    for entry in proposals:
        then = branched.at(entry.number)
        assert then.mixture is not None
        assert then.mixture.as_dict == entry.payload["mixture"]
        assert branched.at(entry.number - 1).recommend().mixture == then.mixture
    assert branched.at(1).domains.names == tuple(TOKENS)
    assert branched.at(1).pending() == []
    for number in (0, len(entries) + 1):
        with pytest.raises(ProjectError, match="between entries 1 and"):
            branched.at(number)


def test_the_history_is_one_graph(branched: Study) -> None:
    history = branched.history()
    assert [node.id for node in history.versions] == ["version 0", "version 1", "version 2"]
    assert [node.current for node in history.versions] == [False, False, True]
    assert [node.n_runs for node in history.versions] == [15, 6, 6]
    assert history.versions[1].fixed_ratio == tuple(TOKENS)
    found = [(edge.kind, edge.source, edge.target) for edge in history.edges]
    assert found == [
        ("propose", "version 0", "mixture 0-0000"),
        ("update", "version 0", "version 1"),
        ("fix", "mixture 0-0000", "version 1"),
        ("propose", "version 1", "mixture 1-0000"),
        ("undo", "version 1", "version 0"),
        ("update", "version 0", "version 2"),
        ("fix", "mixture 0-0000", "version 2"),
        ("propose", "version 2", "mixture 2-0000"),
    ]
    assert [node.id for node in history.mixtures if node.current] == ["mixture 2-0000"]
    nodes = {node.id for node in (*history.versions, *history.mixtures)}
    assert nodes >= {end for edge in history.edges for end in (edge.source, edge.target)}
    assert history.as_dict["edges"][1]["what"] == "add papers"


def test_a_carried_mixture_is_in_the_history(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    study.update(Remove("books"))
    history = study.history()
    assert [edge.kind for edge in history.edges] == ["propose", "update", "fix", "carry"]
    assert history.mixtures[-1].shares == study.mixture.as_dict  # type: ignore[union-attr]
    assert history.mixtures[-1].current


def test_two_processes_that_update_at_once_do_not_both_succeed(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    view = study.now()
    study.update(PAPERS, "mixture")
    from evermix.study.state import write_change

    with pytest.raises(ProjectError, match="another process has changed the domains"):
        write_change(view.state, "undo", {"to": 0})


def test_a_study_closed_and_opened_goes_on_in_its_era(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    study.update(PAPERS, "mixture")
    asked = study.ask(2)
    assert study.remaining == 4
    again = Study(tmp_path / "s", recipe=RECIPE)
    assert again.domains == study.domains
    assert [run.run_id for run in again.pending()] == [run.run_id for run in asked]
    assert {run.mixture for run in again.ask(4)}.isdisjoint({run.mixture for run in asked})
    assert Study(tmp_path / "s", dict(TOKENS)).version.number == 1
