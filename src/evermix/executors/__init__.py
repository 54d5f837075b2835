"""Running independent jobs in other processes, and running them again where one dies."""

from __future__ import annotations

from evermix.executors.job import Executor, Failure, Job, JobEvent, Report, Watcher
from evermix.executors.local import LocalProcesses

__all__ = ["Executor", "Failure", "Job", "JobEvent", "LocalProcesses", "Report", "Watcher"]
