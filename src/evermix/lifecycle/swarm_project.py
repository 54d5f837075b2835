"""The study of a project that a swarm decides: today's domains through all updates, where their text comes from."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from evermix.corpus.store import TokenStore
from evermix.domains import Domain, DomainSet
from evermix.errors import ProjectError, RecipeError
from evermix.ledger import Project
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import open_text, pin_tokenizer
from evermix.measure.swarm import Swarm
from evermix.models.ladder import ModelSize, build_model
from evermix.recipe import DomainRecipe, Recipe
from evermix.recipe.decision import StudyRecipe
from evermix.study import DomainVersion, Study
from evermix.tasks import open_tasks
from evermix.training.evaluation import HeldoutText


@dataclass(frozen=True)
class SwarmProject:
    """Made by `open_swarm_project`.

    Attributes:
        recipe: over today's domains.
        store: their text.
        study: the decision.
    """

    recipe: Recipe
    project: Project
    store: TokenStore
    study: Study

    @cached_property
    def swarm(self) -> Swarm:
        """The settings that all proxies share.

        Raises:
            RecipeError: if the budget does not pay for a step.
        """
        return swarm_of(self.recipe, self.project, self.store, self.recipe.training.tokens)

    @cached_property
    def metric_names(self) -> dict[str, str]:
        """Domain -> name of the metric on its decision text."""
        return metric_names(self.study.now().state.versions.path())

    @cached_property
    def proxy_size(self) -> ModelSize:
        """Parameters of a proxy."""
        return self.swarm.size()

    @cached_property
    def nats_per_bit(self) -> dict[str, float]:
        """Domain -> loss in nats per token that one bit per byte of its decision text is."""
        return nats_per_bit(self.store, self.swarm.evaluation_sequences)


def open_swarm_project(
    recipe: Recipe, project: Project, reporter: Reporter, replaced: Collection[str] = ()
) -> SwarmProject:
    """Prepare the text of today's domains, and begin the study or go on with it.

    Args:
        replaced: domains whose text an update is about to revise or remove: it may have changed in place already.

    Raises:
        RecipeError: if the recipe's domains are not those of the project.
        CorpusError, TokenizerError, TaskError: on text or tasks that cannot be read.
        ProjectError: if the text changed since the study began or was updated.
    """
    today, study = recipe, None
    if project.ledger.find("study", "definition") is not None:
        study = Study(project.folder)
        _check_known(recipe, study.now().state.versions.versions[0].domains, study.domains)
        today = recipe_of_leaves(recipe, project, study.domains)
    store = open_text(today, project, reporter)
    names = {name: name for name in store.domains.names}
    if study is not None:
        _check_text(study.domains, store.domains, replaced)
        names = metric_names(study.now().state.versions.path())
    asked = study_recipe(today, names, store)
    domains = store.domains if study is None else study.domains
    study = Study(project.folder, domains, asked, n_runs=recipe.swarm.runs)
    pin_tokenizer(project, store)
    record_sources(project, store.domains, today.domains)
    return SwarmProject(today, project, store, study)


def swarm_of(recipe: Recipe, project: Project, store: TokenStore, n_tokens: int) -> Swarm:
    """The swarm of a recipe over the domains of `store`, for a mixture of `n_tokens`.

    Raises:
        RecipeError: if the budget does not pay for a step.
    """
    settings = recipe.swarm
    model = build_model(settings.rung, store.vocab_size, store.sequence_length, store.end_id, recipe.seed)
    per_proxy = settings.n_tokens(ModelSize.of(model).counted)
    tokens_per_step = settings.batch_sequences * store.sequence_length
    steps = per_proxy // tokens_per_step
    if steps < 1:
        raise RecipeError(
            f"a proxy must be trained for at least one step of {tokens_per_step} tokens",
            received=per_proxy,
            hint="raise swarm.tokens or swarm.chinchilla, or lower swarm.batch_sequences",
        )
    shrunk = store.shrunk(per_proxy / n_tokens) if settings.simulated_epoching else store
    return Swarm(
        shrunk,
        settings.training,
        steps,
        recipe.seed,
        settings.evaluation_sequences,
        recipe.tasks,
        recipe.base.absolute(),
        (project.folder / "runs").absolute(),
    )


def study_recipe(recipe: Recipe, heldout: Mapping[str, str], store: TokenStore) -> StudyRecipe:
    """What is asked of the runs, whose decision text is told in nats per token.

    Args:
        heldout: domain -> name of the metric on its decision text; weights in the recipe name the domain.
    """
    opened = open_tasks(recipe.tasks, recipe.base)
    maximised = [metric.name for task in opened for metric in task.metrics if metric.maximised]
    right = {task.name: [m.name for m in task.metrics if m.maximised and m.unit == "fraction"] for task in opened}
    accuracies = {name: metrics[0] for name, metrics in right.items() if metrics}
    asked = recipe.study_recipe(recipe.training.tokens, heldout, accuracies, maximised)
    factors = {
        heldout[name]: 1 / nats
        for name, nats in nats_per_bit(store, recipe.swarm.evaluation_sequences).items()
        if name in heldout
    }
    return asked.model_copy(update={"objective": asked.objective.model_copy(update={"bits_per_byte_factor": factors})})


def nats_per_bit(store: TokenStore, most: int) -> dict[str, float]:
    """Domain -> nats per token that one bit per byte is, on the decision text that proxies are scored on."""
    heldout = HeldoutText.from_store(store, "decision", most)
    return dict(zip(heldout.domains.names, (1 / heldout.bits_per_byte_factor).tolist(), strict=True))


def record_sources(project: Project, domains: DomainSet, recipes: Iterable[DomainRecipe]) -> None:
    """Keep how each domain's text was read, under its name and the fingerprint of its content."""
    by_name = {recipe.name: recipe for recipe in recipes}
    for domain in domains:
        if domain.name in by_name:
            project.ledger.append("source", _key(domain), by_name[domain.name].model_dump(mode="json"))


def recipe_of_leaves(
    recipe: Recipe, project: Project, leaves: DomainSet, changed: Mapping[str, DomainRecipe] | None = None
) -> Recipe:
    """The recipe over other domains than those it was written with; `changed` gives the text of new ones."""
    new = changed or {}
    written = {domain.name: domain for domain in recipe.domains} if _same_names(recipe, leaves) else {}
    domains = [new.get(leaf.name) or written.get(leaf.name) or _source_of(project, leaf) for leaf in leaves]
    return recipe.model_copy(update={"domains": tuple(domains)})


def metric_names(path: Iterable[DomainVersion]) -> dict[str, str]:
    """Domain of the last version -> name of the metric on its decision text.

    It is the domain's own name, with a number behind it once the domain was revised: what was measured on the old text
    must not pass for a measurement on the new one.

    Args:
        path: from the first version to the one in question.
    """
    seen: dict[str, list[str | None]] = {}
    today: dict[str, str] = {}
    for version in path:
        for domain in version.domains:
            contents = seen.setdefault(domain.name, [])
            if domain.fingerprint not in contents:
                contents.append(domain.fingerprint)
            nth = contents.index(domain.fingerprint) + 1
            today[domain.name] = domain.name if nth == 1 else f"{domain.name} ({nth})"
    return today


def held_out_tasks(recipe: Recipe) -> frozenset[str]:
    """Names of tasks that only the report sees; their further metrics are called name:metric."""
    return frozenset(task.name for task in recipe.tasks if task.role == "held-out")


def _source_of(project: Project, domain: Domain) -> DomainRecipe:
    """How the text of a domain was read; ProjectError if the ledger does not know it."""
    entry = project.ledger.find("source", _key(domain))
    if entry is None:
        raise ProjectError(
            f"{project.ledger.path}: the ledger must know where the text of '{domain.name}' comes from",
            hint="name it in the recipe's domains",
        )
    return DomainRecipe.model_validate(entry.payload)


def _check_known(recipe: Recipe, first: DomainSet, today: DomainSet) -> None:
    """RecipeError unless the recipe's domains are those that the project began with, or today's."""
    if _same_names(recipe, first) or _same_names(recipe, today):
        return
    names = {domain.name for domain in recipe.domains}
    new, gone = sorted(names - set(today.names)), sorted(set(today.names) - names)
    raise RecipeError(
        f"{recipe.project_folder}: the recipe's domains must be those that the project has decided a mixture over",
        received=f"new: {', '.join(new) or 'none'}; missing: {', '.join(gone) or 'none'}",
        hint="change the domain set with `evermix update`, or choose another `project:`",
    )


def _check_text(known: DomainSet, read: DomainSet, replaced: Collection[str]) -> None:
    """ProjectError, naming the first domain whose text is not what the runs were trained on."""
    for before, now in zip(known, read, strict=True):
        if before.fingerprint != now.fingerprint and now.name not in replaced:
            raise ProjectError(
                f"the text of domain '{now.name}' must be what the proxies were trained on; it has changed since",
                received=f"content {now.fingerprint}, not {before.fingerprint}",
                hint=f"`evermix update revise` '{now.name}', or put the old text back",
            )


def _same_names(recipe: Recipe, domains: DomainSet) -> bool:
    return {domain.name for domain in recipe.domains} == set(domains.names)


def _key(domain: Domain) -> str:
    return f"{domain.name}@{domain.fingerprint}"
