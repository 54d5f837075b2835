"""Functions that tests hand to workers: `function(arguments, report)`, each writing the file `marker` last."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from evermix.executors import Report
from evermix.files import write_atomically


def square(arguments: Mapping[str, Any], report: Report) -> None:
    """Writes n * n; `seconds` of sleep in ten steps before that."""
    for step in range(10):
        time.sleep(arguments.get("seconds", 0.0) / 10)
        report(step + 1, 10)
    write_atomically(Path(arguments["marker"]), str(arguments["n"] ** 2))


def once_at_a_time(arguments: Mapping[str, Any], report: Report) -> None:
    """As square, but fails if another process is at the same job: a file made exclusively, with the owner's pid."""
    claim = Path(arguments["marker"]).with_suffix(".claim")
    if claim.exists():
        owner = int(claim.read_text(encoding="utf-8") or "0")
        assert owner == 0 or not Path(f"/proc/{owner}").exists(), "two workers at one job"
    claim.write_text(str(os.getpid()), encoding="utf-8")
    square(arguments, report)
    claim.unlink()


def fail(arguments: Mapping[str, Any], report: Report) -> None:
    """Raises ValueError with a message of two lines."""
    print("just before")
    raise ValueError(f"n must be even,\ngot {arguments['n']}")


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
    """Writes its pid and that of a child that sleeps to `pids`, then sleeps; never finishes."""
    child = subprocess.Popen(["sleep", "60"]) if arguments.get("child") else None
    pids = f"{os.getpid()} {child.pid if child else os.getpid()}"
    write_atomically(Path(arguments["pids"]), pids)
    time.sleep(60)


def fork_and_die(arguments: Mapping[str, Any], report: Report) -> None:
    """Leaves a forked process that holds every descriptor of the worker, and dies."""
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGKILL)
