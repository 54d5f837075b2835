"""Jobs of a swarm without processes of their own, for tests whose point is not the process.

A worker imports torch and transformers before its first job, which takes longer than a tiny swarm trains.
`tests/executors` and `tests/lifecycle/test_swarm.py` hold what real workers promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest

from evermix.executors.job import Executor, Failure, Job, JobEvent, Watcher, check_jobs, log_name, perform


@dataclass
class InThisProcess(Executor):
    """One job after the other, here, which must not fail. What they print goes to their logs, as of a worker."""

    workers: int | None
    retries: int
    logs: Path

    def run(self, jobs: Sequence[Job], watch: Watcher | None = None) -> list[Failure]:
        """See Executor."""
        check_jobs(jobs)
        tell = watch or (lambda event: None)
        self.logs.mkdir(parents=True, exist_ok=True)
        for job in jobs:
            if job.finished:
                tell(JobEvent(job, "skipped"))
                continue

            def report(done: int, total: int, job: Job = job) -> None:
                tell(JobEvent(job, "progress", done, total))

            tell(JobEvent(job, "started"))
            log = self.logs / log_name(job.key)
            with log.open("w", encoding="utf-8") as printed, redirect_stdout(printed), redirect_stderr(printed):
                perform(job.call, job.arguments, report)
            assert job.finished, job
            log.unlink()
            tell(JobEvent(job, "finished"))
        return []


@contextmanager
def in_this_process() -> Iterator[None]:
    """Runs within the block have no workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("evermix.lifecycle.evidence.proxies.LocalProcesses", InThisProcess)
        yield
