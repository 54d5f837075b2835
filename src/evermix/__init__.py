"""evermix decides what data a language model is trained on, all along its life.

Names are loaded when they are first used, so that `import evermix` is fast and needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from evermix.constraints import Constraints
    from evermix.domains import Domain, DomainSet
    from evermix.draft import draft_recipe
    from evermix.errors import EvermixError
    from evermix.lifecycle.plan import plan
    from evermix.lifecycle.pretraining import run
    from evermix.mixture import Mixture
    from evermix.objective import Objective
    from evermix.recipe import Recipe
    from evermix.report import report, status
    from evermix.schedule import MixtureSchedule

_HOMES = {
    "Constraints": "evermix.constraints",
    "Domain": "evermix.domains",
    "DomainSet": "evermix.domains",
    "EvermixError": "evermix.errors",
    "Mixture": "evermix.mixture",
    "MixtureSchedule": "evermix.schedule",
    "Objective": "evermix.objective",
    "Recipe": "evermix.recipe",
    "draft_recipe": "evermix.draft",
    "plan": "evermix.lifecycle",
    "run": "evermix.lifecycle",
    "status": "evermix.report",
}
_ROOMS = ("errors", "report")

__all__ = [
    "Constraints",
    "Domain",
    "DomainSet",
    "EvermixError",
    "Mixture",
    "MixtureSchedule",
    "Objective",
    "Recipe",
    "draft_recipe",
    "plan",
    "report",
    "run",
    "status",
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
