"""The bundled swarm, fitted once for all tests of its reports."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from evermix.deciding import AssessedProposal, FittedLaw, fit, propose
from evermix.observations import Reading, read_observations
from evermix.recipe.decision import StudyRecipe

SWARM = Path(__file__).parents[2] / "examples" / "swarm"


@functools.cache
def reading() -> Reading:
    """6 domains, 40 runs, 4 losses and an accuracy."""
    return read_observations(SWARM)


@functools.cache
def fitted() -> FittedLaw:
    """A power-link law, with an objective of two groups."""
    groups = {"text": ("science_bpb", "news_bpb"), "skills": ("code_bpb", "math_bpb", "exam_acc")}
    recipe = StudyRecipe.model_validate(
        {"law": "power-link", "tokens": "200B", "kl": 0.2, "resamples": 10, "objective": {"groups": groups}}
    )
    return fit(reading().observations, recipe, reading().left_out)


@functools.cache
def recommendation(**changes: Any) -> AssessedProposal:
    """What it recommends."""
    recipe = fitted().recipe
    return propose(fitted(), StudyRecipe.model_validate({**recipe.model_dump(exclude_unset=True), **changes}))


def text(table: Table, width: int = 160) -> str:
    """The table as printed."""
    console = Console(width=width, highlight=False)
    with console.capture() as captured:
        console.print(table)
    return captured.get()
