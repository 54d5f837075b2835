"""What a user sees of a verb: results on stdout, progress and errors on stderr, an exit code.

Errors that a user can mend become one line and an exit code; a bug keeps its trace.
"""

from __future__ import annotations

import functools
import json
import math
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from evermix.errors import EvermixError, to_install
from evermix.files import DISK_FULL, placed
from evermix.wording import escaped_json, shown, without_secrets

if TYPE_CHECKING:
    from rich.console import Console

P = ParamSpec("P")
R = TypeVar("R")

DAMAGED = 1
FAILED = 2
INTERRUPTED = 130
TERMINATED = 143
_PIPED_WIDTH, _LEAST_WIDTH = 120, 40
_AGAIN = "run the same command again to go on"
_FREE_SPACE = "Hint: free some space and run the same command again; what was finished is kept"
_LESS_MEMORY = (
    "Hint: lower training.batch_sequences, training.workers or swarm.workers, or free some, and run the same command "
    "again; what was finished is kept"
)
_OUT_OF_MEMORY = re.compile(
    r"OutOfMemoryError|DefaultCPUAllocator.*memory|std::bad_alloc"
)  # of torch, which may be absent
_EXTRAS = {
    "train": ("torch", "transformers", "accelerate", "peft", "tokenizers", "safetensors", "zstandard"),
    "plot": ("matplotlib", "jinja2"),
    "parquet": ("pyarrow",),
    "regress": ("lightgbm", "sklearn"),
    "datasets": ("datasets",),
    "eval": ("lm_eval",),
}


def console(*, stderr: bool = False) -> Console:
    """A console for results (stdout) or for progress (stderr).

    It is as wide as $COLUMNS says, else as the terminal is, else `_PIPED_WIDTH`.
    """
    from rich.console import Console

    manner: dict[str, Any] = {"stderr": stderr, "highlight": False, "markup": False, "emoji": False}
    asked = os.environ.get("COLUMNS", "")
    if asked.isascii() and asked.isdigit() and int(asked):
        return Console(**manner, width=max(int(asked), _LEAST_WIDTH))
    made = Console(**manner)
    return made if made.is_terminal else Console(**manner, width=_PIPED_WIDTH)


def print_line(words: str, *, stderr: bool = False) -> None:
    """One line, with control characters spelt out and without secrets."""
    print(shown(words, lines=False), file=sys.stderr if stderr else sys.stdout)


def spell_out_what_cannot_be_encoded() -> None:
    """Let standard output and errors write `\\xe9` where their encoding has no é, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_json(value: Any) -> None:
    """One JSON document on stdout, without secrets; numbers that JSON has no word for as null.

    What the encoding of stdout lacks, and what a terminal would obey, is escaped as JSON does: the values are the same.
    """
    text = json.dumps(_finite(without_secrets(value)), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(json.loads(text), indent=2, allow_nan=False)
    print(escaped_json(text))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


@contextmanager
def bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Shows `label` while the block runs; call what it gives with (done, total) to turn the spinner into a bar.

    Nothing is shown where stderr is no terminal.
    """
    from rich.progress import BarColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from evermix.printing import label_column

    columns = (label_column(), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    screen = console(stderr=True)
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as progress:
        task = progress.add_task(shown(label), total=None)

        def advance(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield advance


class Terminated(BaseException):
    """SIGTERM; not an Exception, so that nothing on the way takes it for a fault."""


def end_on_sigterm() -> None:
    """Let SIGTERM unwind like Ctrl-C, so that temporary files are removed and the bars are closed."""

    def end(number: int, frame: FrameType | None) -> None:
        raise Terminated

    signal.signal(signal.SIGTERM, end)


def _placed(given: Any) -> Any:
    """A path of the command line, where a shell left `~` or `$NAME` as it is (`--out=~/x`); anything else as it is."""
    if isinstance(given, list):
        return [_placed(each) for each in given]
    return placed(str(given), Path()) if isinstance(given, Path) else given


def one_line_errors(verb: Callable[P, R], way_on: str = _AGAIN) -> Callable[P, R]:
    """Wrap a verb: mendable errors exit with code 2, an interruption with 130.

    Args:
        way_on: how to go on after an interruption.
    """

    @functools.wraps(verb)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return verb(*args, **{name: _placed(value) for name, value in kwargs.items()})
        except KeyboardInterrupt:
            message, code = f"interrupted: {way_on}", INTERRUPTED
        except Terminated:
            message, code = f"terminated: {way_on}", TERMINATED
        except BrokenPipeError:
            # The reader of our output went away (`evermix log | head`): nothing to say, nobody to say it to.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise SystemExit(0) from None
        except (EvermixError, OSError, ModuleNotFoundError, MemoryError, RuntimeError) as error:
            described = describe(error)
            if described is None:
                raise
            message, code = f"error: {described}", FAILED
        print_line(message, stderr=True)
        raise SystemExit(code)

    return guarded


def describe(error: Exception) -> str | None:
    """The one line for `error`, or None if no user could mend it."""
    if isinstance(error, EvermixError):
        return _one_line(str(error))
    if isinstance(error, ModuleNotFoundError):
        return _missing_extra(error)
    if isinstance(error, OSError):
        return _file_trouble(error)
    if isinstance(error, MemoryError) or _OUT_OF_MEMORY.search(f"{type(error).__name__}: {error}"):
        return f"not enough memory ({_one_line(str(error))[:120] or type(error).__name__}). {_LESS_MEMORY}"
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
            return f"this needs the package {package}, which is not installed. Hint: {to_install(extra)}"
    return None


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
