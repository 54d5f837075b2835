"""The worker process: `python -P -m evermix.executors.worker RESULTS PARENT`. It takes jobs until one fails.

Protocol, JSON lines. In, on standard input: first `{"path": [...]}` (the module search path of the parent), then one
`{"call", "arguments", "log"}` at a time. Out, on the file descriptor RESULTS: `ready` once, then per job any number of
`progress` (done, total) and one of `returned` or `raised` (reason, and whether it is final: what evermix raises on
purpose would come again). Standard output and error belong to the job and go to its log; standard input reads as empty,
so nothing a job prints or reads can disturb the protocol.

A worker never outlives its parent: it ends, with all processes it started, when its standard input closes; on Linux
the kernel kills it as well when the parent dies, should a job hold the interpreter at that moment.
"""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import gc
import importlib
import json
import os
import signal
import sys
import threading
import time
import traceback
from io import TextIOWrapper
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NoReturn

from evermix.errors import EvermixError
from evermix.executors.job import one_line, perform

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_SECONDS_BETWEEN_REPORTS = 0.05


def main(results: int, parent: int) -> NoReturn:
    """Serve jobs from standard input until it closes or a job fails."""
    _die_with(parent)
    os.set_inheritable(results, False)
    requests: SimpleQueue[dict[str, Any]] = SimpleQueue()
    threading.Thread(target=_listen, args=(_private_input(), requests), daemon=True).start()
    faulthandler.enable()  # writes to descriptor 2: the log of the job at hand
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # what a job prints never fails it
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)
    channel = _Channel(results)
    sys.path[:] = requests.get()["path"]
    channel.send(kind="ready")
    while True:
        _serve(requests.get(), channel)


class _Channel:
    """The way back to the parent; usable from every thread of a job, not from a process that a job forked."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lock = threading.Lock()
        self._pid = os.getpid()

    def send(self, **message: object) -> None:
        if os.getpid() != self._pid:
            return
        rest = memoryview(json.dumps(message).encode() + b"\n")
        with self._lock:
            try:
                while rest:
                    rest = rest[os.write(self._descriptor, rest) :]
            except BrokenPipeError:  # nobody is left to tell
                _end()


class _Progress:
    """`report` of one job: at most one message per 0.05 s, but the first and the last always; silent once closed."""

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel
        self._next = 0.0
        self.closed = False

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        if not self.closed and (now >= self._next or done == total):
            self._next = now + _SECONDS_BETWEEN_REPORTS
            self._channel.send(kind="progress", done=int(done), total=int(total))


class _Attempt:
    """Whatever leaves the block as an exception is written to the log, told to the parent, and ends the worker.

    A worker whose job failed is not used again: its state may be spoiled, and a retry asks for a fresh one.
    """

    def __init__(self, channel: _Channel) -> None:
        self._channel = channel

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if error is None:
            return
        try:  # to the descriptor: the job may have closed or replaced sys.stderr
            os.write(2, "".join(traceback.format_exception(error)).encode("utf-8", "backslashreplace"))
            self._channel.send(kind="raised", reason=one_line(error), final=isinstance(error, EvermixError))
        finally:
            os._exit(1)  # without waiting for threads that the job left


def _serve(request: dict[str, Any], channel: _Channel) -> None:
    progress = _Progress(channel)
    with _Attempt(channel):
        _print_to(Path(request["log"]))
        importlib.import_module(request["call"].partition(":")[0])
        if not gc.get_freeze_count():  # a job may collect garbage often: what is imported is not looked through
            gc.freeze()
        perform(request["call"], request["arguments"], progress)
        progress.closed = True
        _print_to(Path(os.devnull))
        channel.send(kind="returned")


def _print_to(path: Path) -> None:
    """Let descriptors 1 and 2, for this process and those it starts, append to `path`."""
    _flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def _flush() -> None:
    sys.stdout.flush()
    sys.stderr.flush()


def _private_input() -> int:
    """A descriptor of the parent's pipe that no job can read from; standard input itself becomes empty."""
    commands = os.dup(0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return commands


def _listen(commands: int, requests: SimpleQueue[dict[str, Any]]) -> None:
    is_closed_by_job = False
    try:
        with open(commands, "rb") as lines:
            for line in lines:
                requests.put(json.loads(line))
    except OSError as error:  # a job may close what is not its own, as daemons do: it is let finish, and is the last
        is_closed_by_job = error.errno == errno.EBADF
    finally:
        if not is_closed_by_job:
            _end()


def _die_with(parent: int) -> None:
    """Ask the kernel to kill this process when its parent dies; end at once if it died before we asked."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        _end()


def _end() -> NoReturn:
    """End this process and, where it leads its group, every process that a job left in it."""
    if os.getpgrp() == os.getpid():
        os.killpg(os.getpid(), signal.SIGKILL)
    os._exit(1)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
