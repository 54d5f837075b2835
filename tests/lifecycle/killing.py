"""Runs in processes of their own that are killed on the way, and what is compared with undisturbed ones."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import BaseModel

_RUN = "import sys; from evermix.recipe import Recipe; from evermix.lifecycle import run; run(Recipe.load(sys.argv[1]))"


def comparable(value: Any) -> Any:
    """Everything but wall-clock time."""
    if isinstance(value, BaseModel):
        return comparable(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if "seconds" not in key}
    return [comparable(item) for item in value] if isinstance(value, (list, tuple)) else value


def kill_when(recipe: Path, reached: Callable[[], bool]) -> bool:
    """Start a run of `recipe` and kill it as soon as `reached` says so; whether it was running then."""
    process = subprocess.Popen([sys.executable, "-c", _RUN, str(recipe)], env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline and not reached():
        time.sleep(0.002)
    was_running = process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    return was_running


def kill_at(recipe: Path, status: Path, wanted: str) -> bool:
    """The same as soon as the run's status tells of the part `wanted`."""
    return kill_when(recipe, lambda: status.exists() and wanted in status.read_text(encoding="utf-8"))
