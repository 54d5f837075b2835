"""`evermix run` with method olmix: the swarm, its law, the mixture, and the target trained on it."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from evermix.files import write_json
from evermix.ledger import Project
from evermix.lifecycle.olmix.deciding import Decided, decide
from evermix.lifecycle.olmix.result import decision_record
from evermix.lifecycle.olmix.targets import train_targets
from evermix.lifecycle.olmix.workshop import Workshop, open_workshop
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.stale import drop_stale_result
from evermix.mixture import Mixture
from evermix.recipe import Recipe
from evermix.recipe.whole import Arm
from evermix.trust.references import BEST_RUN
from evermix.version import VERSION


def run(recipe: Recipe, *, console: Console | None = None) -> dict[str, Any]:
    """Run a recipe, or go on where it stopped; returns what `result.json` in the project folder holds.

    Raises:
        EvermixError: on input that cannot work, or a project that another process is running.
    """
    project = Project(recipe.project_folder)
    with project.lock():
        reporter = Reporter(project, console)
        shop = open_workshop(recipe, project, reporter)
        drop_stale_result(project, recipe)
        project.ledger.append("recipe", recipe.fingerprint(), recipe.model_dump(mode="json"))
        return finish(shop)


def finish(shop: Workshop) -> dict[str, Any]:
    """Decide the mixture over today's domains, train the target on it, and write `result.json`."""
    decided = decide(shop)
    result = {
        "evermix_version": VERSION,
        "recipe_fingerprint": shop.recipe.fingerprint(),
        "seed": shop.recipe.seed,
        "method": "olmix",
        **decision_record(shop, decided),
        **train_targets(shop, _mixtures(shop, decided)),
    }
    write_json(shop.project.folder / "result.json", result)
    key = f"{shop.recipe.fingerprint()}-{shop.study.era.number}-{len(shop.study.now().state.told)}"
    shop.project.ledger.append("result", key, {k: v for k, v in result.items() if k != "proposal"})
    shop.reporter.done()
    return result


def _mixtures(shop: Workshop, decided: Decided) -> dict[Arm, Mixture]:
    """The arms' mixtures, in the recipe's order; the best run is left out where nothing was measured."""
    domains = shop.store.domains
    known: dict[Arm, Mixture] = {
        "natural": Mixture.natural(domains),
        "uniform": Mixture.uniform(domains),
        "evermix": decided.mixture,
    }
    recommendation = decided.recommendation
    if recommendation is not None and BEST_RUN in recommendation.comparison:
        known["best-run"] = recommendation.comparison[BEST_RUN].mixture
    return {arm: known[arm] for arm in shop.recipe.arms if arm in known}
