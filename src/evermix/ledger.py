"""The project folder: append-only ledger, run folders with completion markers, and the lock that keeps two runs apart.

The ledger is a table of what was done and decided, in SQLite (write-ahead log). Any SQLite tool reads it:
`sqlite3 ledger.sqlite "select * from entries"`. A commit survives a kill; several processes may append at once. Every
row has a seal, the hash of the rest of it, and the whole file is checked when it is opened.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import socket
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from evermix.errors import ProjectError, RecipeError
from evermix.files import write_json
from evermix.recipe import Recipe
from evermix.version import SCHEMA_VERSION
from evermix.wording import escaped_json, without_secrets

# ---- the ledger

_SCHEMA = f"""
begin immediate;
pragma user_version = {SCHEMA_VERSION};
create table if not exists entries (
    number integer primary key autoincrement,
    kind text not null,
    key text not null,
    payload text not null,
    at text not null,
    seal text not null
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


_BUSY_SECONDS = 30.0  # how long another process may hold the ledger
_NO_ROOM = ("SQLITE_FULL", "SQLITE_IOERR")
_NO_ACCESS = ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM", "SQLITE_AUTH")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")


class Ledger:
    """Append and read entries of one project.

    Args:
        path: the file.
        read_only: whether nothing is written: neither is the file begun, nor are its folder and itself changed.

    Raises:
        ProjectError: by this and by every method, if the file is not a ledger, or is damaged, or held by another
            process, or cannot be written, or is one that another evermix laid out otherwise.
    """

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self.read_only = read_only
        if not read_only:
            path.parent.mkdir(parents=True, exist_ok=True)
        with self._connect() as connection:
            if self._is_begun(connection):
                self._check(connection)
            elif not read_only:
                connection.executescript(_SCHEMA)

    @staticmethod
    def _is_begun(connection: sqlite3.Connection) -> bool:
        """Not so of a file that a killed process left empty."""
        return connection.execute("select 1 from sqlite_master where name = 'never_removed'").fetchone() is not None

    def _check(self, connection: sqlite3.Connection) -> None:
        """The version of the layout, and the file from its first page to its last."""
        found = int(connection.execute("pragma user_version").fetchone()[0])
        if found != SCHEMA_VERSION:
            raise ProjectError(
                f"{self.path}: the ledger must be laid out as this evermix does, version {SCHEMA_VERSION}",
                received=f"version {found}" if found else "none, so it is of an evermix before 0.5.0",
                hint="read it with the evermix that wrote it, or choose another `project:` folder",
            )
        told = str(connection.execute("pragma integrity_check(1)").fetchone()[0])
        if told != "ok":
            raise self._damaged(" ".join(told.split()))

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are committed when the block ends well; its errors become ProjectErrors."""
        try:
            with self._reading() if self.read_only else self._writing() as connection, connection:
                yield connection
        except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where a damaged page holds no text
            raise self._fault(error) from error

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=_BUSY_SECONDS)) as connection:
            if connection.execute("pragma journal_mode").fetchone()[0] != "wal":
                connection.execute("pragma journal_mode=wal")
            connection.execute("pragma synchronous=full")
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        """Where the folder may not be written, SQLite needs files of a running process beside it, or a copy."""
        if os.access(self.path.parent, os.W_OK) and os.access(self.path, os.W_OK):
            with closing(sqlite3.connect(_uri(self.path, "rw"), uri=True, timeout=_BUSY_SECONDS)) as connection:
                connection.execute("pragma query_only=1")
                yield connection
            return
        with tempfile.TemporaryDirectory(prefix="evermix-ledger-") as scratch:
            copy = Path(scratch) / self.path.name
            for end in ("", "-wal"):
                if self.path.with_name(self.path.name + end).exists():
                    shutil.copyfile(self.path.with_name(self.path.name + end), copy.with_name(copy.name + end))
            with closing(sqlite3.connect(_uri(copy, "rw"), uri=True)) as connection:
                yield connection

    def _fault(self, error: sqlite3.Error | UnicodeDecodeError) -> ProjectError:
        """What SQLite says as a line with a way out."""
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(_BUSY):
            return ProjectError(
                f"{self.path}: another process must not hold the ledger for longer than {_BUSY_SECONDS:g} s ({error})",
                hint="wait for it or stop it, and run the same command again: what was finished is kept",
            )
        if name.startswith(_NO_ROOM):
            return ProjectError(
                f"{self.path}: the ledger must be writable ({error})",
                hint="free some space, or check the disk, and run the same command again: what was finished is kept",
            )
        if name.startswith(_NO_ACCESS):
            return ProjectError(f"{self.path}: the ledger must be writable ({error})", hint="check the permissions")
        return self._damaged(str(error))

    def _damaged(self, what: str) -> ProjectError:
        return ProjectError(
            f"{self.path}: the ledger must be whole ({what})",
            hint=f"move {self.path.name} away and run the same command again: finished runs are kept. Updates of a "
            "swarm's domains, and what a study was told, must be made and told again",
        )

    def append(self, kind: str, key: str, payload: dict[str, Any]) -> bool:
        """Add an entry, without secrets, unless (kind, key) is there already; True if it was added."""
        if self.read_only:
            raise ProjectError(f"{self.path}: this ledger was opened to be read; nothing is appended to it")
        text = escaped_json(json.dumps(without_secrets(payload), ensure_ascii=False, allow_nan=False))
        now = datetime.now(UTC).isoformat(timespec="milliseconds")
        row = (kind, key, text, now, _seal(kind, key, text, now))
        with self._connect() as connection:
            cursor = connection.execute(
                "insert or ignore into entries (kind, key, payload, at, seal) values (?, ?, ?, ?, ?)", row
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
            if self.read_only and not self._is_begun(connection):
                return []
            rows = connection.execute(
                f"select number, kind, key, payload, at, seal from entries{where} order by number", values
            ).fetchall()
        for number, kind, key, payload, at, seal in rows:
            if seal != _seal(kind, key, payload, at):
                raise self._damaged(f"entry {number} ({kind!r}) is not what was written")
        return [Entry(number, kind, key, json.loads(payload), at) for number, kind, key, payload, at, _ in rows]


def _seal(*parts: object) -> str:
    """16 hex digits that depend on a row."""
    return hashlib.sha256(json.dumps(parts, default=repr).encode()).hexdigest()[:16]


def _uri(path: Path, mode: str) -> str:
    return f"{path.absolute().as_uri()}?mode={mode}"


# ---- the project folder

_PATIENCE = 2.0  # seconds


def content_hash(value: Any) -> str:
    """16 hex digits that depend on a JSON-able value only."""
    return hashlib.sha256(
        json.dumps(value, sort_keys=True, ensure_ascii=False).encode(errors="surrogatepass")
    ).hexdigest()[:16]


class Project:
    """Paths and lock of a project folder.

    Layout: `ledger.sqlite`, `runs/<id>/` (config, metrics, checkpoint or adapter, completion marker `done.json`),
    `tokens/` (tokenised store), `status.json`, `result.json`, `report.html`.

    Args:
        folder: made if it is not there.
        read_only: whether nothing is made or written; the folder must be there then.
    """

    def __init__(self, folder: Path, *, read_only: bool = False) -> None:
        self.folder = folder
        if folder.exists() and not folder.is_dir():
            raise ProjectError(f"{folder}: the project must be a folder", hint="choose another `project:`")
        if not read_only:
            folder.mkdir(parents=True, exist_ok=True)
        self.ledger = Ledger(folder / "ledger.sqlite", read_only=read_only)

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


def lock_holder(project: Path) -> str | None:
    """Who runs the project of a folder, such as `process 7 on host, started 2026-01-01T00:00:00+00:00`, or None.

    The lock is asked, so that neither a kill nor another process with the number of an ended one misleads.
    """
    try:
        with open(project / ".lock", encoding="utf-8", errors="replace") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return stream.read().strip() or "a process"
    except OSError:
        return None
    return None


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


def require_swarm_project(recipe: Recipe) -> None:
    """That the domains of a recipe's project may be updated; needs no torch, so that a refusal comes at once.

    Raises:
        RecipeError: the recipe keeps no swarm.
        ProjectError: nothing has been decided in its project yet.
    """
    if not recipe.keeps_study:
        raise RecipeError(
            "an update needs a recipe of method olmix with one phase, whose swarm is kept",
            received=f"method {recipe.method}" + (f" with {len(recipe.phases)} phases" if recipe.phases else ""),
            hint="with phases a change of the domains is a phase (add, remove, revise); without a swarm the mixture is "
            "decided anew: edit the domains and choose another `project:`",
        )
    if not (recipe.project_folder / "ledger.sqlite").exists():
        raise ProjectError(
            f"{recipe.project_folder}: an update needs a project that has decided a mixture",
            hint="`evermix run` the recipe first",
        )
