"""Errors that a user can mend become one line on stderr and an exit code; a bug keeps its trace."""

from __future__ import annotations

import functools
import os
import signal
import sqlite3
import sys
from collections.abc import Callable
from types import FrameType
from typing import ParamSpec, TypeVar

from evermix.errors import EvermixError
from evermix.files import DISK_FULL

P = ParamSpec("P")
R = TypeVar("R")

FAILED = 2
INTERRUPTED = 130
TERMINATED = 143
_AGAIN = "run the same command again to go on"
_FREE_SPACE = "Hint: free some space and run the same command again; what was finished is kept"
_EXTRAS = {
    "train": ("torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors", "zstandard"),
    "plot": ("matplotlib", "jinja2"),
    "parquet": ("pyarrow",),
    "regress": ("lightgbm", "sklearn"),
    "datasets": ("datasets",),
    "eval": ("lm_eval",),
}


class Terminated(BaseException):
    """SIGTERM; not an Exception, so that nothing on the way takes it for a fault."""


def end_on_sigterm() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files are removed and the bars are closed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


def one_line_errors(verb: Callable[P, R], way_on: str = _AGAIN) -> Callable[P, R]:
    """Wrap a verb: mendable errors exit with code 2, an interruption with 130.

    Args:
        way_on: how to go on after an interruption.
    """

    @functools.wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **kwargs)
        except KeyboardInterrupt:
            message, code = f"interrupted: {way_on}", INTERRUPTED
        except Terminated:
            message, code = f"terminated: {way_on}", TERMINATED
        except BrokenPipeError:
            # The reader of our output went away (`evermix log | head`): nothing to say, nobody to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except (EvermixError, OSError, ModuleNotFoundError, sqlite3.OperationalError) as error:
            described = describe(error)
            if described is None:
                raise
            message, code = f"error: {described}", FAILED
        print(message, file=sys.stderr)
        raise SystemExit(code)

    return guarded


def describe(error: Exception) -> str | None:
    """The one line for `error`, or None if no user could mend it."""
    if isinstance(error, EvermixError):
        return _one_line(str(error))
    if isinstance(error, ModuleNotFoundError):
        return _missing_extra(error)
    if isinstance(error, sqlite3.OperationalError):
        return f"the disk is full. {_FREE_SPACE}" if "disk is full" in str(error) else None
    if isinstance(error, OSError):
        return _file_trouble(error)
    return None


def _file_trouble(error: OSError) -> str | None:
    place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
    if error.errno in DISK_FULL:
        return f"{place}the disk is full. {_FREE_SPACE}"
    if not place:
        return None
    reason = error.strerror or str(error)
    return _one_line(f"{place}{reason[:1].lower()}{reason[1:]}. Hint: check the path and its permissions")


def _missing_extra(error: ModuleNotFoundError) -> str | None:
    package = (error.name or "").split(".")[0]
    for extra, packages in _EXTRAS.items():
        if package in packages:
            return f"this needs the package {package}, which is not installed. Hint: pip install 'evermix[{extra}]'"
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
