"""Jobs in worker processes of this machine."""

from __future__ import annotations

import json
import os
import selectors
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evermix.errors import ExecutorError
from evermix.executors.job import (
    EventKind,
    Executor,
    Failure,
    Job,
    JobEvent,
    Watcher,
    are_alike,
    check_jobs,
    log_name,
)
from evermix.executors.process import WorkerProcess, available_cores, first_on_interrupt, one_of, visible_accelerators

_FEWEST_ALIKE = 3
_THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


class LocalProcesses(Executor):
    """Runs jobs in worker processes that start when first needed, stay for many jobs, and end with `run`.

    Args:
        workers: processes at a time; by default as many as keep the cores of this process or container busy.
        retries: how often a job that failed is tried again, each time in a fresh worker; one that failed by an
            EvermixError is not, for it would fail again.
        logs: folder for `<key>.log`, what a job printed; kept only if the job failed.
        threads: numerical threads (OpenMP, OpenBLAS, MKL) per worker.
        environment: further variables for the workers.

    Raises:
        ExecutorError: if `workers` or `threads` is below 1 or `retries` below 0.
    """

    def __init__(
        self,
        workers: int | None = None,
        retries: int = 1,
        *,
        logs: Path,
        threads: int = 1,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.workers = workers if workers is not None else max(1, available_cores() // max(1, threads))
        self.retries = retries
        self.logs = logs.absolute()
        self.threads = threads
        self.environment = dict(environment or {})
        for name, value, least in (("workers", self.workers, 1), ("threads", threads, 1), ("retries", retries, 0)):
            if value < least:
                raise ExecutorError(f"{name} must be at least {least}", received=value)

    def run(self, jobs: Sequence[Job], watch: Watcher | None = None) -> list[Failure]:
        """Run every job whose marker does not exist; those given up come back, in the order of `jobs`.

        However this ends (an interrupt, an error of `watch`), every worker has ended by then; should this process be
        killed, they end by themselves.

        Raises:
            ExecutorError: if two jobs share a key or a marker, arguments are not JSON, or no worker can be started; or
                if the first jobs, twice as many as workers and at least 3, fail alike and none has succeeded.
        """
        check_jobs(jobs)
        run = _Run(self, watch)
        with first_on_interrupt(run.kill):
            try:
                run.work(jobs)
            finally:
                run.end()
        return [run.failures[job.key] for job in jobs if job.key in run.failures]

    def worker_environment(self, place: int) -> dict[str, str]:
        """This process's variables, with those that keep a worker to its threads and to one accelerator of several.

        Args:
            place: number of the worker among those at work, from 0.
        """
        threads = dict.fromkeys(_THREAD_VARIABLES, str(self.threads))
        quiet = {"OMP_WAIT_POLICY": "PASSIVE", "TOKENIZERS_PARALLELISM": "false"}
        return {**os.environ, **threads, **quiet, **one_of(visible_accelerators(), place), **self.environment}


@dataclass
class _Task:
    """A job on its way: how often it was begun, and how far the attempt at hand is."""

    job: Job
    log: Path
    attempt: int = 0
    begun: float = 0.0
    done: int = 0
    total: int = 0


@dataclass(eq=False)
class _Slot:
    """A worker at its place and the task it is at; `fresh` until it is given its first task."""

    process: WorkerProcess
    place: int
    task: _Task | None = None
    fresh: bool = True


class _Run:
    """One call of `LocalProcesses.run`: pending tasks, workers, and what became of the jobs."""

    def __init__(self, executor: LocalProcesses, watch: Watcher | None) -> None:
        self._executor = executor
        self._watch = watch
        self._pending: deque[_Task] = deque()
        self._slots: list[_Slot] = []
        self._selector = selectors.DefaultSelector()
        self._n_finished = 0
        self._n_jobs = 0
        self.failures: dict[str, Failure] = {}

    def work(self, jobs: Sequence[Job]) -> None:
        """Hand out tasks and listen to the workers until every job is settled."""
        self._n_jobs = len(jobs)
        for job in jobs:
            task = _Task(job, self._executor.logs / log_name(job.key))
            if job.finished:
                task.log.unlink(missing_ok=True)  # a run killed between a marker and its notice of it left one
                self._n_finished += 1
                self._tell(task, "skipped")
            else:
                self._pending.append(task)
        self._hand_out()
        while any(slot.task for slot in self._slots):
            for key, _ in self._selector.select():
                slot: _Slot = key.data
                if slot not in self._slots:  # it ended by an earlier event of this round
                    continue
                self._hear(slot)
                if slot in self._slots and key.fd == slot.process.ended:
                    self._bury(slot)
            self._hand_out()

    def end(self) -> None:
        """End every worker."""
        self.kill()
        for slot in tuple(self._slots):
            self._remove(slot)
        self._selector.close()

    def kill(self) -> None:
        """Kill every worker at once; `end` does the rest."""
        for slot in self._slots:
            slot.process.kill()

    def _hand_out(self) -> None:
        while self._pending:
            task = self._pending[0]
            slot = self._free_slot(task)
            if slot is None:
                return
            self._pending.popleft()
            task.attempt, task.begun, task.done, task.total = task.attempt + 1, time.monotonic(), 0, 0
            slot.task, slot.fresh = task, False
            request = {"call": task.job.call, "arguments": dict(task.job.arguments), "log": str(task.log)}
            slot.process.send(json.dumps(request))
            self._tell(task, "started")

    def _free_slot(self, task: _Task) -> _Slot | None:
        """An idle or a new worker with the task's log begun; None if all are busy. A retry gets a new one."""
        idle = [slot for slot in self._slots if slot.task is None]
        if not idle and len(self._slots) >= self._executor.workers:
            return None
        _begin_log(task)
        if idle and task.attempt == 0:
            return idle[0]
        if idle:
            self._remove(idle[0])
        place = min(set(range(self._executor.workers)) - {slot.place for slot in self._slots})
        slot = _Slot(WorkerProcess(), place)
        self._slots.append(slot)  # before it starts: an interrupt must find it
        slot.process.start(self._executor.worker_environment(place), task.log)
        self._selector.register(slot.process.results, selectors.EVENT_READ, slot)
        self._selector.register(slot.process.ended, selectors.EVENT_READ, slot)
        return slot

    def _hear(self, slot: _Slot) -> None:
        for message in slot.process.messages():
            if slot not in self._slots:
                return
            self._act(slot, message)
        if slot in self._slots and slot.process.silent and slot.process.results in self._selector.get_map():
            self._selector.unregister(slot.process.results)  # else it would be readable for ever

    def _act(self, slot: _Slot, message: dict[str, Any]) -> None:
        task, kind = slot.task, message["kind"]
        if kind == "ready":
            slot.process.ready = True
        elif task is None:
            return
        elif kind == "progress":
            task.done, task.total = message["done"], message["total"]
            self._tell(task, "progress")
        elif kind == "returned" and task.job.finished:
            slot.task = None
            self._finish(task)
        elif kind == "returned":
            self._remove(slot)
            self._give_back(task, f"the job returned without writing its marker {task.job.marker}")
        else:
            self._remove(slot)
            self._give_back(task, str(message["reason"]), is_final=bool(message.get("final")))

    def _bury(self, slot: _Slot) -> None:
        reason = slot.process.death()
        self._remove(slot)
        if slot.task is not None:
            self._give_back(slot.task, reason)

    def _give_back(self, task: _Task, reason: str, is_final: bool = False) -> None:
        """An attempt that ended badly: done all the same if the marker is there, else tried again or given up.

        Until a job has succeeded, the one that failed is tried again before others are begun: what would fail all of
        them is found out by few.
        """
        if task.job.finished:
            self._finish(task)
            return
        with open(task.log, "a", encoding="utf-8", errors="backslashreplace") as log:
            log.write(f"attempt {task.attempt}: {reason}\n")
        if task.attempt <= self._executor.retries and not is_final:
            if self._n_finished:
                self._pending.append(task)
            else:
                self._pending.appendleft(task)
            self._tell(task, "retried", reason)
        else:
            self.failures[task.job.key] = Failure(task.job, reason, task.log)
            self._tell(task, "failed", reason)
            self._stop_if_all_fail_alike(reason, task.log)

    def _stop_if_all_fail_alike(self, reason: str, log: Path) -> None:
        n_failed = len(self.failures)
        left = self._n_jobs - n_failed
        enough = n_failed >= max(_FEWEST_ALIKE, 2 * self._executor.workers)
        if not self._n_finished and left and enough and are_alike(f.reason for f in self.failures.values()):
            raise ExecutorError(
                f"the first {n_failed} jobs failed for one reason, and the other {left} were not waited for",
                received=reason,
                hint=f"the whole trace: {log}",
            )

    def _finish(self, task: _Task) -> None:
        self._n_finished += 1
        task.log.unlink(missing_ok=True)
        self._tell(task, "finished")

    def _remove(self, slot: _Slot) -> None:
        for descriptor in (slot.process.results, slot.process.ended):
            if descriptor in self._selector.get_map():
                self._selector.unregister(descriptor)
        slot.process.end()
        self._slots.remove(slot)

    def _tell(self, task: _Task, kind: EventKind, reason: str = "") -> None:
        if self._watch is not None:
            seconds = time.monotonic() - task.begun if task.attempt else 0.0
            self._watch(JobEvent(task.job, kind, task.done, task.total, seconds, reason))


def _begin_log(task: _Task) -> None:
    """Empty on the first attempt, so that the log of an earlier run is not taken for this one's."""
    task.log.parent.mkdir(parents=True, exist_ok=True)
    with open(task.log, "a" if task.attempt else "w", encoding="utf-8"):
        pass
