"""A list of jobs that is not in order is refused before anything runs; a cached job is done once, whatever kills it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import ExecutorError, ProjectError
from evermix.executors import Job, LocalProcesses
from evermix.executors.job import CachedJob, log_name, one_line


def refused(tmp_path: Path, jobs: list[Job]) -> str:
    with pytest.raises(ExecutorError) as caught:
        LocalProcesses(1, logs=tmp_path / "logs").run(jobs)
    assert not (tmp_path / "logs").exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_keys_differ(tmp_path: Path) -> None:
    jobs = [Job("a", "m:f", {}, tmp_path / "1"), Job("a", "m:f", {}, tmp_path / "2")]
    assert refused(tmp_path, jobs) == "the jobs of one run must have different keys, got 'a'"


def test_markers_differ(tmp_path: Path) -> None:
    jobs = [Job("a", "m:f", {}, tmp_path / "1"), Job("b", "m:f", {}, tmp_path / "1")]
    assert refused(tmp_path, jobs).startswith("jobs a and b must not share the marker")


@pytest.mark.parametrize("value", [Path("x"), float("nan"), {1, 2}, b"bytes"])
def test_arguments_are_json(tmp_path: Path, value: object) -> None:
    good = Job("good", "m:f", {}, tmp_path / "0")
    assert refused(tmp_path, [good, Job("bad", "m:f", {"x": value}, tmp_path / "1")]).startswith("job bad: arguments")


@pytest.mark.parametrize("call", ["", "module", "module.function", ":f", "m:", "m:f.g", "a b:f", "1m:f", "m:f()"])
def test_calls_are_checked(call: str) -> None:
    with pytest.raises(ExecutorError, match=r"must read package\.module:function"):
        Job("a", call, {}, Path("done"))


def test_keys_are_not_empty() -> None:
    with pytest.raises(ExecutorError, match="must have a key"):
        Job("", "m:f", {}, Path("done"))


@given(st.text(min_size=1))
def test_log_names_are_file_names(key: str) -> None:
    name = log_name(key)
    assert Path(name).name == name
    assert not name.startswith(".")
    assert len(name.encode()) <= 255


def test_plain_keys_name_their_log() -> None:
    assert log_name("run-0012_a.b=c@d,e+f") == "run-0012_a.b=c@d,e+f.log"


@given(st.text())
def test_reasons_are_one_printable_line(message: str) -> None:
    line = one_line(ValueError(message))
    assert line.isprintable()
    assert len(line) <= 500


_KILLED_AT_WORK = """
import os, signal, sys
from pathlib import Path
from evermix.executors.job import CachedJob

def work(folder):
    (folder / "half").write_text("made before the kill")
    os.kill(os.getpid(), signal.SIGKILL)

CachedJob(Path(sys.argv[1]), ("answer",)).run(work)
"""


@pytest.fixture
def job(tmp_path: Path) -> CachedJob:
    return CachedJob(tmp_path / "deep" / "job", ("answer",))


def _never(folder: Path) -> dict[str, Any]:
    pytest.fail("done work was done again")


def test_work_is_done_once_and_its_record_kept(job: CachedJob) -> None:
    assert not job.is_done
    assert job.run(lambda folder: {"answer": folder.name}) == {"answer": "job"}
    assert job.is_done
    assert job.run(_never) == job.record() == {"answer": "job"}


@pytest.mark.parametrize("resumable", [False, True])
def test_what_a_killed_attempt_left_is_removed_or_gone_on_with(job: CachedJob, resumable: bool) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED_AT_WORK, str(job.folder)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (job.folder / "half").exists()
    assert not job.is_done
    record = job.run(lambda folder: {"answer": sorted(path.name for path in folder.iterdir())}, resumable=resumable)
    assert record == {"answer": ["half"] if resumable else []}


def test_work_that_fails_is_not_done(job: CachedJob) -> None:
    with pytest.raises(ZeroDivisionError):
        job.run(lambda folder: {"answer": 1 / 0})
    assert not job.is_done
    with pytest.raises(FileNotFoundError):
        job.record()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"question": 1}'])
def test_a_damaged_record_names_the_folder_to_delete(job: CachedJob, content: str) -> None:
    job.run(lambda folder: {"answer": 42})
    job.marker.write_text(content)
    with pytest.raises(ProjectError, match="must be whole JSON") as caught:
        job.run(_never)
    assert f"delete the folder {job.folder}" in str(caught.value)
