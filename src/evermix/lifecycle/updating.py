"""`evermix update`: change the domain set of a project that a swarm has decided, for a fraction of the runs.

New text is tokenised first, so that the plan knows its size and whether it is new at all (content fingerprints); the
study plans and records the update; then the version's proxies are trained as `evermix run` does.
"""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from evermix.domain_updates import Add, Change, DomainUpdate, Partition, Remove, Revise
from evermix.domains import Domain, DomainSet
from evermix.ledger import Project, require_swarm_project
from evermix.lifecycle.context import open_context
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.running import finish
from evermix.lifecycle.swarm_project import SwarmProject, open_swarm_project, recipe_of_leaves, record_sources
from evermix.lifecycle.text import open_text
from evermix.recipe import DomainRecipe, Recipe, TextUpdate
from evermix.results import RunResult
from evermix.results.plan import UpdateView
from evermix.study import Strategy, UpdatePlan


@dataclass(frozen=True)
class PlannedUpdate:
    """An update as it would be made: the study's plan, and what each strategy would cost."""

    plan: UpdatePlan
    tokens_per_proxy: int
    flops_per_proxy: float
    seconds_per_proxy: float | None

    @property
    def view(self) -> UpdateView:
        """What tables and JSON show of it."""
        content, seconds = self.plan.as_dict, self.seconds_per_proxy
        for strategy in content["strategies"].values():
            strategy["flops"] = strategy["n_runs"] * self.flops_per_proxy
            strategy["seconds"] = None if seconds is None else strategy["n_runs"] * seconds
        cost = {"tokens_per_proxy": self.tokens_per_proxy, "flops_per_proxy": self.flops_per_proxy}
        return UpdateView.model_validate(content | cost)


@dataclass(frozen=True)
class Updating:
    """How an update is dealt with.

    Attributes:
        strategy: see `Study.update`.
        recompute: for strategy partial.
        n_runs: proxies; None for as many as the plan says.
    """

    strategy: Strategy = "auto"
    recompute: tuple[str, ...] = ()
    n_runs: int | None = None


def plan_update(
    recipe: Recipe, update: TextUpdate, how: Updating | None = None, *, console: Console | None = None
) -> PlannedUpdate:
    """What an update would freeze, measure and cost under each strategy; only text is read, nothing is recorded.

    Raises:
        EvermixError: if the update does not fit the project.
    """
    project = _project(recipe)
    with project.lock():
        reporter = Reporter(project, console)
        return _planned(_read(recipe, project, update, reporter), how or Updating())


def update(
    recipe: Recipe, update: TextUpdate, how: Updating | None = None, *, console: Console | None = None
) -> RunResult:
    """Record an update, train the proxies that it needs, propose the new mixture; what `result.json` holds.

    The target's arms are trained anew too, if the recipe has any. A killed update goes on with `evermix run`.

    Raises:
        EvermixError: if the update does not fit the project, or the strategy cannot be had.
    """
    how = how or Updating()
    project = _project(recipe)
    with project.lock():
        reporter = Reporter(project, console)
        asked = _read(recipe, project, update, reporter)
        record_sources(project, asked.leaves, update.texts.values())
        asked.before.study.update(asked.changes, how.strategy, how.recompute, how.n_runs)
        return finish(open_context(recipe, project, reporter))


def undo(recipe: Recipe, *, console: Console | None = None) -> RunResult:
    """Back to the domains, runs and mixture before the last update; what `result.json` then holds.

    Raises:
        ProjectError: if there is nothing to take back.
    """
    project = _project(recipe)
    with project.lock():
        reporter = Reporter(project, console)
        open_swarm_project(recipe, project, reporter).study.undo()
        return finish(open_context(recipe, project, reporter))


def _project(recipe: Recipe) -> Project:
    require_swarm_project(recipe)
    return Project(recipe.project_folder)


@dataclass(frozen=True)
class _Update:
    """An update whose text has been read.

    Attributes:
        before: the project until now.
        leaves: the domains after it, with the tokens and fingerprints of their text.
    """

    before: SwarmProject
    leaves: DomainSet
    changes: tuple[Change, ...]


def _read(recipe: Recipe, project: Project, update: TextUpdate, reporter: Reporter) -> _Update:
    """Open the project, and tokenise what is new, so that sizes and contents are known."""
    replaced = {*update.remove, *update.partition, *(domain.name for domain in update.revise)}
    before = open_swarm_project(recipe, project, reporter, replaced)
    after = DomainUpdate(_changes(update, None)).apply(before.study.domains)
    leaves = open_text(recipe_of_leaves(before.recipe, project, after, update.texts), project, reporter).domains
    return _Update(before, leaves, _changes(update, leaves))


def _changes(update: TextUpdate, leaves: DomainSet | None) -> tuple[Change, ...]:
    """The update as values; sizes and fingerprints once the text was read."""

    def domain(recipe: DomainRecipe) -> Domain:
        return Domain(recipe.name) if leaves is None else leaves.domains[leaves.index(recipe.name)]

    added = (domain(recipe) for recipe in update.add)
    revised = (domain(recipe) for recipe in update.revise)
    return (
        *(Add(d.name, d.n_tokens, d.fingerprint) for d in added),
        *(Remove(name) for name in update.remove),
        *(Revise(d.name, d.n_tokens, d.fingerprint) for d in revised),
        *(Partition(name, tuple(domain(part) for part in parts)) for name, parts in update.partition.items()),
    )


def _planned(asked: _Update, how: Updating) -> PlannedUpdate:
    before = asked.before
    plan = before.study.plan(asked.changes, how.strategy, how.recompute)
    n_scored = len(asked.leaves) * before.recipe.swarm.evaluation_sequences * before.store.sequence_length
    seconds = [entry.payload["seconds"] for entry in before.project.ledger.entries() if entry.kind == "proxy"]
    return PlannedUpdate(
        plan,
        before.swarm.n_tokens,
        before.proxy_size.training(before.swarm.n_tokens) + before.proxy_size.evaluation(n_scored),
        sum(seconds) / len(seconds) if seconds else None,
    )
