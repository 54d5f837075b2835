"""The project folder: append-only ledger, run folders with completion markers, and the lock that keeps two runs apart.

The ledger is a table of what was done and decided, in SQLite (write-ahead log). Any SQLite tool reads it:
`sqlite3 ledger.sqlite "select * from entries"`. A commit survives a kill; several processes may append at once.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from evermix.errors import ProjectError
from evermix.files import write_json
from evermix.version import SCHEMA_VERSION
from evermix.wording import without_secrets

# ---- the ledger

_SCHEMA = f"""
begin immediate;
pragma user_version = {SCHEMA_VERSION};
create table if not exists entries (
    number integer primary key autoincrement,
    kind text not null,
    key text not null,
    payload text not null,
    at text not null
);
create unique index if not exists one_per_key on entries (kind, key);
create trigger if not exists never_changed before update on entries
    begin select raise(abort, 'the ledger is append-only'); end;
create trigger if not exists never_removed before delete on entries
    begin select raise(abort, 'the ledger is append-only'); end;
commit;
"""


@dataclass(frozen=True)
class Entry:
    """One line of the ledger: `kind` and `key` are unique together, `at` is ISO-8601 UTC."""

    number: int
    kind: str
    key: str
    payload: dict[str, Any]
    at: str


class Ledger:
    """Append and read entries of one project.

    Raises:
        ProjectError: if the file is not a ledger, or one that another evermix laid out otherwise.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._connect() as connection:
                known = connection.execute("select 1 from sqlite_master where name = 'never_removed'").fetchone()
                if known is None:
                    connection.executescript(_SCHEMA)
                else:
                    self._check_version(connection)
        except sqlite3.OperationalError as error:
            raise ProjectError(
                f"{path}: the ledger must be writable ({error})", hint="free some space, or check the permissions"
            ) from error
        except sqlite3.DatabaseError as error:
            raise ProjectError(
                f"{path}: the ledger must be a readable SQLite file ({error})", hint="move it away to start anew"
            ) from error

    def _check_version(self, connection: sqlite3.Connection) -> None:
        found = int(connection.execute("pragma user_version").fetchone()[0])
        if found != SCHEMA_VERSION:
            raise ProjectError(
                f"{self.path}: the ledger must be laid out as this evermix does, version {SCHEMA_VERSION}",
                received=f"version {found}" if found else "none, so it is of an evermix before 0.5.0",
                hint="read it with the evermix that wrote it, or choose another `project:` folder",
            )

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        connection = sqlite3.connect(self.path, timeout=30)
        try:
            if connection.execute("pragma journal_mode").fetchone()[0] != "wal":
                connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=full")
            with connection:
                yield connection
        finally:
            connection.close()

    def append(self, kind: str, key: str, payload: dict[str, Any]) -> bool:
        """Add an entry, without secrets, unless (kind, key) is there already; True if it was added."""
        text = json.dumps(without_secrets(payload), ensure_ascii=False, allow_nan=False)
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        with self._connect() as connection:
            cursor = connection.execute(
                "insert or ignore into entries (kind, key, payload, at) values (?, ?, ?, ?)", (kind, key, text, now)
            )
            return cursor.rowcount == 1

    def entries(self, kind: str | None = None) -> list[Entry]:
        """All entries in order, or those of one kind."""
        return self._select("", ()) if kind is None else self._select(" where kind = ?", (kind,))

    def find(self, kind: str, key: str) -> Entry | None:
        """The entry (kind, key), or None if it was never written."""
        return next(iter(self._select(" where kind = ? and key = ?", (kind, key))), None)

    def _select(self, where: str, values: tuple[str, ...]) -> list[Entry]:
        with self._connect() as connection:
            rows = connection.execute(
                f"select number, kind, key, payload, at from entries{where} order by number", values
            ).fetchall()
        return [Entry(number, kind, key, json.loads(payload), at) for number, kind, key, payload, at in rows]


# ---- the project folder

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
