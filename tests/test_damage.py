"""Damaged projects: whatever is damaged, everybody who opens it answers or says in one line what is wrong."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

import evermix as em
from evermix import ledger as ledger_module
from evermix.errors import ProjectError
from evermix.executors.job import CachedJob
from evermix.ledger import Ledger, Project
from evermix.study import Study

from .cli.called import evermix
from .damage import attack
from .reports.synthetic_result import one_phase


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project of a study, with a swarm's entries, a decision, a result, and finished work."""
    folder = tmp_path_factory.mktemp("projects") / "p"
    study = Study(folder, {"web": 100, "code": 50})
    (trial,) = study.ask(1)
    study.tell(trial.run_id, {"loss": 2.0})
    ledger, result = Ledger(folder / "ledger.sqlite"), one_phase()
    recipe = {"seed": 7, "domains": [{"name": "web"}, {"name": "code"}], "training": {"tokens": 2_000_000}}
    ledger.append("recipe", "r", recipe)
    ledger.append("decision", "d", result.decisions[0].model_dump(mode="json"))
    ledger.append("result", "r", result.to_json())
    result.save(folder / "result.json")
    Project(folder).set_status(part="done", detail="finished", step=3, total_steps=10, tokens_per_second=5e3)

    def work(place: Path) -> dict[str, float]:
        (place / "weights.bin").write_bytes(bytes(range(256)) * 40)
        return {"seconds": 1.0}

    CachedJob(folder / "runs" / "a", ("seconds",)).run(work)
    ledger.append("segment", "a", {"label": "a"})
    return folder


def test_nobody_ends_in_a_trace(project: Path, tmp_path: Path) -> None:
    faults, refused = attack(project, tmp_path, n_cases=40)
    assert faults == []
    assert min(refused[verb] for verb in ("status", "report", "run")) > 10, "most damage is found"
    assert refused["check"] == 0, "it lists what is damaged"


def test_bytes_that_are_no_text_are_damage(project: Path, tmp_path: Path) -> None:
    shutil.copytree(project, tmp_path / "p")
    ledger = tmp_path / "p" / "ledger.sqlite"
    ledger.write_bytes(ledger.read_bytes().replace(b"on entries", b"on entr\xf2es"))  # SQLite names it in its message
    for look in (em.status, em.log):
        with pytest.raises(ProjectError, match=r"ledger\.sqlite: the ledger must be whole"):
            look(tmp_path / "p")


def test_check_lists_what_is_damaged_with_the_way_out(project: Path, tmp_path: Path) -> None:
    assert em.check(project).is_whole
    copy = tmp_path / "p"
    shutil.copytree(project, copy)
    weights = copy / "runs" / "a" / "weights.bin"
    weights.write_bytes(bytes(weights.stat().st_size))
    content = json.loads((copy / "result.json").read_text())
    (copy / "result.json").write_text(json.dumps(content | {"seed": content["seed"] + 1}))
    outcome = evermix("check", copy, "--json")
    assert outcome.code == 1
    found = outcome.json
    assert not found["is_whole"]
    assert [str(weights) in found["faults"][1]["what"], "result.json" in found["faults"][0]["what"]] == [True, True]
    assert "run the same command again" in found["faults"][1]["way_out"]
    assert f"damaged: {weights}" in evermix("check", copy).out
    (copy / "runs" / "a" / "done.json").unlink()
    assert any("done.json is gone" in fault.what for fault in em.check(copy).faults)
    assert evermix("check", project).code == 0
    assert evermix("check", tmp_path / "absent").code == 2


def test_a_held_ledger_is_named_with_the_way_out(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(project, tmp_path / "p")
    monkeypatch.setattr(ledger_module, "_BUSY_SECONDS", 0.05)
    ledger = Ledger(tmp_path / "p" / "ledger.sqlite")
    with closing(sqlite3.connect(ledger.path)) as other:
        other.execute("begin exclusive")
        with pytest.raises(ProjectError, match=r"must not hold the ledger .*locked.*Hint: wait for it or stop it"):
            ledger.append("a", "b", {})
    assert ledger.append("a", "b", {})


_AS_READER = """
import ctypes, os, sys
if os.getuid() == 0:  # permissions hold for root too once it has given up CAP_DAC_OVERRIDE
    header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capget(header, sets) == 0
    for k in range(3):
        sets[k] &= ~2
    assert ctypes.CDLL(None).capset(header, sets) == 0
import evermix as em
from evermix.errors import ProjectError
from pathlib import Path
project, out = Path(sys.argv[1]), Path(sys.argv[2])
assert not os.access(project, os.W_OK)
study = em.Study(project, read_only=True)
print(em.status(project).state, len(em.log(project)), em.check(project).is_whole, study.domains.names)
print(em.report(project, out))
for verb in (em.report, em.Study):
    try:
        verb(project)
    except ProjectError as error:
        print(error)
"""


def test_a_project_that_may_not_be_written_is_read(project: Path, tmp_path: Path) -> None:
    """And its last process was killed, so that an entry is in the write-ahead log alone."""
    copy, out = tmp_path / "p", tmp_path / "out"
    shutil.copytree(project, copy)
    n_entries = len(em.log(copy))
    with closing(sqlite3.connect(copy / "ledger.sqlite")) as open_connection:
        open_connection.execute("select 1 from entries").fetchone()
        Ledger(copy / "ledger.sqlite").append("late", "entry", {})
        for end in ("", "-wal"):
            shutil.copy(copy / f"ledger.sqlite{end}", tmp_path / f"ledger.sqlite{end}")
    for end in ("", "-wal"):
        shutil.move(tmp_path / f"ledger.sqlite{end}", copy / f"ledger.sqlite{end}")
    assert (copy / "ledger.sqlite-wal").stat().st_size > 0
    n_entries += 1
    (copy / "result.json").unlink()  # drawing less is faster
    out.mkdir()
    before = {path: path.read_bytes() for path in sorted(copy.rglob("*")) if path.is_file()}
    for path in (*copy.rglob("*"), copy):
        path.chmod(0o555 if path.is_dir() else 0o444)
    told = subprocess.run(
        [sys.executable, "-c", _AS_READER, str(copy), str(out / "r.html")],
        capture_output=True,
        text=True,
        check=False,
    )
    for path in (copy, *copy.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert told.returncode == 0, told.stderr
    lines = told.stdout.splitlines()
    assert lines[0] == f"done {n_entries} True ('web', 'code')"
    assert lines[1] == str(out / "r.html")
    assert "--out report.html" in lines[2]
    assert "must be writable" in lines[3]
    assert {path: path.read_bytes() for path in sorted(copy.rglob("*")) if path.is_file()} == before
