"""How far a project is: what the running process says of itself, and what the ledger already holds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from evermix.files import process_alive
from evermix.reports import units
from evermix.reports.lives import answer as lives
from evermix.reports.olmix import answer
from evermix.reports.olmix.plans import swarm_counts, swarm_words
from evermix.reports.project import read_entries, read_json, require_project

_FINISHED = {
    "segment": "segment",
    "probe": "probe",
    "decision": "decision",
    "stage-segment": "stage training",
    "stage-decision": "stage decision",
}


def read_status(project: str | Path) -> dict[str, Any]:
    """State of a project.

    Returns:
        `project`, `state` ("running", "done", "stopped": run the same command again, or "study": open), the keys of
        `status.json` where it exists (`part`, `detail`, `step`, `total_steps`, `tokens_per_second`, `updated_at`,
        `pid`), `seconds_since_update`, `entries` (ledger entries per kind), `swarm` (`told` of `wanted` proxies of the
        current `era`), `headline` once there is a result.

    Raises:
        ProjectError: if there is no project in that folder, or a file of it is damaged.
    """
    project = Path(project)
    require_project(project)
    live = read_json(project / "status.json") or {}
    result = read_json(project / "result.json")
    found: dict[str, Any] = {"project": str(project), "state": _state(live, result is not None), **live}
    if live.get("updated_at"):
        age = datetime.now(UTC) - _utc(live["updated_at"])
        found["seconds_since_update"] = max(round(age.total_seconds(), 1), 0.0)
    found["entries"] = dict(Counter(entry.kind for entry in read_entries(project)))
    if "study" in found["entries"] and not live:
        found["state"] = "study"
    swarm = swarm_counts(project) if live and "study" in found["entries"] else None
    if swarm is not None:
        found["swarm"] = swarm
    if result is not None and (swarm is None or result.get("era") == swarm["era"]):
        found["headline"] = lives.headline(result) if lives.is_life(result) else answer.headline(result)
    return found


def print_status(found: Mapping[str, Any], console: Console) -> None:
    """The state as a small table."""
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    for label, value in _rows(found):
        table.add_row(label, Text(value))
    console.print(table)


def _rows(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [("project", str(found["project"])), ("state", _state_words(found))]
    if found["state"] in ("running", "stopped"):
        rows.append(("part", " ".join(str(found[key]) for key in ("part", "detail") if found.get(key)) or "-"))
    if found.get("total_steps"):
        step, total = found.get("step") or 0, found["total_steps"]
        rows.append(("step", f"{step:,} of {total:,} ({units.share(step / total, 0)})"))
    if found.get("tokens_per_second") and found["state"] == "running":
        rows.append(("speed", f"{found['tokens_per_second']:,.0f} tokens/s"))
    if found.get("updated_at"):
        rows.append(("updated", f"{found['updated_at']} ({units.seconds(found['seconds_since_update'])} ago)"))
    kinds = {_FINISHED[kind]: n for kind, n in (found.get("entries") or {}).items() if kind in _FINISHED}
    if kinds:
        rows.append(("finished", ", ".join(f"{n} {kind}{'s' if n != 1 else ''}" for kind, n in kinds.items())))
    if found.get("swarm"):
        rows.append(("swarm", swarm_words(found["swarm"])))
    if found["state"] == "study":
        entries = found["entries"]
        asked, told = entries.get("ask", 0), entries.get("tell", 0)
        rows.append(("runs", f"{asked} asked for, {told} told; {entries.get('proposal', 0)} proposals"))
    if found.get("headline"):
        rows.append(("answer", found["headline"]))
    return rows


def _state_words(found: Mapping[str, Any]) -> str:
    if found["state"] == "running":
        return f"running (process {found['pid']})" if found.get("pid") else "running"
    words = {"stopped": "stopped: run the same command again to go on", "study": "a study, open: ask, tell, propose"}
    return words.get(found["state"], "done")


def _state(live: Mapping[str, Any], has_result: bool) -> str:
    if live.get("part") == "done" or (not live and has_result):
        return "done"
    pid = live.get("pid")
    return "running" if isinstance(pid, int) and process_alive(pid) else "stopped"


def _utc(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
