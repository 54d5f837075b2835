"""Where the text of today's domains comes from, through all updates: kept in the ledger beside the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evermix.domains import Domain, DomainSet
from evermix.errors import ProjectError, RecipeError
from evermix.ledger import Project
from evermix.recipe import DomainRecipe, Recipe


def record_sources(project: Project, domains: DomainSet, recipes: Iterable[DomainRecipe]) -> None:
    """Keep how each domain's text was read, under its name and the fingerprint of its content."""
    by_name = {recipe.name: recipe for recipe in recipes}
    for domain in domains:
        if domain.name in by_name:
            project.ledger.append("source", _key(domain), by_name[domain.name].model_dump(mode="json"))


def source_of(project: Project, domain: Domain) -> DomainRecipe:
    """How the text of a domain was read.

    Raises:
        ProjectError: if the ledger does not know it.
    """
    entry = project.ledger.find("source", _key(domain))
    if entry is None:
        raise ProjectError(
            f"{project.ledger.path}: the ledger must know where the text of '{domain.name}' comes from",
            hint="name it in the recipe's domains",
        )
    return DomainRecipe.model_validate(entry.payload)


def recipe_of_leaves(
    recipe: Recipe, project: Project, leaves: DomainSet, changed: Mapping[str, DomainRecipe] | None = None
) -> Recipe:
    """The recipe over other domains than those it was written with; `changed` gives the text of new ones."""
    new = changed or {}
    written = {domain.name: domain for domain in recipe.domains} if _same_names(recipe, leaves) else {}
    domains = [new.get(leaf.name) or written.get(leaf.name) or source_of(project, leaf) for leaf in leaves]
    return recipe.model_copy(update={"domains": tuple(domains)})


def check_known(recipe: Recipe, first: DomainSet, today: DomainSet) -> None:
    """The recipe's domains must be those that the project began with, or today's.

    Raises:
        RecipeError: naming the domains that differ, and how to change the domain set.
    """
    if _same_names(recipe, first) or _same_names(recipe, today):
        return
    names = {domain.name for domain in recipe.domains}
    new, gone = sorted(names - set(today.names)), sorted(set(today.names) - names)
    raise RecipeError(
        f"{recipe.project}: the recipe's domains must be those of the project, which has decided a mixture over them",
        received=f"new: {', '.join(new) or 'none'}; missing: {', '.join(gone) or 'none'}",
        hint="change the domain set with `evermix update`, or choose another `project:`",
    )


def _same_names(recipe: Recipe, domains: DomainSet) -> bool:
    return {domain.name for domain in recipe.domains} == set(domains.names)


def _key(domain: Domain) -> str:
    return f"{domain.name}@{domain.fingerprint}"
