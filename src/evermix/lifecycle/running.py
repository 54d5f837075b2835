"""One command for every recipe: its `method`, and whether it has phases, say which lifecycle is run."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from evermix.lifecycle import continual, olmix, pretraining
from evermix.lifecycle.continual.planning import plan as plan_life
from evermix.lifecycle.olmix.planning import plan as plan_swarm
from evermix.lifecycle.planning import plan as plan_probes
from evermix.recipe import Recipe


def run(recipe: Recipe, *, console: Console | None = None) -> dict[str, Any]:
    """Run a recipe, or go on where it stopped; returns what `result.json` in the project folder holds.

    Raises:
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    if recipe.phases:
        return continual.run(recipe, console=console)
    return (olmix.run if recipe.method == "olmix" else pretraining.run)(recipe, console=console)


def plan(recipe: Recipe) -> dict[str, Any]:
    """What `run` would do and cost, without reading any text."""
    if recipe.phases:
        return plan_life(recipe)
    return plan_swarm(recipe) if recipe.method == "olmix" else plan_probes(recipe)
