"""The ledger: append-only, once per key, readable by plain SQLite, safe with several writers."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from evermix.errors import ProjectError
from evermix.ledger import Ledger


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
