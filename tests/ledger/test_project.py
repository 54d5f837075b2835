"""The project folder: locks between processes, atomic files."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from evermix.errors import ProjectError
from evermix.files import remove_tree, write_atomically, write_json
from evermix.ledger import Project, content_hash

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
