"""Runs in processes of their own that are killed on the way, and what is compared with undisturbed ones."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from pydantic import BaseModel

_FORKS = multiprocessing.get_context("forkserver")  # torch and transformers are imported once for all processes
_FORKS.set_forkserver_preload(["evermix.cli.app", "evermix.lifecycle", "evermix.training.segment"])


def begin(function: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a process that calls a function of a module, with values that can be pickled."""
    process = _FORKS.Process(target=function, args=arguments)
    process.start()
    return process


def run_recipe(path: Path) -> None:
    """Run the recipe of a file."""
    import gc

    from evermix.lifecycle import run
    from evermix.recipe import Recipe

    gc.freeze()  # see tests/conftest.py
    run(Recipe.load(path))


def comparable(value: Any) -> Any:
    """Everything but wall-clock time."""
    if isinstance(value, BaseModel):
        return comparable(value.model_dump(mode="json"))
    if isinstance(value, dict):
        return {key: comparable(item) for key, item in value.items() if "seconds" not in key}
    return [comparable(item) for item in value] if isinstance(value, (list, tuple)) else value


def kill_when(recipe: Path, reached: Callable[[], bool]) -> bool:
    """Start a run of `recipe` and kill it as soon as `reached` says so; whether it was running then."""
    process = begin(run_recipe, recipe)
    deadline = time.monotonic() + 120
    while process.is_alive() and time.monotonic() < deadline and not reached():
        time.sleep(0.002)
    was_running = process.is_alive()
    process.kill()
    process.join()
    return was_running


def kill_at(recipe: Path, status: Path, wanted: str) -> bool:
    """The same as soon as the run's status tells of the part `wanted`."""
    return kill_when(recipe, lambda: status.exists() and wanted in status.read_text(encoding="utf-8"))
