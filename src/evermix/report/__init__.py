"""What happened, what it cost, why this mixture: tables, plots, and one self-contained HTML page.

The room itself can be called: `evermix.report("runs/demo")` is `evermix.report.report("runs/demo")`.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any


def report(project: str | Path) -> Path:
    """Write `<project>/report.html` atomically and return its path.

    Raises:
        ProjectError: if there is no project in that folder, or its result is damaged.
    """
    from evermix.report.html import write_report

    return write_report(Path(project))


def status(project: str | Path) -> dict[str, Any]:
    """How far a project is: `state`, `part`, `step`, `total_steps`, `tokens_per_second`, counts of what is done.

    Raises:
        ProjectError: if there is no project in that folder.
    """
    from evermix.report.progress import read_status

    return read_status(Path(project))


class _CallableRoom(types.ModuleType):
    """A package attribute and a sub-package cannot both be called `report`; so the sub-package takes the call."""

    def __call__(self, project: str | Path) -> Path:
        return report(project)


sys.modules[__name__].__class__ = _CallableRoom
