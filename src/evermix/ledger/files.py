"""Writing files so that a reader sees the old content or the new, never a part of it."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any


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


def remove_tree(folder: Path) -> None:
    """Delete a folder so that a kill half-way leaves no folder of that name: rename away first."""
    if folder.exists():
        doomed = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.deleted")
        os.replace(folder, doomed)
        shutil.rmtree(doomed)
