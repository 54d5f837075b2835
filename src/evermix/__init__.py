"""evermix decides what data a language model is trained on, all along its life.

Names are loaded when they are first used, so that `import evermix` is fast and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evermix.constraints import Constraints
    from evermix.deciding import fit, propose, what_if
    from evermix.domains import Domain, DomainSet
    from evermix.draft import draft_recipe
    from evermix.errors import EvermixError
    from evermix.lifecycle import TextUpdate, Updating, plan, plan_update, run, undo, update
    from evermix.mixture import Mixture
    from evermix.objective import Objective
    from evermix.observations import Observations, ReadOptions, read_observations
    from evermix.recipe import Recipe
    from evermix.recipe.study import StudyRecipe
    from evermix.reports import report, status
    from evermix.schedule import MixtureSchedule
    from evermix.study import Study

_HOMES = {
    "Constraints": "evermix.constraints",
    "Domain": "evermix.domains",
    "DomainSet": "evermix.domains",
    "EvermixError": "evermix.errors",
    "Mixture": "evermix.mixture",
    "MixtureSchedule": "evermix.schedule",
    "Objective": "evermix.objective",
    "Observations": "evermix.observations",
    "ReadOptions": "evermix.observations",
    "Recipe": "evermix.recipe",
    "Study": "evermix.study",
    "StudyRecipe": "evermix.recipe.study",
    "TextUpdate": "evermix.lifecycle",
    "Updating": "evermix.lifecycle",
    "draft_recipe": "evermix.draft",
    "fit": "evermix.deciding",
    "plan": "evermix.lifecycle",
    "plan_update": "evermix.lifecycle",
    "propose": "evermix.deciding",
    "read_observations": "evermix.observations",
    "report": "evermix.reports",
    "run": "evermix.lifecycle",
    "status": "evermix.reports",
    "undo": "evermix.lifecycle",
    "update": "evermix.lifecycle",
    "what_if": "evermix.deciding",
}
_ROOMS = ("errors",)

__all__ = [
    "Constraints",
    "Domain",
    "DomainSet",
    "EvermixError",
    "Mixture",
    "MixtureSchedule",
    "Objective",
    "Observations",
    "ReadOptions",
    "Recipe",
    "Study",
    "StudyRecipe",
    "TextUpdate",
    "Updating",
    "draft_recipe",
    "fit",
    "plan",
    "plan_update",
    "propose",
    "read_observations",
    "report",
    "run",
    "status",
    "undo",
    "update",
    "what_if",
]


def __getattr__(name: str) -> Any:
    """Load `name` from its room at first use (PEP 562)."""
    if name == "__version__":
        from importlib.metadata import version

        return version("evermix")
    if name in _ROOMS:
        return importlib.import_module(f"evermix.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'evermix' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*__all__, *_ROOMS, "__version__"})
