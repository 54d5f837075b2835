"""Ask, tell, propose, update on a planted world, in one process and in several."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from evermix.domain_updates import Add, Partition, Remove
from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError, ObservationError, ProjectError
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from tests.study.planted import DOMAINS, METRICS, measure, true_objective

QUICK = StudyRecipe(law="power-link", resamples=20, kl=0.05)


def grown(folder: Path, n: int = 14, recipe: StudyRecipe = QUICK) -> Study:
    study = Study(folder, DOMAINS, recipe)
    for number in range(n):
        if number % 7 == 0:
            batch = iter(study.ask(min(7, n - number)))
        asked = next(batch)
        study.tell(asked.run_id, measure(asked.mixture.as_dict, number))
    return study


def test_a_study_finds_nearly_the_best_mixture_and_says_what_it_gains(tmp_path: Path) -> None:
    found = grown(tmp_path / "s").propose()
    domains = DomainSet(DOMAINS)
    natural = true_objective(found.fitted.prior.mixture.as_dict)
    grid = np.random.default_rng(0).dirichlet(np.ones(4), 20_000)
    best = min(true_objective(dict(zip(DOMAINS, p, strict=True))) for p in grid)
    reached = true_objective(found.mixture.as_dict)
    assert reached < best + 0.1 * (natural - best)
    gain = found.bootstrap.gain("natural")
    assert gain.interval.low < natural - reached < gain.interval.high
    assert found.mixture.domains.names == domains.names
    assert found.mixture["spam"] < 0.02


def test_asked_runs_are_new_and_reproducible(tmp_path: Path) -> None:
    first, second = Study(tmp_path / "a", DOMAINS, QUICK), Study(tmp_path / "b", DOMAINS, QUICK)
    asked, again = [*first.ask(3), *first.ask(4)], second.ask(7)
    assert [a.mixture for a in asked] == [a.mixture for a in again]
    assert len({a.mixture for a in asked}) == len({a.run_id for a in asked}) == 7
    assert [p.run_id for p in first.pending()] == [a.run_id for a in asked]


def test_past_its_design_a_study_asks_where_it_matters_and_keeps_its_predictions(tmp_path: Path) -> None:
    study = grown(tmp_path / "s", 10)
    more = study.ask(2)
    assert len({a.mixture for a in more}) == 2
    for number, asked in enumerate(more):
        study.tell(asked.run_id, measure(asked.mixture.as_dict, 100 + number))
    said = study.predictions()
    assert [f.run_id for f in said] == [a.run_id for a in more]
    for one in said:
        assert one.predicted == pytest.approx(one.measured, abs=0.15)


def test_before_enough_runs_a_proposal_is_refused_with_the_way_out(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", DOMAINS, QUICK)
    with pytest.raises(ObservationError, match=r"must have runs to learn from.*ask\(\) and tell\(\)"):
        study.propose()
    with pytest.raises(ObservationError, match="at least 1"):
        study.ask(0)
    with pytest.raises(ObservationError, match=r"once at least 4 are told, got '0 told, 0 pending'.*ask for 2 less"):
        study.ask(12)
    assert len(study.ask(10)) == 10


def test_telling_twice_is_harmless_and_telling_otherwise_is_an_error(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", DOMAINS, QUICK)
    run_id = study.ask()[0].run_id
    study.tell(run_id, {"reading": 2.0})
    study.tell(run_id, {"reading": 2.0})
    with pytest.raises(ObservationError, match="told already, with other values"):
        study.tell(run_id, {"reading": 2.5})
    assert study.observations()[0].n_runs == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "2.0", True, None])
def test_a_value_that_is_no_number_is_refused_by_name(tmp_path: Path, value: object) -> None:
    study = Study(tmp_path / "s", DOMAINS, QUICK)
    run_id = study.ask()[0].run_id
    with pytest.raises(ObservationError, match="'reading' of run 'run-0000' must be a finite number"):
        study.tell(run_id, {"reading": value})  # type: ignore[dict-item]


def test_a_foreign_run_needs_its_mixture(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", DOMAINS, QUICK)
    with pytest.raises(ObservationError, match="come with its mixture"):
        study.tell("mine", {"reading": 2.0})
    study.tell("mine", {"reading": 2.0}, mixture={"web": 0.5, "code": 0.5})
    assert study.observations()[0].run_ids == ("mine",)
    with pytest.raises(DomainError, match="wbe"):
        study.tell("other", {"reading": 2.0}, mixture={"wbe": 1.0})


def test_a_study_opens_again_and_refuses_other_domains(tmp_path: Path) -> None:
    grown(tmp_path / "s", 2)
    assert Study(tmp_path / "s").domains.names == tuple(DOMAINS)
    assert Study(tmp_path / "s", DOMAINS).observations()[0].n_runs == 2
    with pytest.raises(ProjectError, match="domains it began with"):
        Study(tmp_path / "s", {"web": 1, "books": 2})
    with pytest.raises(ProjectError, match="must be given its domains"):
        Study(tmp_path / "nothing")


def test_an_update_carries_runs_over_and_lists_those_it_strands(tmp_path: Path) -> None:
    study = grown(tmp_path / "s")
    before = study.observations()[0]
    after = study.update([Add("papers", 10**10), Remove("spam")], "swarm").domains
    assert after.names == ("web", "code", "maths", "papers")
    kept, stranded = study.observations()
    with_spam = {r for r, w in zip(before.run_ids, before.weights[:, 3], strict=True) if w > 0}
    assert {item.name for item in stranded} == with_spam
    assert set(kept.run_ids) == set(before.run_ids) - with_spam
    assert not kept.weights[:, 3].any()
    assert study.ask()[0].mixture.domains == after


def test_after_a_partition_every_run_still_counts(tmp_path: Path) -> None:
    study = grown(tmp_path / "s")
    before = study.observations()[0]
    study.update(Partition("web", (Domain("web:news", 6 * 10**11), Domain("web:forums", 3 * 10**11))), "full")
    kept, stranded = study.observations()
    assert not stranded
    np.testing.assert_allclose(kept.weights[:, :2].sum(axis=1), before.weights[:, 0])
    np.testing.assert_allclose(kept.weights[:, 0], 2 * kept.weights[:, 1])


def test_a_domain_that_no_run_has_seen_keeps_its_prior_share(tmp_path: Path) -> None:
    study = grown(tmp_path / "s")
    study.update(Add("papers", 10**11), "swarm")
    found = study.propose()
    assert found.fitted.unsampled_domains == ("papers",)
    assert found.mixture["papers"] == pytest.approx(found.fitted.prior.mixture["papers"])


def test_many_processes_tell_and_ask_at_once(tmp_path: Path) -> None:
    Study(tmp_path / "s", DOMAINS, QUICK)
    script = textwrap.dedent("""
        import sys
        from evermix.study import Study
        from tests.study.planted import measure
        study = Study(sys.argv[1])
        for number in range(2):
            asked = study.ask()[0]
            study.tell(asked.run_id, measure(asked.mixture.as_dict, number))
    """)
    command = [sys.executable, "-c", script, str(tmp_path / "s")]
    workers = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    observations = Study(tmp_path / "s").observations()[0]
    assert observations.n_runs == 8
    assert set(observations.metrics) == set(METRICS)
    assert len(np.unique(observations.weights, axis=0)) == 8


def test_a_mixture_object_may_be_told(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", DOMAINS, QUICK)
    mixture = Mixture.uniform(study.domains)
    study.tell("mine", {"reading": 2.0}, mixture=mixture, standard_errors={"reading": 0.1}, n_tokens=10**6)
    observations = study.observations()[0]
    np.testing.assert_allclose(observations.weights[0], mixture.weights)
    assert observations.standard_errors is not None
    assert observations.n_tokens is not None


def test_the_first_swarm_may_be_given_its_size(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", DOMAINS, QUICK, n_runs=7)
    assert study.remaining == 7
    study.ask(5)
    assert Study(tmp_path / "s").remaining == 2
    with pytest.raises(ObservationError, match="first swarm must be at least 1"):
        Study(tmp_path / "t", DOMAINS, n_runs=0)
