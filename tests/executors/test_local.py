"""Real worker processes: what is run, what is run again, what is given up, and what is left behind (nothing)."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from evermix.errors import ExecutorError
from evermix.executors import Job, JobEvent, LocalProcesses
from evermix.executors.process import available_cores


def job(folder: Path, function: str, key: str = "a", **arguments: Any) -> Job:
    """A job of tests.executors.jobs with its marker in `folder`."""
    marker = folder / f"{key}.done"
    return Job(key, f"tests.executors.jobs:{function}", {"marker": str(marker), **arguments}, marker)


def squares(folder: Path, count: int, function: str = "square", **arguments: Any) -> list[Job]:
    return [job(folder, function, f"n{n}", n=n, **arguments) for n in range(count)]


ELDERS: set[int] = set()  # children that the process had before the test, as other libraries leave them behind


def children() -> set[int]:
    """Process ids of this process's children, of every thread, but for those older than the test."""
    lists = [path.read_text(encoding="ascii") for path in Path("/proc/self/task").glob("*/children")]
    return {int(pid) for text in lists for pid in text.split()} - ELDERS


@pytest.fixture(autouse=True)
def elders() -> None:
    """Notes what children there were before the test."""
    ELDERS.clear()
    ELDERS.update(children())


class Events(list[JobEvent]):
    """A watcher that keeps what it is told."""

    def __call__(self, event: JobEvent) -> None:
        self.append(event)

    def kinds(self, key: str) -> list[str]:
        kinds = [event.kind for event in self if event.job.key == key]
        return [kind for kind in kinds if kind != "progress"]


@pytest.mark.parametrize("workers", [1, 3])
def test_every_job_is_done(tmp_path: Path, workers: int) -> None:
    jobs, events = squares(tmp_path, 10), Events()
    assert LocalProcesses(workers, logs=tmp_path / "logs").run(jobs, events) == []
    assert [int(each.marker.read_text()) for each in jobs] == [n * n for n in range(10)]
    assert all(events.kinds(each.key) == ["started", "finished"] for each in jobs)
    assert list((tmp_path / "logs").iterdir()) == []
    assert not children()


def test_workers_are_kept_and_no_more_than_asked_for(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "identity", f"n{n}") for n in range(12)]
    assert LocalProcesses(2, logs=tmp_path / "logs").run(jobs) == []
    assert len({each.marker.read_text() for each in jobs}) in (1, 2)


def test_no_jobs_and_no_new_jobs_start_nothing(tmp_path: Path) -> None:
    executor, events = LocalProcesses(2, logs=tmp_path / "logs"), Events()
    assert executor.run([], events) == []
    done = job(tmp_path, "fail", n=1)
    done.marker.write_text("before")
    assert executor.run([done], events) == []
    assert [event.kind for event in events] == ["skipped"]
    assert not (tmp_path / "logs").exists()


def test_what_is_done_stays_done(tmp_path: Path) -> None:
    executor, jobs, events = LocalProcesses(2, logs=tmp_path / "logs"), squares(tmp_path, 4), Events()
    executor.run(jobs[:2])
    times = [each.marker.stat().st_mtime_ns for each in jobs[:2]]
    executor.run(jobs, events)
    assert [each.marker.stat().st_mtime_ns for each in jobs[:2]] == times
    assert [events.kinds(each.key)[-1] for each in jobs] == ["skipped", "skipped", "finished", "finished"]


def test_progress_comes_in_order_and_ends_complete(tmp_path: Path) -> None:
    events = Events()
    LocalProcesses(1, logs=tmp_path / "logs").run([job(tmp_path, "square", n=3, seconds=0.6)], events)
    seen = [(event.done, event.total) for event in events if event.kind == "progress"]
    assert seen == sorted(seen)
    assert seen[-1] == (10, 10)
    assert len(seen) >= 5
    assert events[-1].kind == "finished"
    assert (events[-1].done, events[-1].total) == (10, 10)
    assert 0.6 <= events[-1].seconds < 60


def test_a_failing_job_is_tried_twice_and_named_and_the_others_go_on(tmp_path: Path) -> None:
    jobs, events = squares(tmp_path, 5), Events()
    jobs[2] = job(tmp_path, "fail", "n2", n=3)
    (failure,) = LocalProcesses(2, logs=tmp_path / "logs").run(jobs, events)
    assert failure.job is jobs[2]
    assert failure.reason == "ValueError: n must be even, got 3"
    assert events.kinds("n2") == ["started", "retried", "started", "failed"]
    assert [event.reason for event in events if event.kind in ("retried", "failed")] == [failure.reason] * 2
    log = failure.log.read_text(encoding="utf-8")
    assert log.count("just before") == 2
    assert log.count("in fail\n") == 2
    assert "attempt 2: ValueError: n must be even, got 3" in log
    assert list((tmp_path / "logs").iterdir()) == [failure.log]
    assert sum(each.marker.exists() for each in jobs) == 4


def test_a_retry_runs_in_a_fresh_worker_and_leaves_no_log(tmp_path: Path) -> None:
    failing, *identities = [job(tmp_path, "fail_first"), *(job(tmp_path, "identity", f"n{n}") for n in range(4))]
    jobs = [identities[0], failing, *identities[1:]]
    assert LocalProcesses(1, logs=tmp_path / "logs").run(jobs) == []
    attempts = failing.marker.read_text().split()
    others = {each.marker.read_text() for each in identities[1:]}
    assert len({*attempts, *others}) == 3  # the one that failed, the one that went on, and a new one
    assert not others & set(attempts)
    assert list((tmp_path / "logs").iterdir()) == []


def test_what_evermix_refuses_is_not_tried_again(tmp_path: Path) -> None:
    events = Events()
    (failure,) = LocalProcesses(1, 3, logs=tmp_path / "logs").run([job(tmp_path, "refuse", n=1)], events)
    assert events.kinds("a") == ["started", "failed"]
    assert failure.reason == "TrainingError: training diverged at step 1 (a: 1). Hint: lower the learning rate"


@pytest.mark.parametrize(("function", "attempts"), [("fail", 2), ("refuse", 1)])
@pytest.mark.parametrize(("workers", "few"), [(1, 3), (2, 4)])
def test_what_fails_every_job_ends_the_run_after_a_few(
    tmp_path: Path, function: str, attempts: int, workers: int, few: int
) -> None:
    """Reasons that differ in numbers and names are one; the jobs behind are never begun."""
    jobs, events = [job(tmp_path, function, f"n{n}", n=2 * n + 1) for n in range(20)], Events()
    with pytest.raises(ExecutorError, match=f"the first {few} jobs failed for one reason, and the other {20 - few}"):
        LocalProcesses(workers, logs=tmp_path / "logs").run(jobs, events)
    begun = {event.job.key for event in events}
    assert few <= len(begun) <= few + workers
    assert sum(event.kind == "started" for event in events) <= attempts * (few + workers)
    assert not children()


def test_failures_that_are_not_alike_or_not_of_all_end_nothing(tmp_path: Path) -> None:
    executor = LocalProcesses(2, logs=tmp_path / "logs")
    jobs = [job(tmp_path, "refuse" if n % 2 else "fail", f"n{n}", n=2 * n + 1) for n in range(6)]
    assert len(executor.run(jobs)) == 6
    jobs = [*squares(tmp_path, 1), *(job(tmp_path, "refuse", f"m{n}", n=n) for n in range(6))]
    executor.run(jobs[:1])
    assert len(executor.run(jobs)) == 6  # one had succeeded before
    assert len(executor.run(jobs[1:4])) == 3  # none is left to be spared


def test_retries_can_be_none_or_many(tmp_path: Path) -> None:
    events = Events()
    LocalProcesses(1, 0, logs=tmp_path / "logs").run([job(tmp_path, "fail", n=1)], events)
    assert events.kinds("a") == ["started", "failed"]
    LocalProcesses(1, 3, logs=tmp_path / "logs").run([job(tmp_path, "fail", n=1)], events)
    assert events.kinds("a")[2:] == ["started", "retried"] * 3 + ["started", "failed"]
    log = (tmp_path / "logs" / "a.log").read_text()
    assert log.count("just before") == 4  # the log begins anew with each run


@pytest.mark.parametrize(
    ("function", "arguments", "reason"),
    [
        ("die", {}, "worker died: signal 9 (killed, perhaps by the system for want of memory: use fewer workers)"),
        ("die", {"signal": signal.SIGSEGV}, "worker died: signal 11"),
        ("leave", {"abrupt": True}, "worker died: exit code 3"),
        ("leave", {}, "SystemExit: 4"),
        ("fork_and_die", {}, "worker died: signal 9 (killed"),
        ("nowhere", {}, "AttributeError: module 'tests.executors.jobs' has no attribute 'nowhere'"),
    ],
)
def test_death_is_noticed_at_once_and_named(tmp_path: Path, function: str, arguments: Any, reason: str) -> None:
    jobs = [job(tmp_path, function, **arguments), *squares(tmp_path, 2)]
    began = time.monotonic()
    (failure,) = LocalProcesses(1, logs=tmp_path / "logs").run(jobs)
    assert time.monotonic() - began < 20  # the jobs themselves would sleep for a minute
    assert failure.reason.startswith(reason)
    assert f"attempt 2: {reason}" in failure.log.read_text()
    assert not children()


def test_the_trace_of_a_crash_is_in_the_log(tmp_path: Path) -> None:
    (failure,) = LocalProcesses(1, 0, logs=tmp_path).run([job(tmp_path, "die", signal=signal.SIGSEGV)])
    assert "last words" in failure.log.read_text()
    assert "Fatal Python error: Segmentation fault" in failure.log.read_text()


def test_a_missing_marker_is_a_failure_that_says_so(tmp_path: Path) -> None:
    (failure,) = LocalProcesses(1, logs=tmp_path / "logs").run([job(tmp_path, "forget")])
    assert failure.reason == f"the job returned without writing its marker {tmp_path / 'a.done'}"
    assert failure.reason in failure.log.read_text()


def test_a_marker_written_before_death_counts(tmp_path: Path) -> None:
    events = Events()
    assert LocalProcesses(1, logs=tmp_path / "logs").run([job(tmp_path, "die", late=True)], events) == []
    assert events.kinds("a") == ["started", "finished"]


@pytest.mark.parametrize("function", ["noise", "close_descriptors"])
def test_no_noise_disturbs_the_protocol(tmp_path: Path, function: str) -> None:
    jobs, events = [job(tmp_path, function, f"n{n}") for n in range(3)], Events()
    assert LocalProcesses(2, 0, logs=tmp_path / "logs").run(jobs, events) == []
    assert all(events.kinds(each.key) == ["started", "finished"] for each in jobs)


def test_rubbish_on_the_channel_itself_fails_the_job(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "rubbish"), *squares(tmp_path, 2)]
    (failure,) = LocalProcesses(1, 0, logs=tmp_path / "logs").run(jobs)
    assert failure.reason == "the worker's channel must carry JSON messages, got b'rubbish'"


def test_keys_and_arguments_of_any_script(tmp_path: Path) -> None:
    keys = ["wiki:数学:高", "a/b", "a_b", "../../escape", "ü" * 300, ".", " ", "line\nbreak", "\ud800"]
    jobs = [Job(key, "tests.executors.jobs:echo", {"text": key * 3}, tmp_path / str(k)) for k, key in enumerate(keys)]
    failures = LocalProcesses(2, 0, logs=tmp_path / "logs").run(jobs)
    assert [failure.job for failure in failures] == jobs
    assert len({failure.log for failure in failures}) == len(keys)
    assert {path.resolve().parent for path in (failure.log for failure in failures)} == {tmp_path / "logs"}
    assert failures[0].log.name == "wiki_数学_高-" + failures[0].log.stem[-8:] + ".log"
    assert failures[0].reason == "ValueError: wiki:数学:高wiki:数学:高wiki:数学:高"
    assert failures[2].log.name == "a_b.log"


def test_large_arguments(tmp_path: Path) -> None:
    big = job(tmp_path, "square", n=2, ballast="x" * 3_000_000)
    assert LocalProcesses(1, logs=tmp_path / "logs").run([big]) == []


def test_a_worker_keeps_to_its_threads(tmp_path: Path) -> None:
    names = ["OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "TOKENIZERS_PARALLELISM"]
    each = job(tmp_path, "environment", names=[*names, "COLOUR"])
    LocalProcesses(1, logs=tmp_path / "logs", threads=2, environment={"COLOUR": "red"}).run([each])
    assert each.marker.read_text() == "2 2 2 PASSIVE false red"


def test_cores_are_shared_among_threads(tmp_path: Path) -> None:
    cores = available_cores()
    assert LocalProcesses(logs=tmp_path).workers == cores
    assert LocalProcesses(logs=tmp_path, threads=cores).workers == 1
    assert LocalProcesses(logs=tmp_path, threads=4 * cores).workers == 1


def test_an_error_of_the_watcher_ends_the_run(tmp_path: Path) -> None:
    def watch(event: JobEvent) -> None:
        if event.kind == "finished":
            raise OSError("the screen is gone")

    with pytest.raises(OSError, match="the screen is gone"):
        LocalProcesses(2, logs=tmp_path / "logs").run(squares(tmp_path, 6, seconds=0.2), watch)
    assert not children()


def test_descriptors_and_threads_are_given_back(tmp_path: Path) -> None:
    executor = LocalProcesses(3, logs=tmp_path / "logs")
    executor.run(squares(tmp_path, 3))
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    executor.run(
        [job(tmp_path, "die", "dies"), job(tmp_path, "fail", "fails", n=1), job(tmp_path, "forget", "forgets")]
    )
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def test_little_is_spent_per_job(tmp_path: Path) -> None:
    executor = LocalProcesses(1, logs=tmp_path / "logs")

    def seconds(count: int) -> float:
        folder = tmp_path / str(count)
        folder.mkdir()
        began = time.monotonic()
        assert executor.run([job(folder, "touch", f"n{n}") for n in range(count)]) == []
        return time.monotonic() - began

    assert min((seconds(201 + k) - seconds(1 + k)) / 200 for k in (0, 300)) < 0.005


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_at_random_change_nothing(tmp_path: Path, seed: int) -> None:
    rng, jobs = random.Random(seed), squares(tmp_path, 30, "once_at_a_time", seconds=0.05)
    events, kills = Events(), 0

    def watch(event: JobEvent) -> None:
        nonlocal kills
        events(event)
        victims = sorted(children())
        if victims and rng.random() < 0.06:
            os.kill(rng.choice(victims), signal.SIGKILL)
            kills += 1

    assert LocalProcesses(3, retries=10, logs=tmp_path / "logs").run(jobs, watch) == []
    assert kills >= 3
    assert [int(each.marker.read_text()) for each in jobs] == [n * n for n in range(30)]
    for each in jobs:
        kinds = events.kinds(each.key)
        assert kinds == ["started", "retried"] * (len(kinds) // 2 - 1) + ["started", "finished"]
    assert list((tmp_path / "logs").iterdir()) == []
    assert not children()


def test_a_worker_that_cannot_start_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text("import os; print('a broken installation'); os._exit(7)")
    executor = LocalProcesses(1, logs=tmp_path / "logs", environment={"PYTHONPATH": str(broken)})
    (failure,) = executor.run([job(tmp_path, "square", n=1)])
    assert failure.reason == "worker could not start: exit code 7"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"workers": 0}, "workers must be at least 1, got 0"),
        ({"retries": -1}, "retries must be at least 0, got -1"),
        ({"threads": 0}, "threads must be at least 1, got 0"),
    ],
)
def test_settings_are_checked(tmp_path: Path, changes: dict[str, int], message: str) -> None:
    with pytest.raises(ExecutorError, match=message):
        LocalProcesses(logs=tmp_path, **changes)
