"""Ledger and project folder: append-only, whole after a kill, held by one process at a time."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

import evermix as em
from evermix import ledger as ledger_module
from evermix.errors import ProjectError
from evermix.files import remove_tree, write_atomically, write_json
from evermix.ledger import Ledger, Project, content_hash
from evermix.version import SCHEMA_VERSION


def test_entries_come_back_in_order_and_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    assert ledger.append("probe", "a", {"x": 1.5, "größe": "ü"})
    assert ledger.append("decision", "a", {"y": [1, 2]})
    assert not ledger.append("probe", "a", {"x": 2})
    assert [(e.kind, e.key, e.payload) for e in ledger.entries()] == [
        ("probe", "a", {"x": 1.5, "größe": "ü"}),
        ("decision", "a", {"y": [1, 2]}),
    ]
    assert [e.kind for e in ledger.entries("decision")] == ["decision"]
    found = ledger.find("probe", "a")
    assert found is not None
    assert found.payload["x"] == 1.5
    assert ledger.find("probe", "b") is None


def test_plain_sqlite_cannot_change_or_remove(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    ledger.append("probe", "a", {})
    connection = sqlite3.connect(tmp_path / "ledger.sqlite")
    for statement in ("update entries set key = 'b'", "delete from entries"):
        with pytest.raises(sqlite3.DatabaseError, match="append-only"):
            connection.execute(statement)
    connection.close()


def test_nan_is_refused_and_a_damaged_file_named(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.sqlite")
    with pytest.raises(ValueError, match="JSON"):
        ledger.append("probe", "a", {"x": float("nan")})
    (tmp_path / "broken.sqlite").write_bytes(b"not a database at all, but long enough" * 100)
    with pytest.raises(ProjectError, match=r"broken\.sqlite"):
        Ledger(tmp_path / "broken.sqlite")


def test_several_processes_append_at_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    Ledger(path)
    program = (
        "import sys; from pathlib import Path; from evermix.ledger import Ledger\n"
        "ledger = Ledger(Path(sys.argv[1]))\n"
        "for k in range(20): ledger.append('run', f'{sys.argv[2]}-{k}', {'k': k})"
    )
    processes = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(3)]
    assert [process.wait(timeout=60) for process in processes] == [0, 0, 0]
    entries = Ledger(path).entries("run")
    assert len(entries) == 60
    assert [e.number for e in entries] == sorted(e.number for e in entries)


_HOLD = """
import sys, time
from pathlib import Path
from evermix.ledger import Project
with Project(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_run_is_refused_and_told_of_the_first(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLD, str(tmp_path / "p")], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(ProjectError, match=f"process {holder.pid} on "), Project(tmp_path / "p").lock():
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    with Project(tmp_path / "p").lock():
        pass


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "p").write_text("x")
    with pytest.raises(ProjectError, match="must be a folder"):
        Project(tmp_path / "p")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json(target, {"x": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(target, {"x": float("inf")})
    with pytest.raises(UnicodeEncodeError):
        write_atomically(target, "\ud800")
    assert target.read_text() == '{\n "x": 1\n}\n'
    assert os.listdir(tmp_path) == ["a.json"]


def test_content_hash_ignores_key_order_only() -> None:
    assert content_hash({"a": 1, "b": [1, 2]}) == content_hash({"b": [1, 2], "a": 1})
    assert content_hash({"a": 1}) != content_hash({"a": 2})


def test_remove_tree(tmp_path: Path) -> None:
    (tmp_path / "run" / "deep").mkdir(parents=True)
    remove_tree(tmp_path / "run")
    remove_tree(tmp_path / "run")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(("version", "words"), [(0, "none, so it is of an evermix before 0.5.0"), (999, "version 999")])
def test_a_ledger_of_another_evermix_is_refused_by_all_that_read_it(tmp_path: Path, version: int, words: str) -> None:
    project = tmp_path / "project"
    Project(project).ledger.append("study", "definition", {"domains": [["web", 1, None]]})
    connection = sqlite3.connect(project / "ledger.sqlite")
    connection.execute(f"pragma user_version = {version}")
    connection.close()
    for read in (Project, em.status, em.log, em.report, em.Study):
        with pytest.raises(
            ProjectError, match=rf"laid out as this evermix does, version {SCHEMA_VERSION}, got .*{words}"
        ):
            read(project)


def test_processes_that_begin_one_ledger_at_once_agree(tmp_path: Path) -> None:
    program = "import sys, pathlib; from evermix.ledger import Ledger; "
    program += "Ledger(pathlib.Path(sys.argv[1])).append('a', sys.argv[2], {})"
    path = tmp_path / "ledger.sqlite"
    running = [subprocess.Popen([sys.executable, "-c", program, str(path), str(n)]) for n in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert {entry.key for entry in Ledger(path).entries()} == {"0", "1", "2", "3"}


def test_a_kill_while_a_ledger_begins_leaves_one_that_can_be_begun(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    statements = ledger_module._SCHEMA.split("commit;")[0]
    connection = sqlite3.connect(path)
    connection.executescript(statements)  # killed before the commit
    connection.close()
    assert Ledger(path).append("probe", "a", {})
    assert Ledger(path).find("probe", "a") is not None
