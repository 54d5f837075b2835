"""Where the text of today's domains comes from, through all updates: kept in the ledger beside the study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from evermix.domains import Domain, DomainSet
from evermix.errors import ProjectError, RecipeError
from evermix.ledger import Project
from evermix.recipe import DomainRecipe, Recipe
from evermix.study import Era


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


def metric_names(path: Iterable[Era]) -> dict[str, str]:
    """Domain of the last era -> name of the metric on its held-out text.

    It is the domain's own name, with a number behind it once the domain was revised: what was measured on the old text
    must not pass for a measurement on the new one.

    Args:
        path: from the first era to the one in question.
    """
    seen: dict[str, list[str | None]] = {}
    today: dict[str, str] = {}
    for era in path:
        for domain in era.domains:
            contents = seen.setdefault(domain.name, [])
            if domain.fingerprint not in contents:
                contents.append(domain.fingerprint)
            version = contents.index(domain.fingerprint) + 1
            today[domain.name] = domain.name if version == 1 else f"{domain.name} ({version})"
    return today


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


def check_text(known: DomainSet, read: DomainSet) -> None:
    """The text on disk must be what the runs were trained on.

    Raises:
        ProjectError: naming the first domain whose content changed.
    """
    for before, now in zip(known, read, strict=True):
        if before.fingerprint != now.fingerprint:
            raise ProjectError(
                f"the text of domain '{now.name}' must be what the proxies were trained on; it has changed since",
                received=f"content {now.fingerprint}, not {before.fingerprint}",
                hint=f"`evermix update revise` '{now.name}', or put the old text back",
            )


def _same_names(recipe: Recipe, domains: DomainSet) -> bool:
    return {domain.name for domain in recipe.domains} == set(domains.names)


def _key(domain: Domain) -> str:
    return f"{domain.name}@{domain.fingerprint}"
