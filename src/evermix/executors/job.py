"""A job as a value, what may become of it, and what every executor does with a list of them; and work done once.

`CachedJob` is a folder that holds what was made, and a marker that is written last: a kill at any moment leaves either
no marker, and the work is done again or gone on with, or the whole record. The marker holds size and SHA-256 of every
file of the work: what was damaged since is done again.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from evermix.errors import ExecutorError
from evermix.files import read_record, remove_tree, sealed_files, stored, write_record

Report = Callable[[int, int], None]
"""`report(done, total)`: how far a job is, in units of its own choice."""

EventKind = Literal["started", "progress", "finished", "retried", "failed", "skipped"]

_CALL = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")
_LONGEST_NAME = 80  # characters of a log's name; at most 4 bytes each, and file systems allow 255


@dataclass(frozen=True)
class Job:
    """A call that can be made in any process, and made again after a kill.

    Args:
        key: unique among the jobs of a run; stands in messages and names the log.
        call: "package.module:function". It is called as `function(arguments, report)` in a worker.
        arguments: JSON values (no NaN, no infinities).
        marker: the job is finished if and only if this file exists. The function writes it last and atomically.

    Raises:
        ExecutorError: for an empty key, or a call that is not of that form.
    """

    key: str
    call: str
    arguments: Mapping[str, Any]
    marker: Path

    def __post_init__(self) -> None:
        if not self.key:
            raise ExecutorError(f"the job that calls {self.call} must have a key", received=self.key)
        if not _CALL.fullmatch(self.call):
            raise ExecutorError(
                f"job {self.key}: the call must read package.module:function",
                received=self.call,
                hint="name a function of an importable module",
            )

    @property
    def finished(self) -> bool:
        """Whether the marker exists."""
        return self.marker.exists()


@dataclass(frozen=True)
class Failure:
    """A job that was given up: why in one line, and the log with the full trace of every attempt."""

    job: Job
    reason: str
    log: Path


@dataclass(frozen=True)
class JobEvent:
    """Something happened to a job.

    `done` and `total` are what the job last reported (0 before that), `seconds` the time since this attempt was
    handed to a worker, `reason` says in one line why it was retried or failed.
    """

    job: Job
    kind: EventKind
    done: int = 0
    total: int = 0
    seconds: float = 0.0
    reason: str = ""


Watcher = Callable[[JobEvent], None]


class Executor(Protocol):
    """Runs jobs that do not depend on each other."""

    def run(self, jobs: Sequence[Job], watch: Watcher | None = None) -> list[Failure]:
        """Run every job whose marker does not exist; those given up come back, in the order of `jobs`.

        One job's failure leaves the others alone, unless all that were tried fail alike. `watch` is called in the
        caller's thread; what it raises ends the run and goes up.

        Raises:
            ExecutorError: before anything is run, if two jobs share a key or a marker, or arguments are not JSON; or
                the first jobs fail for one and the same reason, and none has succeeded.
        """
        ...


def check_jobs(jobs: Sequence[Job]) -> None:
    """Find keys, markers and arguments in order.

    Raises:
        ExecutorError: if two jobs share a key or a marker, or arguments are not JSON.
    """
    keys: set[str] = set()
    markers: dict[Path, str] = {}
    for job in jobs:
        if job.key in keys:
            raise ExecutorError("the jobs of one run must have different keys", received=job.key)
        keys.add(job.key)
        other = markers.setdefault(job.marker.absolute(), job.key)
        if other != job.key:
            raise ExecutorError(
                f"jobs {other} and {job.key} must not share the marker {job.marker}",
                hint="give each job its own marker, or leave one of the two out if they are the same work",
            )
        _check_arguments(job)


def perform(call: str, arguments: Mapping[str, Any], report: Report) -> None:
    """Import the function that `call` names and call it; whatever it raises goes up."""
    module, _, name = call.partition(":")
    getattr(importlib.import_module(module), name)(arguments, report)


def one_line(error: BaseException) -> str:
    """The exception's type and message in one printable line of at most 500 characters."""
    message = " ".join(str(error).split())
    line = f"{type(error).__name__}: {message}" if message else type(error).__name__
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in line)
    return line if len(line) <= 500 else line[:497] + "..."


_VARIABLE = re.compile(r"\([^()]*\)|'[^']*'|\"[^\"]*\"|\d+(\.\d+)?(e[+-]?\d+)?")


def are_alike(reasons: Iterable[str]) -> bool:
    """Whether the reasons are one but for numbers, and what stands in brackets or quotes: steps, names, paths."""
    return len({_VARIABLE.sub("", reason) for reason in reasons}) == 1


def log_name(key: str) -> str:
    """A file name for the job `key`: the key itself where it can be one, else what is left of it and a hash."""
    plain = re.sub(r"[^\w.+=,@-]", "_", key)[:_LONGEST_NAME].lstrip(".")
    if plain != key or len(key.encode()) > 200:
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:8]
        plain = f"{plain[:50]}-{digest}"
    return f"{plain}.log"


def _check_arguments(job: Job) -> None:
    try:
        json.dumps(dict(job.arguments), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ExecutorError(
            f"job {job.key}: arguments must be JSON ({error})",
            hint="pass paths as str, arrays as lists, and leave out what is not a number",
        ) from error


# ---- work done once

MARKER = "done.json"
PROGRESS_FILE = "evermix_progress.json"  # the same of a checkpoint within work that is not done yet


@dataclass(frozen=True)
class CachedJob:
    """A piece of work with a folder of its own, named by all that decides the outcome.

    Attributes:
        folder: where the work is done. What it makes stays there beside the marker. Folders in it that have a marker
            of their own are other work.
        keys: what the record must hold.
        leftovers: names of files that nothing needs once the work is done; they are removed then.
    """

    folder: Path
    keys: tuple[str, ...]
    leftovers: frozenset[str] = frozenset()

    @property
    def marker(self) -> Path:
        """The record as a file; there if and only if the work is done."""
        return self.folder / MARKER

    def is_whole(self) -> bool:
        """Whether the work is done and nothing of it is damaged.

        What is damaged is said and thrown away with all that belongs to it, so that the work is done again from its
        beginning. Every file is read once per process (`evermix.files.faults`).
        """
        if stored(self.marker, *self.keys) is not None:
            return True
        if self.marker.exists():
            self._discard()
        return False

    def record(self) -> dict[str, Any]:
        """The record of work that is done.

        Raises:
            FileNotFoundError: if it is not done.
            ProjectError: if the record is damaged or lacks a key; it names the folder to delete.
        """
        return read_record(self.marker, *self.keys)

    def run(self, work: Callable[[Path], dict[str, Any]], *, resumable: bool = False) -> dict[str, Any]:
        """The record, after the work if it was not done before or is damaged.

        Args:
            work: called with the folder, which is there; what it returns is the record.
            resumable: whether `work` goes on with what a killed attempt left; else that is removed first.
        """
        if not self.is_whole():
            if not resumable:
                remove_tree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            made = work(self.folder)
            write_record(self.marker, made, [name for name in self._files() if Path(name).name not in self.leftovers])
        if self.leftovers:
            self._remove_leftovers()
        return self.record()

    def _files(self) -> list[str]:
        """What belongs to this work, relative to the folder, without the marker."""
        found = []
        for place, folders, files in os.walk(self.folder):
            folders[:] = [name for name in folders if not Path(place, name, MARKER).exists()]
            found += [str(Path(place, name).relative_to(self.folder)) for name in files]
        return sorted(set(found) - {MARKER})

    def _discard(self) -> None:
        """Remove the marker, then the work; a kill on the way leaves work that is not done."""
        self.marker.unlink()
        for name in self._files():
            (self.folder / name).unlink(missing_ok=True)

    def _remove_leftovers(self) -> None:
        kept = sealed_files(self.marker)
        for name in self._files():
            if Path(name).name in self.leftovers and name not in kept:
                (self.folder / name).unlink(missing_ok=True)
