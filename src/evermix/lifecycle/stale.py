"""A result of another recipe must not pass for that of the run that begins."""

from __future__ import annotations

from evermix.errors import ProjectError
from evermix.files import read_record
from evermix.ledger import Project
from evermix.recipe import Recipe


def drop_stale_result(project: Project, recipe: Recipe) -> None:
    """Remove `result.json` unless it is this recipe's; the ledger keeps it."""
    kept = project.folder / "result.json"
    try:
        stale = read_record(kept, "recipe_fingerprint")["recipe_fingerprint"] != recipe.fingerprint()
    except FileNotFoundError:
        return
    except ProjectError:  # damaged: it is written anew at the end
        stale = True
    if stale:
        kept.unlink()
