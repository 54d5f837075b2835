"""The parent's end of one worker (its pipes, its messages, notice of its death), and the machine that workers share.

Of the machine: how many cores this process may keep busy, which accelerators it may use, and what is done first when a
signal is about to raise an exception.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any

from evermix.errors import ExecutorError

_READ_BYTES = 1 << 16


class WorkerProcess:
    """A worker that is not started yet. `end` may be called at any moment, more than once.

    `results` becomes readable when the worker says something, `ended` when the process ends. (End of file on `results`
    would not do: a process that a job forked keeps that pipe open.) The pipes exist before the process, so that an
    interrupt in the middle of `start` leaves no worker behind: `end` closes its standard input.
    """

    def __init__(self) -> None:
        self._input_of_worker, self._commands = os.pipe()
        self.results, self._results_of_worker = os.pipe()
        self.ended, self._alive = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: threading.Thread | None = None
        self._returncode: int | None = None
        self._unread = b""
        self._closed = False
        self.ready = False
        self.silent = False
        os.set_blocking(self.results, False)

    def start(self, environment: Mapping[str, str], log: Path) -> None:
        """Start the process; what it prints before its first job goes to `log`.

        Raises:
            ExecutorError: if the system refuses another process.
        """
        command = [
            sys.executable,
            "-P",
            "-m",
            "evermix.executors.worker",
            str(self._results_of_worker),
            str(os.getpid()),
        ]
        try:
            with open(log, "ab") as output:
                self._process = subprocess.Popen(
                    command,
                    stdin=self._input_of_worker,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[self._results_of_worker],
                    env=environment,
                    start_new_session=True,  # Ctrl-C in a terminal reaches the parent alone, which ends its workers
                )
        except OSError as error:
            raise ExecutorError(
                f"a worker process must start, but the system says: {error}", hint="use fewer workers"
            ) from error
        self._watch = threading.Thread(target=self._wait, args=(self._process,), daemon=True)
        self._watch.start()
        for descriptor in (self._input_of_worker, self._results_of_worker):
            os.close(descriptor)
        self._input_of_worker = self._results_of_worker = -1
        self.send(json.dumps({"path": sys.path}))

    def send(self, line: str) -> None:
        """Send one request; a worker that died meanwhile is noticed by `ended`."""
        rest = memoryview(line.encode() + b"\n")
        with suppress(BrokenPipeError):
            while rest:
                rest = rest[os.write(self._commands, rest) :]

    def messages(self) -> list[dict[str, Any]]:
        """The whole messages that have come since the last call; sets `silent` if no more can come."""
        with suppress(BlockingIOError):
            while data := os.read(self.results, _READ_BYTES):
                self._unread += data
            self.silent = True
        *lines, self._unread = self._unread.split(b"\n")
        return [_parsed(line) for line in lines]

    def death(self) -> str:
        """How the worker ended by itself, in one line; to be asked once `ended` is readable."""
        code = self._returncode
        if code is None:
            return "worker died: the system does not say how"
        what = "worker died" if self.ready else "worker could not start"
        if code == -signal.SIGKILL:
            return f"{what}: signal 9 (killed, perhaps by the system for want of memory: use fewer workers)"
        return f"{what}: signal {-code}" if code < 0 else f"{what}: exit code {code}"

    def kill(self) -> None:
        """Kill the worker and the processes its jobs started, where any is left; `end` does the rest."""
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # PermissionError: what macOS says of a dead group
                os.killpg(self._process.pid, signal.SIGKILL)

    def end(self) -> None:
        """Kill the worker if it lives, take note of its death, and close the pipes."""
        if self._closed:
            return
        self._closed = True
        self.kill()
        os.close(self._commands)
        if self._watch is None:
            os.close(self._alive)
        elif self._watch.is_alive():  # not so if an interrupt came before it ran
            self._watch.join()
        if self._process is not None:
            self._process.wait()
        for descriptor in (self.results, self.ended, self._input_of_worker, self._results_of_worker):
            if descriptor >= 0:
                os.close(descriptor)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        """Close `_alive` when the process has ended.

        Where the system can wait without reaping, the dead worker keeps its process id until `end`, so that the group
        that `end` kills cannot be a stranger's.
        """
        try:
            if sys.platform == "darwin":
                self._returncode = process.wait()
            else:
                with suppress(ChildProcessError):  # something else in this process has reaped it
                    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
                    if ended is not None:
                        self._returncode = ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status
        finally:
            os.close(self._alive)


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if isinstance(message, dict) and "kind" in message:
        return message
    return {"kind": "raised", "reason": f"the worker's channel must carry JSON messages, got {line[:60]!r}"}


# ---- what workers may use of the machine

_CGROUPS = Path("/sys/fs/cgroup")


def available_cores(cgroups: Path = _CGROUPS) -> int:
    """Cores of the process's affinity, or fewer where its container is allowed less time than that; at least 1.

    The time a container may use is its quota per period: `cpu.max` of cgroup 2, `cpu.cfs_quota_us` and
    `cpu.cfs_period_us` of cgroup 1 (kernel documentation, admin-guide/cgroup-v2 and scheduler/sched-bwc).
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    for quota, period in (_numbers(cgroups / "cpu.max"), _numbers(*_version_1(cgroups))):
        if quota > 0 and period > 0:
            cores = min(cores, max(1, round(quota / period)))
    return cores


def _version_1(cgroups: Path) -> tuple[Path, Path]:
    return cgroups / "cpu" / "cpu.cfs_quota_us", cgroups / "cpu" / "cpu.cfs_period_us"


def _numbers(*files: Path) -> tuple[int, int]:
    """The two numbers that the files hold together; (0, 0) where there is no limit or no such file."""
    words = [word for file in files if file.is_file() for word in file.read_text(encoding="ascii").split()]
    if len(words) == 2 and all(word.isdigit() for word in words):
        return int(words[0]), int(words[1])
    return 0, 0


VARIABLE = "CUDA_VISIBLE_DEVICES"
_DRIVER = Path("/proc/driver/nvidia/gpus")


def visible_accelerators(environment: Mapping[str, str] = os.environ, driver: Path = _DRIVER) -> tuple[str, ...]:
    """As CUDA_VISIBLE_DEVICES lists them; where that is unset, the numbers of all that the driver knows."""
    listed = environment.get(VARIABLE)
    if listed is not None:
        return tuple(name.strip() for name in listed.split(",") if name.strip())
    return tuple(str(k) for k in range(len(list(driver.iterdir())))) if driver.is_dir() else ()


def one_of(accelerators: tuple[str, ...], place: int) -> dict[str, str]:
    """The variable that shows a worker one accelerator of several, in turn; nothing where there are fewer than two."""
    return {VARIABLE: accelerators[place % len(accelerators)]} if len(accelerators) > 1 else {}


# ---- interrupts

_NUMBERS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def first_on_interrupt(action: Callable[[], None]) -> Iterator[None]:
    """Call `action` before whatever Python function handles SIGINT or SIGTERM now, as Ctrl-C does.

    A `finally` is not enough where signals come in twos (`timeout` sends them so, people press Ctrl-C twice): the
    second cuts the `finally` of the first short. Here the action of the last signal always runs to its end. Outside
    of the main thread, where no signal raises anything, this does nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: handler for number in _NUMBERS if callable(handler := signal.getsignal(number))}

    def handle(number: int, frame: FrameType | None) -> None:
        action()
        before[signal.Signals(number)](number, frame)

    try:
        for number in before:
            signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
