"""What may be told of a run, and when."""

import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from evermix.deciding import next_mixtures
from evermix.domain_updates import Add
from evermix.errors import ObservationError
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from tests.study.evolving import NEW, RECIPE, TOKENS, answer, begun
from tests.study.planted import DOMAINS, measure


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study(tmp_path / "s", TOKENS, RECIPE)


def test_metrics_may_be_added_to_an_old_run(study: Study) -> None:
    run_id = study.ask()[0].run_id
    study.tell(run_id, {"reading": 2.0}, standard_errors={"reading": 0.1})
    study.tell(run_id, {"sums": 3.0}, n_tokens=10**6)
    study.tell(run_id, {"reading": 2.0, "programs": 4.0})
    observations, _ = study.observations()
    assert observations.n_runs == 1
    assert observations.metrics == ("programs", "reading", "sums")
    assert observations.values.tolist() == [[4.0, 2.0, 3.0]]
    assert observations.n_tokens is not None
    entries = len(study.project.ledger.entries())
    study.tell(run_id, {"programs": 4.0})
    assert len(study.project.ledger.entries()) == entries


def test_what_is_proposed_and_asked_next_does_not_depend_on_the_order_of_telling(tmp_path: Path) -> None:
    """Two orders, metrics in any order and some of them later: equal to the last digit, intervals too."""
    weights = np.random.default_rng(3).dirichlet(np.ones(4), 14).tolist()
    runs = [dict(zip(DOMAINS, row, strict=True)) for row in weights]
    found: list[tuple[str, list[Mixture]]] = []
    for seed in range(2):
        rng = np.random.default_rng(seed)
        study = Study(tmp_path / str(seed), DOMAINS, StudyRecipe(law="log-linear", resamples=8))
        for number in rng.permutation(14).tolist():
            metrics = list(measure(runs[number], number).items())
            rng.shuffle(metrics)
            study.tell(f"run {number}", dict(metrics[:2]), mixture=runs[number])
            study.tell(f"run {number}", dict(metrics[2:]))
        proposed = study.propose()
        assert proposed.bootstrap is not None
        assert proposed.bootstrap.kind == "runs"
        found.append((json.dumps(proposed.as_dict), next_mixtures(proposed.fitted, 3)))
    assert found[0] == found[1]


def test_what_was_told_later_cannot_be_changed_either(study: Study) -> None:
    run_id = study.ask()[0].run_id
    study.tell(run_id, {"reading": 2.0})
    study.tell(run_id, {"sums": 3.0})
    for metrics in ({"sums": 3.5}, {"reading": 2.5, "new": 1.0}):
        with pytest.raises(ObservationError, match="told already, with other values"):
            study.tell(run_id, metrics)
    with pytest.raises(ObservationError, match="told already, with other values"):
        study.tell(run_id, {"sums": 3.0}, standard_errors={"sums": 0.1}, n_tokens=5) or study.tell(
            run_id, {}, n_tokens=6
        )
    assert study.observations()[0].metrics == ("reading", "sums")


def test_a_foreign_run_needs_its_mixture_once(study: Study) -> None:
    study.tell("mine", {"reading": 2.0}, mixture={"web": 0.5, "code": 0.5})
    study.tell("mine", {"sums": 2.0})
    study.tell("mine", {"programs": 2.0}, mixture={"web": 0.5, "code": 0.5})
    with pytest.raises(ObservationError, match="told already, with another mixture"):
        study.tell("mine", {"more": 2.0}, mixture={"web": 0.6, "code": 0.4})
    assert study.observations()[0].values.tolist() == [[2.0, 2.0, 2.0]]


def test_after_an_update_old_runs_are_scored_on_new_text(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    study.update(Add("papers", NEW["papers"]), "swarm")
    for number in range(15):
        assert ("held-out papers" in study.observations()[0].metrics) == (number > 0)
        study.tell(f"run-{number:04d}", {"held-out papers": 1.0 + number / 10})
        if number == 1:
            dropped = {item.name: item.reason for item in study.fit().left_out}
            assert "only 2 of 15 runs know it" in dropped["held-out papers"]
    assert "held-out papers" in study.fit().observations.metrics
    old = study.observations()[0].subset(runs=["run-0000"]).weights[0]
    study.tell("run-0000", {"more": 1.0}, mixture=dict(zip(study.domains.names, old, strict=True)))


def test_ids_that_look_like_later_tellings_are_ids(study: Study) -> None:
    for run_id in ("a", "a/1", "a/1/1"):
        study.tell(run_id, {"reading": 2.0}, mixture={"web": 1.0})
        study.tell(run_id, {"sums": 1.0})
    assert study.observations()[0].values.tolist() == [[2.0, 1.0]] * 3


def test_many_processes_add_metrics_to_one_run(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", TOKENS, RECIPE)
    study.tell("mine", {"reading": 1.0}, mixture={"web": 1.0})
    script = textwrap.dedent("""
        import sys
        from evermix.study import Study
        study = Study(sys.argv[1])
        for number in range(2):
            study.tell("mine", {f"{sys.argv[2]} {number}": 1.0, "shared": 2.0})
    """)
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "s"), name], stderr=subprocess.PIPE, text=True)
        for name in "abc"
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=120)
        assert worker.returncode == 0, errors
    assert len(study.observations()[0].metrics) == 2 + 6


def test_processes_ask_and_tell_at_once_in_a_collapsed_era(tmp_path: Path) -> None:
    study = begun(tmp_path / "s")
    plan = study.update(Add("papers", NEW["papers"]), "mixture")
    assert plan.chosen.n_runs == 6
    script = textwrap.dedent("""
        import sys
        from evermix.study import Study
        from tests.study.evolving import answer
        study = Study(sys.argv[1])
        for _ in range(2):
            answer(study, study.ask())
    """)
    answer(study, study.ask(5))  # so that what lies beyond the design can be chosen
    workers = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path / "s")], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    for worker in workers:
        _, errors = worker.communicate(timeout=300)
        assert worker.returncode == 0, errors
    observations, _ = study.observations()
    assert observations.n_runs == 9
    assert len({tuple(row) for row in observations.weights.tolist()}) == 9


def test_runs_of_several_sizes_are_not_pooled(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", DOMAINS, StudyRecipe(law="power-link", resamples=0, kl=0.1))
    for number, trial in enumerate(study.ask(10)):
        for size in (20_000_000, 60_000_000):
            metrics = {name: value - size / 1e8 for name, value in measure(trial.mixture.as_dict, number).items()}
            study.tell(f"{trial.run_id}-{size}", metrics, mixture=trial.mixture, n_parameters=size)
    with pytest.raises(ObservationError, match=r"got '20M \(10 runs\), 60M \(10 runs\)"):
        study.propose()
    with pytest.raises(ObservationError, match="60000000 parameters instead of 20000000"):
        study.tell("run-0000-20000000", {}, n_parameters=60_000_000)
    found = Study(tmp_path / "s", where={"model_size": "60M"}).propose()
    assert set(found.fitted.observations.run_ids or ()) == {f"run-{k:04d}-60000000" for k in range(10)}
    assert len(found.fitted.left_out) == 10
    assert study.project.ledger.entries("proposal")[0].payload["runs"] == list(found.fitted.observations.run_ids or ())
