"""A list of jobs that is not in order is refused before anything runs; a cached job is done once, whatever kills it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evermix.errors import ExecutorError
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
    assert not job.is_whole()
    assert job.run(lambda folder: {"answer": folder.name}) == {"answer": "job"}
    assert job.is_whole()
    assert job.run(_never) == job.record() == {"answer": "job"}


@pytest.mark.parametrize("resumable", [False, True])
def test_what_a_killed_attempt_left_is_removed_or_gone_on_with(job: CachedJob, resumable: bool) -> None:
    killed = subprocess.run([sys.executable, "-c", _KILLED_AT_WORK, str(job.folder)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert (job.folder / "half").exists()
    assert not job.is_whole()
    record = job.run(lambda folder: {"answer": sorted(path.name for path in folder.iterdir())}, resumable=resumable)
    assert record == {"answer": ["half"] if resumable else []}


def test_work_that_fails_is_not_done(job: CachedJob) -> None:
    with pytest.raises(ZeroDivisionError):
        job.run(lambda folder: {"answer": 1 / 0})
    assert not job.is_whole()
    with pytest.raises(FileNotFoundError):
        job.record()


def _make(folder: Path) -> dict[str, Any]:
    (folder / "weights").mkdir()
    (folder / "weights" / "model.safetensors").write_bytes(bytes(range(256)) * 64)
    (folder / "optimizer.pt").write_bytes(b"needed no more")
    CachedJob(folder / "scores", ("loss",)).run(lambda _: {"loss": 1.5})
    return {"answer": 42.5, "seconds": {"a": 1}}


def _marker(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def damage(marker: Path) -> None:
        marker.write_text(json.dumps(change(json.loads(marker.read_text()))))

    return damage


def _weights(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def damage(marker: Path) -> None:
        file = marker.parent / "weights" / "model.safetensors"
        file.write_bytes(change(file.read_bytes()))

    return damage


DAMAGE: dict[str, Callable[[Path], None]] = {
    "zeroed block": _weights(lambda raw: raw[:4096] + bytes(4096) + raw[8192:]),
    "one bit": _weights(lambda raw: bytes([raw[0] ^ 1]) + raw[1:]),
    "cut": _weights(lambda raw: raw[:-1]),
    "longer": _weights(lambda raw: raw + b"x"),
    "gone": lambda marker: (marker.parent / "weights" / "model.safetensors").unlink(),
    "marker empty": lambda marker: marker.write_bytes(b""),
    "marker zeroed": lambda marker: marker.write_bytes(bytes(marker.stat().st_size)),
    "marker cut": lambda marker: marker.write_text(marker.read_text()[:-20]),
    "marker a list": lambda marker: marker.write_text("[]"),
    "marker deep": lambda marker: marker.write_text("[" * 100_000),
    "another value": _marker(lambda record: record | {"answer": 43.5}),
    "a key less": _marker(lambda record: {key: record[key] for key in ("answer", "seal")}),
    "another hash": _marker(lambda record: record | {"seal": record["seal"] | {"record": "0" * 64}}),
    "no seal": _marker(lambda record: {"answer": 42.5}),
    "no file sealed": _marker(lambda record: record | {"seal": record["seal"] | {"files": {}}}),
}


@pytest.mark.parametrize("resumable", [False, True])
@pytest.mark.parametrize("kind", DAMAGE)
def test_what_is_damaged_is_done_again_and_said(
    kind: str, resumable: bool, job: CachedJob, caplog: pytest.LogCaptureFixture
) -> None:
    made = job.run(_make)
    undamaged = (job.folder / "weights" / "model.safetensors").read_bytes()
    DAMAGE[kind](job.marker)
    assert not CachedJob(job.folder, job.keys).is_whole()
    assert not (job.folder / "weights" / "model.safetensors").exists(), "nothing goes on with what is damaged"
    assert (job.folder / "scores" / "done.json").exists(), "work of its own stays"
    assert str(job.marker if "marker" in kind or "weights" not in caplog.text else job.folder) in caplog.text

    def again(folder: Path) -> dict[str, Any]:
        for place in ("weights", "scores"):
            shutil.rmtree(folder / place, ignore_errors=True)
        return _make(folder)

    assert job.run(again, resumable=resumable) == made == {"answer": 42.5, "seconds": {"a": 1}}
    assert (job.folder / "weights" / "model.safetensors").read_bytes() == undamaged
    assert job.run(_never) == made


def test_all_files_and_folders_are_on_disk_before_the_marker(job: CachedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut could leave a valid marker above weights that were never written."""
    synced: set[int] = set()
    fsync, rename = os.fsync, os.replace

    def syncing(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def renaming(source: Path, target: Path) -> None:
        if target == job.marker:
            made = [path for path in job.folder.rglob("*") if path.name != "done.json" and path != source]
            missing = [path for path in (job.folder, job.folder.parent, *made) if path.stat().st_ino not in synced]
            assert missing == []
        rename(source, target)

    monkeypatch.setattr(os, "fsync", syncing)
    monkeypatch.setattr(os, "replace", renaming)
    job.run(_make)
    assert job.is_whole()


def test_leftovers_are_removed_and_not_missed(job: CachedJob) -> None:
    without = replace(job, leftovers=frozenset({"optimizer.pt"}))
    without.run(_make)
    assert not (job.folder / "optimizer.pt").exists()
    assert job.run(_never) == without.run(_never)
    other = replace(job, folder=job.folder.with_name("other"))
    other.run(_make)
    replace(other, leftovers=without.leftovers).run(_never)
    assert (other.folder / "optimizer.pt").exists(), "whoever made it goes on with it"
    assert other.run(_never)


def test_a_file_is_hashed_once_per_process(job: CachedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    job.run(_make)
    hashed: list[Path] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda stream, name: hashed.append(stream.name) or digest(stream, name))
    past = time.time() - 60
    for file in (job.folder / "weights" / "model.safetensors", job.folder / "optimizer.pt"):
        os.utime(file, (past, past))
    time.sleep(0.15)  # until the files are old enough for their times to tell
    for _ in range(3):
        assert job.is_whole()
    assert sorted(Path(name).name for name in hashed) == ["model.safetensors", "optimizer.pt"]
    file.write_bytes(b"needed NO more")
    assert not job.is_whole()
