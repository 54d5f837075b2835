import json
import os
from pathlib import Path

import pytest

import evermix as em
from evermix.domain_updates import Add, Remove
from evermix.errors import ProjectError
from evermix.ledger import Ledger, Project
from evermix.lifecycle.progress import Reporter
from evermix.reports import log as read_log
from evermix.reports import print_log, print_status
from evermix.results import Compute
from evermix.study import Study

from .printing import page_of, printed
from .synthetic_result import one_phase, phases, proposal, swarm


def write_status(project: Path, pid: int, part: str = "training") -> None:
    project.mkdir(exist_ok=True)
    live = {"part": part, "detail": "uniform", "step": 3, "total_steps": 10, "tokens_per_second": 5e3, "pid": pid}
    (project / "status.json").write_text(json.dumps({**live, "updated_at": "2026-01-01T00:00:00+00:00"}))


def test_running_stopped_done(tmp_path: Path) -> None:
    """The lock is asked: the number of a process may belong to another one by now."""
    write_status(tmp_path, os.getpid())
    with Project(tmp_path).lock():
        found = em.status(tmp_path)
        assert found.state == "running"
        assert f"running (process {os.getpid()} on " in printed(print_status, found, width=200)
    assert em.status(tmp_path).state == "stopped"
    assert (em.status(tmp_path).seconds_since_update or 0) > 0
    write_status(tmp_path, os.getpid(), "done")
    one_phase().save(tmp_path / "result.json")
    found = em.status(tmp_path)
    assert found.state == "done"
    assert "lower than uniform" in (found.headline or "")


def test_status_says_which_arm_and_how_far_all_of_them_are(tmp_path: Path) -> None:
    """Arm 2 of 3, each of 100 steps, 40 of them done: nearly the end of a part is not the end of the run."""
    reporter = Reporter(Project(tmp_path), None)
    reporter.expect(300)
    with reporter.stage("arm 1 of 3 (natural)", 100):
        pass
    with reporter.stage("arm 2 of 3 (uniform)", 100):
        with reporter.part("training", "pretraining: training to step 41", 41, tokens_per_step=1, start=40):
            pass
        found = em.status(tmp_path)
        words = " ".join(printed(print_status, found).split())
        assert "part pretraining: training to step 41 of arm 2 of 3 (uniform) step 40 of 41 (98%) of this part" in words
        assert "over all 47% of the work of all arms" in words
        with reporter.part("probes", "probing pretraining", 10):
            pass
        assert em.status(tmp_path).live.share_of_run == pytest.approx(140 / 300, abs=1e-4)
    reporter.done()
    assert em.status(tmp_path).live.share_of_run is None


def test_status_counts_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(3):
        ledger.append("probe", str(number), {"component": f"d{number}", "steps": 5})
    assert em.status(tmp_path).entries == {"probe": 3}
    with pytest.raises(ProjectError, match="must exist"):
        em.status(tmp_path / "absent")


def test_log_tells_the_story(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    decision = one_phase().decisions[0]
    ledger.append("recipe", "r", {"seed": 7, "domains": [{"name": "a"}], "training": {"tokens": 2_000_000}})
    spent = Compute.of("training", 1e9, 4096, 2.0).model_dump()
    segment = {"label": "uniform", "part": "training", "start_row": 0, "end_row": 1640, "compute": spent}
    ledger.append("segment", "s", {**segment, "mixture": {"web": 0.25, "law": 0.75}})
    ledger.append("probe", "p", {"component": "web", "steps": 25, "flops": 5e8, "seconds": 1.0})
    ledger.append("decision", "d", decision.model_dump(mode="json"))
    ledger.append("phase-begun", "b", {"path": ["base", "law"]})
    realised = {name: loss + 0.5 for name, loss in decision.predicted_loss_nats.items()}
    outcome = {"predicted_loss_nats": decision.predicted_loss_nats, "realised_loss_nats": realised}
    ledger.append("outcome", "o", outcome)
    ledger.append("source", "law@0123", {"name": "law", "files": ["law.jsonl"], "registry": None, "dataset": None})
    ledger.append("something-new", "key", {})
    lines = {line.kind: line for line in read_log(tmp_path)}
    stories = {kind: line.story for kind, line in lines.items()}
    assert stories["recipe"] == "2M tokens over 1 domains, seed 7"
    assert stories["segment"] == "trained uniform, rows 0 to 1,640, 4.1k tokens: law 75.0%, web 25.0%"
    assert stories["probe"] == "probed web for 25 steps"
    assert "noise 10.0% to 2.0%" in stories["decision"]
    assert "held by constraints: web (epochs)" in stories["decision"]
    assert "predicted objective 15.1 (start 15.9, natural 17.2)" in stories["decision"]
    assert stories["outcome"].startswith("realised against predicted: off by 0.500 nats")
    assert stories["phase-begun"] == "began phase base > law"
    assert stories["source"] == "law: text of law.jsonl"
    assert stories["something-new"] == "key"
    assert lines["decision"].flops == pytest.approx(1.01e12)
    text = printed(print_log, read_log(tmp_path), width=200)
    assert "spent: training 1 GFLOP, probes 500 MFLOP, decisions 1.01 TFLOP" in text


def test_log_and_status_of_phases(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    named = [{"name": "base", "add": []}, {"name": "law", "add": [{"name": "law"}]}]
    recipe = {"phases": named, "domains": [{"name": "web"}], "arms": ["evermix", "retrain"], "seed": 3}
    ledger.append("recipe", "r", recipe)
    spent = Compute.of("training", 3e9, 40_960, 4.0).model_dump()
    segment = {"label": "law: training", "phase": "law", "start_row": 1, "end_row": 2, "compute": spent}
    ledger.append("segment", "s", segment)
    decision = phases(3).arms["evermix"].orders[0][2].decisions[0]
    ledger.append("decision", "d", decision.model_dump(mode="json"))
    stories = {line.kind: line.story for line in read_log(tmp_path)}
    assert stories["recipe"] == "2 phases (base, law) over 2 domains, arms evermix, retrain, seed 3"
    assert stories["decision"].startswith("Decision of arm evermix before s2: mode probe-law; 30.0% for <b>books</b>")
    (tmp_path / "status.json").write_text(json.dumps({"part": "training", "pid": 0}))
    assert "1 segment, 1 decision" in printed(print_status, em.status(tmp_path), width=200)
    _, parsed = page_of(tmp_path, None)
    assert "Not finished: 1 trainings and 1 decisions so far." in parsed.text
    assert "law: training" in parsed.text
    assert "base, law" in parsed.text


def test_status_is_the_headline_once_there_is_a_result(tmp_path: Path) -> None:
    phases().save(tmp_path / "result.json")
    assert (em.status(tmp_path).headline or "").startswith("After 4 phases, evermix has")
    swarm(proposal()).save(tmp_path / "result.json")
    assert (em.status(tmp_path).headline or "").startswith("Predicted gain of the mixture")
    plain = em.status(tmp_path).as_dict
    assert json.loads(json.dumps(plain)) == plain
    assert plain["state"] == "done"


def test_a_study_is_told_in_its_own_words(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", {"web": 100, "code": 50})
    run_id = study.ask()[0].run_id
    study.tell(run_id, {"reading": 2.0})
    study.tell("mine", {"reading": 2.5}, mixture={"web": 0.25, "code": 0.75})
    study.tell("mine", {"sums": 1.5})
    study.update([Add("maths", 7), Remove("web")], strategy="full")
    study.undo()
    stories = [line.story for line in read_log(tmp_path / "s")]
    assert stories[0] == "a study of 2 domains: web, code"
    assert stories[1].startswith("run-0000: ")
    assert stories[2].startswith("run-0000 measured reading 2")
    assert stories[4] == "mine measured further sums 1.500"
    assert stories[5].startswith("add maths; remove web (strategy full, ")
    assert stories[6] == "taken back: version 0 goes on"
    found = em.status(tmp_path / "s")
    assert found.state == "study"
    assert found.entries == {"study": 1, "ask": 1, "tell": 2, "retell": 1, "change": 2}
    assert "1 asked for, 2 told; 0 proposals" in printed(print_status, found)
