"""Writing files and folders so that a reader sees the old content or the whole of the new, whenever the program is
killed; and records, which know when they or the files beside them were damaged.

A record is a JSON object with a seal: the hash of its content, and size and SHA-256 of the files that it stands for.
Files and folders are synced before their record is written, so that no record outlives what it vouches for.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from evermix.errors import ProjectError, RecipeError
from evermix.wording import escaped_json

DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def expanded(path: str, *, strict: bool = True) -> str:
    """A path with `~`, `~user`, `$NAME` and `${NAME}` replaced; one that begins with `./` is as it is written.

    Args:
        strict: refuse variables that are not set; without it they stay, for files that are called so.

    Raises:
        RecipeError: if there is no such user, or the environment has no such variable.
    """
    if path.startswith("./"):
        return path
    found = os.path.expandvars(os.path.expanduser(path))
    unset = re.search(r"\$(\w+|\{\w+\})", found, re.ASCII) if strict and "$" in path else None
    if unset is not None:
        name = unset[1].strip("{}")
        raise RecipeError(f"the environment variable {name} must be set", received=path)
    if path.startswith("~") and found.startswith("~"):
        raise RecipeError(
            "a path that begins with ~ must name a user of this machine", received=path, hint="write ./~..."
        )
    return found


def placed(path: str, base: Path) -> Path:
    """Where a path leads: `expanded`, and from the folder `base` if it is relative; a file called `$x` comes first.

    Raises:
        RecipeError: as `expanded`.
    """
    literal = base / path
    return literal if "$" in path and os.path.lexists(literal) else base / expanded(path)


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
        _sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically; invisible characters are escaped, NaN is refused."""
    write_atomically(path, escaped_json(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)) + "\n")


def read_json(path: Path, hint: str | None = None) -> dict[str, Any]:
    """A JSON object out of any file.

    Args:
        hint: the way out where it holds something else; by default to move the file away and to run again.

    Raises:
        FileNotFoundError: if it is not there.
        ProjectError: if it holds something else.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"{path}: must be valid JSON ({error})", hint=hint or MOVE_AWAY) from error
    if not isinstance(value, dict):
        raise ProjectError(f"{path}: must hold a JSON object", received=type(value).__name__, hint=hint or MOVE_AWAY)
    return value


# ---- records

SEAL = "seal"
MOVE_AWAY = "move it away and run the same command again: what was finished is kept"
_SETTLED = 0.1  # seconds after which a file that is written again has another time of modification
_known: dict[tuple[int, int, int, int, int], str] = {}  # state of a file -> its hash, in this process


def write_record(path: Path, record: Mapping[str, Any], files: Iterable[str] = ()) -> None:
    """Write a record with its seal, atomically, after syncing what it stands for.

    Args:
        record: JSON values; NaN is refused.
        files: relative to the folder of `path`.
    """
    names = sorted(files)
    for folder in sorted({parent for name in names for parent in (path.parent / name).parents}):
        if folder.is_relative_to(path.parent):
            _sync(folder)
    if path.parent.exists():
        _sync(path.parent.parent)
    sealed = {name: _seal_of(path.parent / name, sync=True) for name in names}
    write_json(path, {**record, SEAL: {"files": sealed, "record": _content_hash(record, sealed)}})


def read_record(path: Path, *keys: str, hint: str | None = None) -> dict[str, Any]:
    """A record that must have `keys`, without its seal; the files that it stands for are not looked at.

    Args:
        path: the file.
        keys: of the record.
        hint: the way out where it is damaged; by default to delete its folder.

    Raises:
        FileNotFoundError: if it is not there.
        ProjectError: if it is damaged.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, dict):
            raise ValueError("not an object")
        seal = record.pop(SEAL, None)
        if not isinstance(seal, dict) or not isinstance(seal.get("files"), dict):
            raise ValueError("without a seal")
        if seal.get("record") != _content_hash(record, seal["files"]):
            raise ValueError("its content is not what was written")
        missing = [key for key in keys if key not in record]
        if missing:
            raise ValueError(f"without {', '.join(missing)}")
    except (ValueError, RecursionError) as error:
        raise ProjectError(
            f"{path}: a record of the project must be whole JSON ({error})",
            hint=hint or f"delete the folder {path.parent} and run the same command again: that part is done anew",
        ) from error
    return record


def faults(path: Path, *keys: str) -> list[str]:
    """What is wrong with a record and the files that it stands for, one sentence per file; nothing if all is whole.

    Every file is hashed, once per process. A gigabyte takes about a second where the processor has instructions for
    SHA-256, and three where it has none.
    """
    try:
        read_record(path, *keys)
    except FileNotFoundError:
        return [f"{path} is gone"]
    except ProjectError as error:
        return [error.rule]
    found = []
    for name, sealed in sealed_files(path).items():
        file = path.parent / name
        try:
            size = file.stat().st_size
            if size != sealed["n_bytes"]:
                found.append(f"{file} has {size:,} bytes and had {sealed['n_bytes']:,}")
            elif _seal_of(file) != sealed:
                found.append(f"{file} does not hold what was written")
        except FileNotFoundError:
            found.append(f"{file} is gone")
        except OSError as error:
            found.append(f"{file} cannot be read ({error.strerror or error})")
    return found


def sealed_files(path: Path) -> dict[str, dict[str, Any]]:
    """Name -> size and hash of every file that a whole record stands for."""
    files: dict[str, dict[str, Any]] = read_json(path)[SEAL]["files"]
    return files


def stored(path: Path, *keys: str, say: Callable[[str], None] | None = None) -> dict[str, Any] | None:
    """The record, if it and the files that it stands for are whole; None if it is not there.

    A damaged one counts as not there, and what is damaged is said, by default as a warning of the logger `evermix`.
    """
    if not path.exists():
        return None
    found = faults(path, *keys)
    for fault in found:
        (say or say_damaged)(fault)
    return None if found else read_record(path, *keys)


def say_damaged(fault: str) -> None:
    """A line for the reader; on stderr unless the caller has configured logging otherwise."""
    logging.getLogger("evermix").warning("damaged: %s; this part is done again", fault)


def _content_hash(record: Mapping[str, Any], files: Mapping[str, Any]) -> str:
    """Of JSON values, whatever the order of their keys."""
    plain = json.loads(json.dumps([record, files], allow_nan=False))
    return hashlib.sha256(json.dumps(plain, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _seal_of(file: Path, sync: bool = False) -> dict[str, Any]:
    """Size and SHA-256; a file that did not change since this process read it last is not read again."""
    with open(file, "rb") as stream:
        if sync:
            os.fsync(stream.fileno())
        before = _state(stream.fileno())
        digest = _known.get(before)
        if digest is None:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
            settled = time.time_ns() - max(before[3:]) > _SETTLED * 1e9
            if settled and _state(stream.fileno()) == before:
                _known[before] = digest
    return {"n_bytes": before[2], "sha256": digest}


def _state(descriptor: int) -> tuple[int, int, int, int, int]:
    found = os.fstat(descriptor)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _sync(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# ---- folders


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
        _sync(path.parent)
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
