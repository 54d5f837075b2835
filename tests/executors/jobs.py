"""Functions that tests hand to workers: `function(arguments, report)`, each writing the file `marker` last."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evermix.errors import TrainingError
from evermix.executors import Report
from evermix.files import write_atomically


def square(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes n * n; `seconds` of sleep in ten steps before that."""
    for step in range(10):
        time.sleep(arguments.get("seconds", 0.0) / 10)
        report(step + 1, 10)
    write_atomically(Path(arguments["marker"]), str(arguments["n"] ** 2))


def once_at_a_time(arguments: Mapping[str, Any], report: Report) -> None:
    """As square, but fails if another living process is at the same job: a lock that dies with its holder."""
    with open(Path(arguments["marker"]).with_suffix(".lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        square(arguments, report)


def fail(arguments: Mapping[str, Any], report: Report) -> None:
    """Raises ValueError with a message of two lines."""
    print("just before")
    raise ValueError(f"n must be even,\ngot {arguments['n']}")


def refuse(arguments: Mapping[str, Any], report: Report) -> None:
    """Raises what evermix raises on purpose."""
    raise TrainingError(f"a: {arguments['n']}", where=f" at step {arguments['n']}")


def fail_first(arguments: Mapping[str, Any], report: Report) -> None:
    """Fails on its first attempt, and writes the pids of all attempts to the marker on the second."""
    trace = Path(arguments["marker"]).with_suffix(".pids")
    with open(trace, "a", encoding="utf-8") as stream:
        stream.write(f"{os.getpid()}\n")
    pids = trace.read_text(encoding="utf-8").split()
    if len(pids) == 1:
        raise RuntimeError("not yet")
    write_atomically(Path(arguments["marker"]), " ".join(pids))


def die(arguments: Mapping[str, Any], report: Report) -> None:
    """Dies by the signal `signal`, after writing the marker if `late` is set."""
    print("last words")
    if arguments.get("late"):
        write_atomically(Path(arguments["marker"]), "late")
    os.kill(os.getpid(), arguments.get("signal", signal.SIGKILL))
    time.sleep(60)


def leave(arguments: Mapping[str, Any], report: Report) -> None:
    """Ends the process by sys.exit, or without a word if `abrupt` is set."""
    if arguments.get("abrupt"):
        os._exit(3)
    sys.exit(4)


def forget(arguments: Mapping[str, Any], report: Report) -> None:
    """Returns without its marker."""


def noise(arguments: Mapping[str, Any], report: Report) -> None:
    """Prints what looks like messages and what is no text at all, on every stream, and reads standard input."""
    assert sys.stdin.read() == ""
    for stream in (sys.stdout, sys.stderr):
        stream.write('{"kind": "raised", "reason": "noise"}\n\ud800 ünïcödé 混合\n')
    for descriptor in (1, 2):
        os.write(descriptor, bytes(range(256)) * 1000)
    subprocess.run(["echo", '{"kind": "returned"}'], check=True)
    sys.stdout.close()
    write_atomically(Path(arguments["marker"]), "quiet")


def environment(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes the variables named in `names`."""
    found = [os.environ.get(name, "") for name in arguments["names"]]
    write_atomically(Path(arguments["marker"]), " ".join(found))


def beat(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes its pid and that of a child that sleeps to `pids`, then sleeps; never finishes.

    With `hold` it keeps the interpreter to itself meanwhile, as a long call of compiled code may.
    """
    child = subprocess.Popen(["sleep", "60"]) if arguments.get("child") else None
    pids = f"{os.getpid()} {child.pid if child else os.getpid()}"
    write_atomically(Path(arguments["pids"]), pids)
    if arguments.get("hold"):
        ctypes.PyDLL(None).sleep(60)
    time.sleep(60)


def fork_and_die(arguments: Mapping[str, Any], report: Report) -> None:
    """Leaves a forked process that holds every descriptor of the worker, and dies."""
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)


def identity(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes the worker's pid."""
    write_atomically(Path(arguments["marker"]), str(os.getpid()))


def touch(arguments: Mapping[str, Any], report: Report) -> None:
    """The least a job can do."""
    Path(arguments["marker"]).touch()


def echo(arguments: Mapping[str, Any], report: Report) -> None:
    """Raises its text."""
    raise ValueError(arguments["text"])


def close_descriptors(arguments: Mapping[str, Any], report: Report) -> None:
    """Closes every descriptor but the first three, as a daemon would, and then takes its time."""
    os.closerange(3, 1000)
    time.sleep(0.1)
    write_atomically(Path(arguments["marker"]), "done")


def rubbish(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes to the pipe that leads to the parent."""
    os.write(int(sys.argv[1]), b"rubbish\n")
    time.sleep(60)


def tell_accelerator(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes the accelerator it sees, and waits for the other jobs, so that they must run at once."""
    marker = Path(arguments["marker"])
    write_atomically(marker, os.environ["CUDA_VISIBLE_DEVICES"])
    deadline = time.monotonic() + 60
    while not all(Path(other).exists() for other in arguments["others"]) and time.monotonic() < deadline:
        time.sleep(0.01)
