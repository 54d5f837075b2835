"""How far a project is: what the running process says of itself, and what the ledger already holds."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from evermix.files import read_json
from evermix.ledger import lock_holder
from evermix.reports import units
from evermix.reports.answer import decided_version, headline
from evermix.reports.history import study_state
from evermix.reports.layout import facts_table
from evermix.reports.project import Findings, load_findings
from evermix.results.entries import LiveStatus, read_as

State = Literal["running", "done", "stopped", "study"]
_FINISHED = ("segment", "probe", "decision", "proxy")
_WORDS = {
    "running": "running",
    "done": "done",
    "stopped": "stopped: run the same command again to go on",
    "study": "a study, open: ask, tell, propose",
}


@dataclass(frozen=True)
class Status:
    """State of a project.

    Attributes:
        state: running, done, stopped (run the same command again), or study: open.
        holder: the process that runs it now; None where none does.
        live: what the process last said of itself; empty where none ever ran.
        seconds_since_update: of that.
        entries: ledger entries per kind.
        swarm: `measured` of `wanted` proxies of the current `version` of the domains; None where no swarm runs.
        swarm_words: the same as a phrase.
        headline: once there is a result.
    """

    project: str
    state: State
    holder: str | None = None
    live: LiveStatus = field(default_factory=LiveStatus)
    seconds_since_update: float | None = None
    entries: dict[str, int] = field(default_factory=dict)
    swarm: dict[str, int] | None = None
    swarm_words: str | None = None
    headline: str | None = None

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; what is not known is left out."""
        plain = asdict(self) | {"live": None, "swarm_words": None} | self.live.model_dump()
        return {name: value for name, value in plain.items() if value is not None}


def status(project: str | Path) -> Status:
    """How far a project is.

    Raises:
        ProjectError: if there is no project in that folder, a file of it is damaged, or another evermix wrote it.
    """
    findings = load_findings(project)
    path, holder = findings.folder / "status.json", lock_holder(findings.folder)
    written = read_json(path) if path.exists() else None
    live = LiveStatus() if written is None else read_as(LiveStatus, written, str(path))
    study = study_state(findings)
    swarm = study if study is not None and written is not None else None
    current = findings.result is not None and (swarm is None or decided_version(findings.result) == swarm.version)
    return Status(
        str(findings.folder),
        _state(findings, live, written is not None, holder),
        holder,
        live,
        _age(live),
        dict(Counter(entry.kind for entry in findings.entries)),
        None if swarm is None else swarm.counts,
        None if swarm is None else swarm.words,
        headline(findings.result) if findings.result is not None and current else None,
    )


_UNITS = {"steps": ("step", 1, ""), "bytes": ("text", 10**6, " MB")}  # (name of the row, size of the unit, its name)


def print_status(found: Status, console: Console) -> None:
    """The state as a small table."""
    console.print(facts_table(_rows(found)))


def _rows(found: Status) -> list[tuple[str, str]]:
    live, state = found.live, _WORDS[found.state]
    rows = [("project", found.project), ("state", f"{state} ({found.holder})" if found.holder else state)]
    if found.state in ("running", "stopped"):
        rows.append(("part", live.detail or live.part or "-"))
        rows += [("of", live.place)] if live.place else []
    if live.total_steps:
        name, size, unit = _UNITS.get(live.unit or "steps", (live.unit or "step", 1, ""))
        step, digits = (live.step or 0) / size, 0 if size == 1 else 1
        of = f"{step:,.{digits}f} of {live.total_steps / size:,.{digits}f}{unit}"
        of_part = f"{of} ({units.share(step * size / live.total_steps, 0)})"
        rows.append((name, f"{of_part} of this part" if live.share_of_run is not None else of_part))
    if live.share_of_run is not None:
        left = f", about {units.seconds(live.seconds_left)} left" if live.seconds_left and found.holder else ""
        rows.append(("over all", f"{units.share(live.share_of_run, 0)} of the work of all arms{left}"))
    if live.tokens_per_second and found.state == "running":
        rows.append(("speed", f"{live.tokens_per_second:,.0f} tokens/s"))
    if live.updated_at:
        rows.append(("updated", f"{live.updated_at} ({units.seconds(found.seconds_since_update)} ago)"))
    counts = Counter(found.entries)
    done = [f"{counts[kind]} {kind}{'s' if counts[kind] != 1 else ''}" for kind in _FINISHED if counts[kind]]
    if done:
        rows.append(("finished", ", ".join(done)))
    if found.swarm_words:
        rows.append(("swarm", found.swarm_words))
    if found.state == "study":
        rows.append(("runs", f"{counts['ask']} asked for, {counts['tell']} told; {counts['proposal']} proposals"))
    return [*rows, *([("answer", found.headline)] if found.headline else [])]


def _state(findings: Findings, live: LiveStatus, has_status: bool, holder: str | None) -> State:
    if holder is not None:
        return "running"
    if findings.has_study and not has_status:
        return "study"
    return "done" if live.part == "done" or (not has_status and findings.result is not None) else "stopped"


def _age(live: LiveStatus) -> float | None:
    """Seconds since the process last said something of itself."""
    if live.updated_at is None:
        return None
    moment = datetime.fromisoformat(live.updated_at)
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max(round((datetime.now(UTC) - moment).total_seconds(), 1), 0.0)
