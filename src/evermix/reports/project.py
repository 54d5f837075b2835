"""What a project folder holds, read without changing it; a project that is still running has less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from evermix.errors import ProjectError
from evermix.ledger import Entry, Ledger
from evermix.results import Decision, RunResult
from evermix.results.entries import Kept, RecipeEntry, SegmentEntry, read_as

_OLDER = ("stage-segment", "stage-decision", "stage-begun")  # kinds that evermix before 0.5 wrote


@dataclass(frozen=True)
class Findings:
    """A project as the report sees it.

    Attributes:
        folder: where it is.
        name: the folder's name.
        result: None before it is finished.
        entries: the ledger, oldest first.
    """

    folder: Path
    name: str
    result: RunResult | None
    entries: tuple[Entry, ...]

    @property
    def has_study(self) -> bool:
        """Whether a study decides here: a swarm's, or one of somebody's own trainer."""
        return any(entry.kind == "study" for entry in self.entries)

    def of_kind(self, kind: str, as_kind: type[Kept]) -> list[Kept]:
        """The entries of one kind, typed."""
        return [typed(entry, as_kind) for entry in self.entries if entry.kind == kind]

    @cached_property
    def recipe(self) -> RecipeEntry | None:
        """The latest one that was run here; None in a study without one."""
        found = self.of_kind("recipe", RecipeEntry)
        return found[-1] if found else None

    @cached_property
    def decisions(self) -> list[Decision]:
        """All that were made so far."""
        return self.of_kind("decision", Decision)

    @cached_property
    def segments(self) -> list[SegmentEntry]:
        """What was trained so far."""
        return self.of_kind("segment", SegmentEntry)


def typed(entry: Entry, kind: type[Kept]) -> Kept:
    """The content of a ledger entry; ProjectError if it has another shape."""
    return read_as(kind, entry.payload, f"ledger entry {entry.number} ({entry.kind})")


def load_findings(project: str | Path) -> Findings:
    """Read `result.json` and the ledger of a project.

    Raises:
        ProjectError: if the folder holds neither, one is damaged, or another evermix wrote them.
    """
    folder = Path(project)
    require_project(folder)
    entries = read_entries(folder)
    return Findings(folder, folder.resolve().name, read_result(folder), entries)


def require_project(project: Path) -> None:
    """ProjectError unless `project` is a folder that a run has written to."""
    if not project.is_dir():
        raise ProjectError(
            f"{project}: the project folder must exist", hint="it is what the recipe's `project:` names; run the recipe"
        )
    if not any((project / name).exists() for name in ("result.json", "ledger.sqlite", "status.json")):
        raise ProjectError(
            f"{project}: the folder must hold a project, and it has neither ledger nor result",
            hint="give the folder that the recipe's `project:` names",
        )


def read_result(project: Path) -> RunResult | None:
    """The result, or None before there is one; ProjectError if it is damaged or of another schema."""
    path = project / "result.json"
    return RunResult.load(path) if path.exists() else None


def read_entries(project: Path) -> tuple[Entry, ...]:
    """All ledger entries, oldest first; none if there is no ledger yet.

    Raises:
        ProjectError: if it is damaged, or an evermix before 0.5 wrote it.
    """
    path = project / "ledger.sqlite"
    entries = tuple(Ledger(path, read_only=True).entries()) if path.exists() else ()
    older = next((entry for entry in entries if entry.kind in _OLDER), None)
    if older is not None:
        raise ProjectError(
            f"{project}: the ledger must be of this evermix; entry {older.number} is of one before 0.5",
            received=older.kind,
            hint="run the recipe into another project folder, or read it with the evermix that wrote it",
        )
    return entries
