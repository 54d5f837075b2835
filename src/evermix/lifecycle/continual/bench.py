"""LifeBench: what every arm of a recipe with phases needs at hand: text of all phases, stages, model, objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

from transformers import PreTrainedModel

from evermix.constraints import Bounds, Constraints
from evermix.corpus.store import TokenStore
from evermix.domains import DomainSet
from evermix.ledger import Project, content_hash
from evermix.lifecycle.continual.life import Life
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import chat_template, open_text
from evermix.lifecycle.workbench import initial_model, initial_size
from evermix.mixture import Mixture
from evermix.models.ladder import ModelSize, find_rung
from evermix.objective import Objective
from evermix.recipe import Recipe
from evermix.recipe.timeline import base_name
from evermix.tasks import Task, open_tasks
from evermix.training.evaluation import HeldoutText
from evermix.version import VERSION


@dataclass(frozen=True)
class LifeBench:
    """What all arms and orders share; made by `open_life`.

    Attributes:
        store: the text of all phases; mixtures over a life are over its domains, in its order.
        size: of the model.
    """

    recipe: Recipe
    project: Project
    store: TokenStore
    size: ModelSize
    reporter: Reporter

    @cached_property
    def rows(self) -> DomainSet:
        """Every text, its size counted in rows: shares of a life are shares of rows."""
        return DomainSet(
            domain.resized(n, "rows")
            for domain, n in zip(self.store.domains, self.store.train_sizes.tolist(), strict=True)
        )

    def leaves(self, names: Sequence[str]) -> DomainSet:
        """Some of the texts, in the order of `names`, with their rows."""
        return DomainSet(self.rows.domains[self.rows.index(name)] for name in names)

    def over_all(self, mixture: Mixture) -> Mixture:
        """A mixture of some texts as one over all of them, the others at zero."""
        return Mixture.from_dict(self.rows, mixture.as_dict)

    def heldout(self, names: Sequence[str], most: int | None = None) -> HeldoutText:
        """Held-out text of some domains in the order of `names`, at most so many sequences of each."""
        return HeldoutText.from_store(self.store.subset(names), most).select(names)

    def objective(self, names: Sequence[str]) -> Objective:
        """What a mixture is chosen for while `names` are the domains."""
        asked, heldout = self.recipe.domain_weights, self.heldout(names)
        weights = None if asked is None else {name: asked.get(base_name(name), 0.0) for name in names}
        quantity = self.recipe.objective.quantity
        return Objective.from_dict(names, weights, quantity, heldout.bits_per_byte_factor.tolist())

    def bounds(self, life: Life, names: Sequence[str], bundled: Sequence[str], n_rows: int) -> Bounds:
        """What `n_rows` more may use of `names`, after the epochs that `life` has spent.

        The recipe's floor for all does not hold for `bundled` domains, for they keep their proportions.
        """
        rules = self.recipe.constraints
        caps, fixed, floors = (_by_label(given, names) for given in (rules.caps, rules.fixed, rules.floors))
        floors = {name: rules.floor for name in names if name not in bundled} | floors
        spent = life.spent[[self.rows.index(name) for name in names]]
        return Constraints(rules.max_epochs, 0.0, floors, caps, fixed).bounds(self.leaves(names), n_rows, spent)

    @cached_property
    def tasks(self) -> tuple[Task, ...]:
        """The recipe's tasks in order; where there are conversations, asked by their chat template.

        Raises:
            TaskError: a file, an item or a scorer breaks a rule.
        """
        recipe = self.recipe
        render = partial(chat_template(recipe).render, generate=True) if self.store.has_chat else None
        return open_tasks(recipe.tasks, recipe.base, render)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what is the same in all stages and decides every weight: code, tokenizer, model, seed."""
        return content_hash(
            {
                "evermix": VERSION,
                "tokenizer": self.store.tokenizer_fingerprint,
                "sequence_length": self.store.sequence_length,
                "model": self.recipe.model.model_dump(mode="json"),
                "seed": self.recipe.seed,
            }
        )

    @property
    def newborn_id(self) -> str:
        """The hash that stands for the model before any training."""
        return content_hash(["newborn", self.fingerprint])

    def fresh_model(self) -> PreTrainedModel:
        """The model as it is before training."""
        return initial_model(self.recipe, self.store)


def _by_label(shares: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Rules by domain as rules by text, for the texts that there are."""
    return {name: shares[base_name(name)] for name in names if base_name(name) in shares}


def open_life(recipe: Recipe, project: Project, reporter: Reporter) -> LifeBench:
    """Prepare the text of all phases; the tokenizer is that of the first one, so that later ones change nothing.

    Raises:
        CorpusError, TokenizerError, CheckpointError, RecipeError: on input that cannot work.
    """
    if recipe.model.checkpoint is None:
        find_rung(recipe.model.rung)
    first = recipe.timeline(recipe.phase_orders[0])[0].domains
    everything = recipe.model_copy(update={"domains": tuple(recipe.labels.sources.values())})
    store = open_text(everything, project, reporter, for_tokenizer=first)
    return LifeBench(recipe, project, store, initial_size(recipe, store), reporter)
