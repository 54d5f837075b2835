"""Damage to a project's files: what disks, power cuts and hands do to them, by seed; and what everybody then says.

`attack` is the whole of it: copies of a project are damaged one by one, and everything that opens a project is asked.
Each must answer, or say in an EvermixError what is wrong.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import evermix as em
from evermix import ledger
from evermix.files import SEAL
from evermix.ledger import Project
from evermix.reports import print_check, print_log, print_status
from evermix.reports.project import load_findings
from evermix.results import RunResult

Rng = random.Random
TARGETS = ("result.json", "ledger.sqlite", "status.json")


def flip(raw: bytes, rng: Rng) -> bytes:
    """Some bits are others."""
    out = bytearray(raw)
    for _ in range(rng.choice((1, 1, 8))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def cut(raw: bytes, rng: Rng) -> bytes:
    """The end is gone, perhaps all of it."""
    return raw[: rng.choice((0, rng.randrange(len(raw)), len(raw) - 1))]


def zero(raw: bytes, rng: Rng) -> bytes:
    """A block of zeros, as where pages never reached the disk."""
    size = min(rng.choice((64, 4096, len(raw))), len(raw))
    start = rng.randrange(len(raw) - size + 1)
    return raw[:start] + bytes(size) + raw[start + size :]


def scramble(raw: bytes, rng: Rng) -> bytes:
    """A block of something else."""
    size = min(rng.choice((16, 512)), len(raw))
    start = rng.randrange(len(raw) - size + 1)
    return raw[:start] + rng.randbytes(size) + raw[start + size :]


BYTES: dict[str, Callable[[bytes, Rng], bytes]] = {"flip": flip, "cut": cut, "zero": zero, "scramble": scramble}
_OTHERS: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "a" * 300,
    "\ud800",
    [],
    {},
    [[]],
    {"a": 1},
)


def reshape(value: Any, rng: Rng) -> Any:
    """The same JSON with one thing in it another: a type exchanged, a key gone or renamed, NaN, text far too long."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(sorted(value))
        kind = rng.random()
        if kind < 0.15:
            return {name: each for name, each in value.items() if name != key}
        if kind < 0.25:
            return {("other " + name if name == key else name): each for name, each in value.items()}
        return {name: reshape(each, rng) if name == key else each for name, each in value.items()}
    if isinstance(value, list) and value and rng.random() < 0.8:
        place = rng.randrange(len(value))
        return [reshape(each, rng) if k == place else each for k, each in enumerate(value)]
    return rng.choice([other for other in _OTHERS if repr(other) != repr(value)])


def damage(path: Path, rng: Rng) -> str:
    """Damage one file of a project; what was done, in words."""
    if rng.random() < 0.5:
        sealed = rng.random() < 0.5
        if path.suffix == ".json":
            _reshape_json(path, rng, sealed)
        else:
            _reshape_entry(path, rng, sealed)
        return f"reshape {path.name}{' and seal it' if sealed else ''}"
    kind = rng.choice(sorted(BYTES))
    path.write_bytes(BYTES[kind](path.read_bytes(), rng))
    return f"{kind} {path.name}"


def _reshape_json(path: Path, rng: Rng, sealed: bool) -> None:
    content = json.loads(path.read_text(encoding="utf-8"))
    seal = content.pop(SEAL, None)
    changed = reshape(content, rng)
    if isinstance(changed, dict) and seal is not None:
        changed[SEAL] = {"files": {}, "record": _content_hash(changed, {})} if sealed else seal
    path.write_text(json.dumps(changed))


def _content_hash(record: Any, files: Any) -> str:
    return hashlib.sha256(json.dumps([record, files], sort_keys=True).encode()).hexdigest()


def _reshape_entry(path: Path, rng: Rng, sealed: bool) -> None:
    """Another payload in the place of one, as by hand: the triggers are taken away first."""
    with closing(sqlite3.connect(path)) as connection, connection:
        for trigger in ("never_changed", "never_removed"):
            connection.execute(f"drop trigger {trigger}")
        rows = connection.execute("select number, kind, key, payload, at, seal from entries").fetchall()
        number, kind, key, payload, at, seal = rng.choice(rows)
        text = json.dumps(reshape(json.loads(payload), rng))
        seal = ledger._seal(kind, key, text, at) if sealed else seal
        connection.execute("update entries set payload = ?, seal = ? where number = ?", (text, seal, number))


def _open(project: Path) -> None:
    """What a resumed run reads first."""
    opened = Project(project)
    with opened.lock():
        opened.ledger.entries()
    if (project / "result.json").exists():
        RunResult.load(project / "result.json")
    if any(entry.kind == "study" for entry in opened.ledger.entries()):
        em.Study(project).history()


def _content(project: Path) -> Any:
    return json.loads((project / "result.json").read_text(encoding="utf-8"))


def asked(console: Any, draw: bool) -> dict[str, Callable[[Path], object]]:
    """Everything that opens a project; a run last, for the others only read."""
    return {
        "status": lambda project: print_status(em.status(project), console),
        "log": lambda project: print_log(em.log(project), console),
        "report": em.report if draw else load_findings,
        "check": lambda project: print_check(em.check(project), console),
        "run": _open,
    }


def attack(
    project: Path, scratch: Path, n_cases: int, seed: int = 0, draw: bool = False
) -> tuple[list[str], dict[str, int]]:
    """Damage `n_cases` copies of a project, and ask everybody.

    Args:
        project: a whole one; it is left as it is.
        scratch: a folder for the copies.
        n_cases: each is the same for the same seed.
        draw: whether reports are drawn where they are not refused, seconds each; else only what they are of is read.

    Returns:
        a line for every answer that was neither one nor an EvermixError, and for result and entries that were changed
        and not noticed; and how often each verb has refused.
    """
    from io import StringIO

    from rich.console import Console

    verbs, faults = asked(Console(file=StringIO(), width=160), draw), list[str]()
    refused = dict.fromkeys(verbs, 0)
    for number in range(n_cases):
        rng = Rng(f"{seed}-{number}")
        copy = scratch / "damaged"
        shutil.copytree(project, copy)
        did = damage(copy / rng.choice([name for name in TARGETS if (copy / name).exists()]), rng)
        for verb, ask in verbs.items():
            try:
                ask(copy)
            except em.EvermixError as error:
                refused[verb] += 1
                if "\n" in str(error):
                    faults.append(f"case {number}, {did}, {verb}: more than a line")
            except Exception as error:  # noqa: BLE001  whatever it is, it is what is looked for
                faults.append(f"case {number}, {did}, {verb}: {type(error).__name__}: {str(error)[:200]}")
        if (
            "result.json" in did
            and "and seal" not in did
            and em.check(copy).is_whole
            and _content(copy) != _content(project)
        ):
            faults.append(f"case {number}, {did}: not noticed")
        shutil.rmtree(copy)
    return faults, refused
