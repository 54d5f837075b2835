"""Project: the folder that holds everything of one recipe, and the lock that keeps two runs apart."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from evermix.errors import ProjectError
from evermix.files import write_json
from evermix.ledger.journal import Ledger

_PATIENCE = 2.0  # seconds


def content_hash(value: Any) -> str:
    """16 hex digits that depend on a JSON-able value only."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()[:16]


class Project:
    """Paths and lock of a project folder.

    Layout: `ledger.sqlite`, `runs/<id>/` (config, metrics, checkpoint or adapter, completion marker `done.json`),
    `tokens/` (tokenised store), `status.json`, `result.json`, `report.html`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise ProjectError(f"{folder}: the project must be a folder", hint="choose another `project:`")
        folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.sqlite")

    @property
    def tokens(self) -> Path:
        """Folder of the tokenised store."""
        return self.folder / "tokens"

    def run_folder(self, run_id: str) -> Path:
        """Folder of one run."""
        return self.folder / "runs" / run_id

    def set_status(self, **status: object) -> None:
        """Replace `status.json`: what the running process is doing."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        write_json(self.folder / "status.json", {**status, "updated_at": now, "pid": os.getpid()})

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the project; the kernel releases it when the process dies, however it dies.

        A process that dies while it starts a worker leaves a copy of the lock in it until the worker's program begins:
        so a held lock is asked for again for two seconds.

        Raises:
            ProjectError: if another process holds it; the message names that process.
        """
        with open(self.folder / ".lock", "a+", encoding="utf-8") as stream:
            try:
                _acquire(stream)
            except BlockingIOError as error:
                stream.seek(0)
                raise ProjectError(
                    f"{self.folder}: a project must be run by one process at a time; {stream.read().strip()} uses it",
                    hint="wait for it, stop it, or choose another `project:`",
                ) from error
            stream.truncate(0)
            started = datetime.now(UTC).isoformat(timespec="seconds")
            stream.write(f"process {os.getpid()} on {socket.gethostname()}, started {started}\n")
            stream.flush()
            yield


def _acquire(stream: TextIO) -> None:
    """The lock of an open file; BlockingIOError if another process keeps it for longer than a dying one does."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            return fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
