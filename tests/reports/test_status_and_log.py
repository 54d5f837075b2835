import io
import json
import os
from pathlib import Path

import pytest
from rich.console import Console

import evermix as em
from evermix.domain_updates import Add, Remove
from evermix.errors import ProjectError
from evermix.ledger import Ledger
from evermix.reports.log import read_log
from evermix.reports.progress import print_status, read_status
from evermix.study import Study

from .synthetic_result import result


def write_status(project: Path, pid: int, part: str = "training") -> None:
    project.mkdir(exist_ok=True)
    live = {"part": part, "detail": "uniform", "step": 3, "total_steps": 10, "tokens_per_second": 5e3, "pid": pid}
    (project / "status.json").write_text(json.dumps({**live, "updated_at": "2026-01-01T00:00:00+00:00"}))


def dead_pid() -> int:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return child


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_running_stopped_done(tmp_path: Path) -> None:
    write_status(tmp_path, os.getpid())
    assert em.status(tmp_path)["state"] == "running"
    write_status(tmp_path, dead_pid())
    assert em.status(tmp_path)["state"] == "stopped"
    assert em.status(tmp_path)["seconds_since_update"] > 0
    write_status(tmp_path, os.getpid(), "done")
    (tmp_path / "result.json").write_text(json.dumps(result()))
    found = em.status(tmp_path)
    assert found["state"] == "done"
    assert "under uniform" in found["headline"]


def test_status_counts_the_ledger(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    for number in range(3):
        ledger.append("probe", str(number), {"component": f"d{number}", "steps": 5})
    assert em.status(tmp_path)["entries"] == {"probe": 3}
    with pytest.raises(ProjectError, match="must exist"):
        em.status(tmp_path / "absent")


def test_log_tells_the_story(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    decision = result()["decisions"][0]
    ledger.append("recipe", "r", {"seed": 7, "domains": [{"name": "a"}], "training": {"tokens": 2_000_000}})
    segment = {"arm": "uniform", "start_step": 0, "end_step": 40, "n_tokens": 4096, "flops": 1e9, "seconds": 2.0}
    ledger.append("segment", "s", segment)
    ledger.append("probe", "p", {"component": "web", "steps": 25, "flops": 5e8, "seconds": 1.0})
    ledger.append("decision", "d", decision)
    realised = {name: loss + 0.5 for name, loss in decision["predicted_loss_nats"].items()}
    ledger.append("outcome", "o", {**decision, "realised_loss_nats": realised})
    ledger.append("something-new", "key", {})
    stories = {entry["kind"]: entry["story"] for entry in read_log(tmp_path)}
    assert stories["recipe"] == "2M tokens over 1 domains, seed 7"
    assert stories["segment"] == "trained uniform, steps 0 to 40, 4.1k tokens"
    assert stories["probe"] == "probed web for 25 steps"
    assert "noise 10.0% to 2.0%" in stories["decision"]
    assert "held by constraints: web (epochs)" in stories["decision"]
    assert stories["outcome"].startswith("realised against predicted: off by 0.500 nats")
    assert stories["something-new"] == "key"


def test_a_study_is_told_in_its_own_words(tmp_path: Path) -> None:
    study = Study(tmp_path / "s", {"web": 100, "code": 50})
    run_id = study.ask()[0].run_id
    study.tell(run_id, {"reading": 2.0})
    study.tell("mine", {"reading": 2.5}, mixture={"web": 0.25, "code": 0.75})
    study.tell("mine", {"sums": 1.5})
    study.update([Add("maths", 7), Remove("web")], strategy="full")
    study.undo()
    stories = [entry["story"] for entry in read_log(tmp_path / "s")]
    assert stories[0] == "a study of 2 domains: web, code"
    assert stories[1].startswith("run-0000: ")
    assert stories[2].startswith("run-0000 measured reading 2")
    assert stories[4] == "mine measured further sums 1.500"
    assert stories[5].startswith("add maths; remove web (strategy full, ")
    assert stories[6] == "taken back: era 0 goes on"
    found = read_status(tmp_path / "s")
    assert found["state"] == "study"
    assert found["entries"] == {"study": 1, "ask": 1, "tell": 2, "retell": 1, "change": 2}
    printed = Console(record=True, width=100, file=io.StringIO())
    print_status(found, printed)
    assert "1 asked for, 2 told; 0 proposals" in printed.export_text()
