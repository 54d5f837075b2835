"""Writing files so that a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from evermix.errors import ProjectError


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write through a temporary file beside `path`, fsync, rename; on an error nothing is left behind."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.tmp")
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


def remove_tree(folder: Path) -> None:
    """Delete a folder so that a kill half-way leaves no folder of that name: rename away first."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.deleted")
        os.replace(folder, doomed)
        shutil.rmtree(doomed)
