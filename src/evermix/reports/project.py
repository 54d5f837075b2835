"""What a project folder holds, read without changing it; a project that is still running has less."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evermix.errors import ProjectError
from evermix.ledger import Entry, Ledger


@dataclass(frozen=True)
class Findings:
    """A project as the report sees it.

    Attributes:
        folder: where it is.
        name: the folder's name.
        result: the result dict, or what of it the ledger can already tell.
        finished: whether `result.json` was written.
        max_epochs: the repetition cap of the recipe, None for no cap.
        entries: the ledger, oldest first.
    """

    folder: Path
    name: str
    result: dict[str, Any]
    finished: bool
    max_epochs: float | None
    entries: tuple[Entry, ...]

    @property
    def is_life(self) -> bool:
        """Whether the recipe has phases."""
        return "lives" in self.result

    @property
    def is_swarm(self) -> bool:
        """Whether a study decides here: a swarm's, or one of somebody's own trainer."""
        return any(entry.kind == "study" for entry in self.entries)


def load_findings(project: Path) -> Findings:
    """Read `result.json` and the ledger of a project.

    Raises:
        ProjectError: if the folder holds neither, or `result.json` is damaged.
    """
    project = Path(project)
    require_project(project)
    entries = read_entries(project)
    result = read_json(project / "result.json")
    recipe = _latest(entries, "recipe")
    max_epochs = (recipe.get("constraints") or {}).get("max_epochs")
    if result is not None:
        max_epochs = result.get("max_epochs", max_epochs)
    partial = result if result is not None else _partial_result(entries, recipe)
    return Findings(project, project.resolve().name, partial, result is not None, max_epochs, entries)


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


def read_entries(project: Path) -> tuple[Entry, ...]:
    """All ledger entries, oldest first; none if there is no ledger yet."""
    path = project / "ledger.sqlite"
    return tuple(Ledger(path).entries()) if path.exists() else ()


def read_json(path: Path) -> dict[str, Any] | None:
    """A JSON object, or None if the file does not exist; ProjectError if it is damaged."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ProjectError(
            f"{path}: must be valid JSON ({error})", hint="move it away and run the recipe again to write it anew"
        ) from error
    if not isinstance(value, dict):
        raise ProjectError(f"{path}: must hold a JSON object", received=type(value).__name__)
    return value


def _latest(entries: tuple[Entry, ...], kind: str) -> dict[str, Any]:
    return next((entry.payload for entry in reversed(entries) if entry.kind == kind), {})


def _partial_result(entries: tuple[Entry, ...], recipe: dict[str, Any]) -> dict[str, Any]:
    """As much of a result as a running project's ledger tells."""
    corpus = _latest(entries, "corpus")
    domains: list[dict[str, Any]] = corpus.get("domains") or []
    life = _partial_life(entries) if recipe.get("phases") else {}
    return {
        "method": recipe.get("method"),
        "seed": recipe.get("seed"),
        "objective": recipe.get("objective") or {},
        "total_tokens": (recipe.get("training") or {}).get("tokens"),
        "model": recipe.get("model"),
        "domains": [_domain(row) for row in domains],
        "arms": {},
        "decisions": [entry.payload for entry in entries if entry.kind == "decision"],
        **life,
    }


def _partial_life(entries: tuple[Entry, ...]) -> dict[str, Any]:
    """What the stages of a life that is not finished have left behind."""
    return {
        "lives": {},
        "segments": [entry.payload for entry in entries if entry.kind == "stage-segment"],
        "stage_decisions": [entry.payload for entry in entries if entry.kind == "stage-decision"],
    }


def _domain(counts: dict[str, Any]) -> dict[str, Any]:
    """A row of the corpus record, whose counts are per split, as a row of the result."""
    kept = {key: counts.get(key, counts.get(f"train_{key}")) for key in ("n_tokens", "n_bytes", "n_documents")}
    heldout = counts.get("heldout_tokens", counts.get("heldout_n_tokens"))
    return {"name": counts["name"], **kept, "heldout_tokens": heldout}
