"""Several arms of one recipe, beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Console

from evermix.lifecycle.running import run
from evermix.recipe import Recipe


def compare(
    recipe: Recipe, arms: Sequence[str] | None = None, orders: int | None = None, *, console: Console | None = None
) -> dict[str, Any]:
    """Run a recipe with other arms, or in so many orders of its phases; returns what `run` does.

    What `run` or another comparison has trained in the same project is not trained again.

        em.compare(recipe, ["evermix", "fixed-replay", "retrain"], orders=3)

    Args:
        arms: names; None for the recipe's.
        orders: how many, the first being the recipe's own; None for the recipe's.
        console: for progress; None for none.

    Raises:
        RecipeError: if arms or orders do not fit the recipe.
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    return run(recipe.with_arms(arms, orders), console=console)
