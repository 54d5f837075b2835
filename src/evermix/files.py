"""Writing files and folders so that a reader sees the old content or the whole of the new, whenever the program is
killed; and reading records back with an error that says what to delete."""

from __future__ import annotations

import errno
import json
import os
import shutil
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evermix.errors import ProjectError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write through a temporary file beside `path`, fsync, rename; on an error nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + _temporary_suffix())
    data = content.encode() if isinstance(content, str) else content
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; NaN is refused."""
    write_atomically(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_record(path: Path, *keys: str) -> dict[str, Any]:
    """A JSON object that must have `keys`; ProjectError if it is damaged, with the folder to delete as the way out."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
        missing = [key for key in keys if key not in record]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
    except ValueError as error:
        raise ProjectError(
            f"{path}: a record of the project must be whole JSON ({error})",
            hint=f"delete the folder {path.parent} and run the same command again: that part is done anew",
        ) from error
    return record


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A temporary folder that becomes `path` when the block ends well, and vanishes when it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary = path.with_name(path.name + _temporary_suffix())
    temporary.mkdir()
    try:
        yield temporary
        if path.exists():
            shutil.rmtree(path)
        os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def remove_tree(folder: Path) -> None:
    """Delete a folder so that a kill half-way leaves no folder of that name: rename away first."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.deleted")
        os.replace(folder, doomed)
        shutil.rmtree(doomed)


def process_alive(pid: int) -> bool:
    """Whether a process of this machine has the id `pid`."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _temporary_suffix() -> str:
    return f".tmp-{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _remove_abandoned(path: Path) -> None:
    """Remove temporary folders that killed processes of this machine left for `path`."""
    for folder in path.parent.glob(f"{path.name}.tmp-{socket.gethostname()}-*"):
        pid = folder.name.rsplit("-", 2)[1]
        if pid.isdigit() and int(pid) != os.getpid() and not process_alive(int(pid)):
            shutil.rmtree(folder, ignore_errors=True)
