"""Running independent jobs in other processes, and again where one dies; work that is done once."""

from __future__ import annotations

from evermix.executors.job import CachedJob, Executor, Failure, Job, JobEvent, Report, Watcher
from evermix.executors.local import LocalProcesses

__all__ = ["CachedJob", "Executor", "Failure", "Job", "JobEvent", "LocalProcesses", "Report", "Watcher"]
