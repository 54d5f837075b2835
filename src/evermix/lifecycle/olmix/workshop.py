"""Workshop: what a swarm's decision has at hand: recipe of today's domains, text, study, and proxies."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from evermix.corpus.store import TokenStore
from evermix.errors import RecipeError
from evermix.ledger import Project
from evermix.lifecycle.olmix.leaves import check_known, check_text, metric_names, recipe_of_leaves, record_sources
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import open_text, pin_tokenizer
from evermix.measure.swarm import Swarm
from evermix.models.ladder import ModelSize, build_model
from evermix.recipe import Recipe
from evermix.recipe.decision import StudyRecipe
from evermix.study import Study
from evermix.tasks import open_tasks


@dataclass(frozen=True)
class Workshop:
    """Made by `open_workshop`.

    Attributes:
        recipe: over today's domains.
        store: their text.
        study: the decision.
    """

    recipe: Recipe
    project: Project
    store: TokenStore
    study: Study
    reporter: Reporter

    @cached_property
    def swarm(self) -> Swarm:
        """The settings that all proxies share.

        Raises:
            RecipeError: if the budget does not pay for a step.
        """
        return build_swarm(self.recipe, self.project, self.store)

    @cached_property
    def metric_names(self) -> dict[str, str]:
        """Domain -> name of the metric on its held-out text."""
        return metric_names(self.study.now().state.eras.path())

    @cached_property
    def proxy_size(self) -> ModelSize:
        """Parameters of a proxy."""
        return self.swarm.size()


def open_workshop(recipe: Recipe, project: Project, reporter: Reporter) -> Workshop:
    """Prepare the text of today's domains, and begin the study or go on with it.

    Raises:
        RecipeError: if the recipe's domains are not those of the project.
        CorpusError, TokenizerError, TaskError: on text or tasks that cannot be read.
        ProjectError: if the text changed since the study began or was updated.
    """
    today, study = recipe, None
    if project.ledger.find("study", "definition") is not None:
        study = Study(project.folder)
        check_known(recipe, study.now().state.eras.eras[0].domains, study.domains)
        today = recipe_of_leaves(recipe, project, study.domains)
    store = open_text(today, project, reporter)
    names = {name: name for name in store.domains.names}
    if study is not None:
        check_text(study.domains, store.domains)
        names = metric_names(study.now().state.eras.path())
    study = Study(project.folder, store.domains, study_recipe(today, names), n_runs=recipe.swarm.runs)
    pin_tokenizer(project, store)
    record_sources(project, store.domains, today.domains)
    return Workshop(today, project, store, study, reporter)


def build_swarm(recipe: Recipe, project: Project, store: TokenStore) -> Swarm:
    """The swarm of a recipe over the domains of `store`."""
    settings = recipe.swarm
    model = build_model(settings.rung, store.vocab_size, store.sequence_length, store.end_id, recipe.seed)
    n_tokens = settings.n_tokens(ModelSize.of(model).counted)
    steps = n_tokens // (settings.batch_sequences * store.sequence_length)
    if steps < 1:
        raise RecipeError(
            f"a proxy must be trained for at least one step of {settings.batch_sequences * store.sequence_length} "
            "tokens",
            received=n_tokens,
            hint="raise swarm.tokens or swarm.chinchilla, or lower swarm.batch_sequences",
        )
    shrunk = store.shrunk(n_tokens / requested_tokens(recipe)) if settings.simulated_epoching else store
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


def requested_tokens(recipe: Recipe) -> int:
    """R, the tokens of the target run."""
    return recipe.training.tokens


def study_recipe(recipe: Recipe, heldout: Mapping[str, str]) -> StudyRecipe:
    """What is asked of the runs, whose held-out text is measured in bits per byte.

    Args:
        heldout: domain -> name of the metric on its held-out text; weights in the recipe name the domain.
    """
    opened = open_tasks(recipe.tasks, recipe.base)
    maximised = [metric.name for task in opened for metric in task.metrics if metric.maximised]
    right = {task.name: [m.name for m in task.metrics if m.maximised and m.unit == "fraction"] for task in opened}
    accuracies = {name: metrics[0] for name, metrics in right.items() if metrics}
    asked = recipe.study_recipe(requested_tokens(recipe), heldout, accuracies, maximised)
    return asked.model_copy(update={"objective": asked.objective.model_copy(update={"quantity": "metric"})})


def held_out_metrics(recipe: Recipe) -> frozenset[str]:
    """Names of tasks that only the report sees; their further metrics are called name:metric."""
    return frozenset(task.name for task in recipe.tasks if task.role == "held-out")
