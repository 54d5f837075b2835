"""Work is done once, whatever kills it; a damaged record names the folder to delete."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from evermix.errors import ProjectError
from evermix.executors.cached import CachedJob

_KILLED_AT_WORK = """
import os, signal, sys
from pathlib import Path
from evermix.executors.cached import CachedJob

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
