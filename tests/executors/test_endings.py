"""However a run ends, no process works on: Ctrl-C, termination, kill -9 of the parent; and it can be taken up again."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from evermix.executors import Job, LocalProcesses

ROOT = Path(__file__).parents[2]
PARENT = """
import json, sys
from pathlib import Path
from evermix.executors import Job, LocalProcesses
folder, function, count, seconds = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
jobs = []
for n in range(count):
    arguments = {"marker": str(folder / f"{n}.done"), "n": n, "seconds": seconds, "child": True,
                 "hold": "hold" in sys.argv, "pids": str(folder / f"{n}.pids")}
    jobs.append(Job(f"n{n}", f"tests.executors.jobs:{function}", arguments, folder / f"{n}.done"))
failures = LocalProcesses(2, retries=0, logs=folder / "logs").run(jobs)
print(json.dumps([failure.reason for failure in failures]))
"""


def start_parent(folder: Path, function: str, count: int, seconds: float = 0.0, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", PARENT, str(folder), function, str(count), str(seconds), *more]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether the process has ended: no longer there, or a zombie that nobody has reaped yet."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return True
    return status.rsplit(")", 1)[1].split()[0] == "Z"


def busy_pids(folder: Path, count: int) -> list[tuple[int, int]]:
    """Worker and its child, of each of the `count` jobs that never end."""
    files = [folder / f"{n}.pids" for n in range(count)]
    wait_for(lambda: all(file.exists() for file in files))
    pairs = [tuple(map(int, file.read_text().split())) for file in files]
    return [(worker, child) for worker, child in pairs]


@pytest.mark.parametrize(
    ("number", "how"),
    [
        (signal.SIGKILL, "sleep"),
        (signal.SIGTERM, "sleep"),
        pytest.param(signal.SIGKILL, "hold", marks=pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")),
    ],
)
def test_no_worker_outlives_a_killed_parent(tmp_path: Path, number: signal.Signals, how: str) -> None:
    with start_parent(tmp_path, "beat", 2, 0.0, how) as parent:
        pids = busy_pids(tmp_path, 2)
        parent.send_signal(number)
        assert parent.wait(30) == -number
        wait_for(lambda: all(gone(worker) for worker, _ in pids))
    for _, child in pids:  # a child of a job may outlive a killed parent: see docs/executors.md
        if not gone(child):
            os.kill(child, signal.SIGKILL)


def test_ctrl_c_ends_workers_and_their_children(tmp_path: Path) -> None:
    with start_parent(tmp_path, "beat", 2) as parent:
        pids = busy_pids(tmp_path, 2)
        parent.send_signal(signal.SIGINT)
        _, errors = parent.communicate(timeout=30)
    assert errors.rstrip().endswith("KeyboardInterrupt")
    assert "Exception ignored" not in errors
    wait_for(lambda: all(gone(pid) for pair in pids for pid in pair))


def test_ctrl_c_goes_up_and_leaves_nothing(tmp_path: Path) -> None:
    pids = tmp_path / "0.pids"
    arguments = {"marker": str(tmp_path / "0.done"), "pids": str(pids), "child": True}
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))

    def interrupt() -> None:
        wait_for(pids.exists)
        os.kill(os.getpid(), signal.SIGINT)

    interrupter = threading.Thread(target=interrupt)
    interrupter.start()
    with pytest.raises(KeyboardInterrupt):
        LocalProcesses(1, logs=tmp_path / "logs").run(
            [Job("a", "tests.executors.jobs:beat", arguments, tmp_path / "0.done")]
        )
    interrupter.join()
    assert all(gone(pid) for pid in map(int, pids.read_text().split()[:1]))
    wait_for(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)


@pytest.mark.parametrize("seed", range(2))
def test_a_run_cut_by_kills_of_the_parent_is_taken_up(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for kill in range(4):
        least = 2 * kill
        with start_parent(tmp_path, "once_at_a_time", 20, seconds=0.1) as parent:
            wait_for(lambda least=least: len(list(tmp_path.glob("*.done"))) >= least)  # type: ignore[misc]
            time.sleep(rng.random() * 0.1)
            parent.kill()
    with start_parent(tmp_path, "once_at_a_time", 20) as parent:
        output, errors = parent.communicate(timeout=60)
    assert (json.loads(output), errors) == ([], "")
    assert [int((tmp_path / f"{n}.done").read_text()) for n in range(20)] == [n * n for n in range(20)]
    assert not list(tmp_path.glob("logs/*"))


def test_the_log_of_a_job_that_a_killed_run_finished_is_gone(tmp_path: Path) -> None:
    job = Job("a", "tests.executors.jobs:touch", {"marker": str(tmp_path / "a.done")}, tmp_path / "a.done")
    (tmp_path / "logs").mkdir()
    for file in ("a.done", "logs/a.log", "logs/other.log"):
        (tmp_path / file).touch()
    assert LocalProcesses(1, logs=tmp_path / "logs").run([job]) == []
    assert [log.name for log in (tmp_path / "logs").iterdir()] == ["other.log"]


def start_worker(folder: Path, parent: int) -> tuple[subprocess.Popen[bytes], int]:
    """A worker without an executor, and the descriptor on which its messages come."""
    results, given = os.pipe()
    command = [sys.executable, "-m", "evermix.executors.worker", str(given), str(parent)]
    worker = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, pass_fds=[given], start_new_session=True, bufsize=0
    )
    os.close(given)
    return worker, results


def test_a_busy_worker_ends_with_its_children_when_its_input_closes(tmp_path: Path) -> None:
    worker, results = start_worker(tmp_path, os.getpid())
    assert worker.stdin is not None
    arguments = {"pids": str(tmp_path / "0.pids"), "child": True}
    request = {"call": "tests.executors.jobs:beat", "arguments": arguments, "log": str(tmp_path / "log")}
    for line in ({"path": [*sys.path, str(ROOT)]}, request):
        worker.stdin.write(json.dumps(line).encode() + b"\n")
    ((_, child),) = busy_pids(tmp_path, 1)
    worker.stdin.close()
    assert worker.wait(30) == -signal.SIGKILL
    wait_for(lambda: gone(child))
    assert os.read(results, 1000) == b'{"kind": "ready"}\n'
    os.close(results)


def test_a_worker_whose_parent_died_before_it_could_look_ends_at_once(tmp_path: Path) -> None:
    worker, results = start_worker(tmp_path, parent=1)
    assert worker.stdin is not None
    assert worker.wait(30) == -signal.SIGKILL
    assert os.read(results, 1000) == b""
    os.close(results)
    worker.stdin.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_two_interrupts_at_once_leave_nothing(tmp_path: Path, number: signal.Signals) -> None:
    script = f"import signal; signal.signal({int(number)}, signal.default_int_handler)\n{PARENT}"
    command = [sys.executable, "-c", script, str(tmp_path), "beat", "2", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE) as parent:
        pids = busy_pids(tmp_path, 2)
        parent.send_signal(number)
        parent.send_signal(number)
        parent.communicate(timeout=30)
    wait_for(lambda: all(gone(pid) for pair in pids for pid in pair))


def test_handlers_of_signals_are_as_before(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    job = Job("a", "tests.executors.jobs:touch", {"marker": str(tmp_path / "a")}, tmp_path / "a")
    assert LocalProcesses(1, logs=tmp_path / "logs").run([job]) == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_run_in_another_thread(tmp_path: Path) -> None:
    job = Job("a", "tests.executors.jobs:touch", {"marker": str(tmp_path / "a")}, tmp_path / "a")
    thread = threading.Thread(target=LocalProcesses(1, logs=tmp_path / "logs").run, args=([job],))
    thread.start()
    thread.join(30)
    assert job.finished
