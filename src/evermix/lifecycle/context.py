"""RunContext: what every arm of a recipe has at hand: text of all phases, model, objective, rules, tasks, study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from transformers import PreTrainedConfig, PreTrainedModel

from evermix.constraints import Bounds, Constraints, GroupTotal
from evermix.corpus.split import Side
from evermix.corpus.store import TokenStore
from evermix.domains import DomainSet
from evermix.ledger import Project, content_hash
from evermix.lifecycle.history import DataHistory
from evermix.lifecycle.known_text import check_known_text
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.swarm_project import SwarmProject, open_swarm_project
from evermix.lifecycle.text import chat_template, fingerprint_beside, open_text, pin_tokenizer
from evermix.measure.probes import check_probing
from evermix.mixture import Mixture
from evermix.models.ladder import ModelSize, build_model, find_rung
from evermix.models.loading import (
    check_context,
    check_tokenizer,
    check_vocabulary,
    load_model,
    resolve_checkpoint,
)
from evermix.objective import Objective
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase, base_name
from evermix.tasks import Task, open_tasks
from evermix.training.evaluation import HeldoutText
from evermix.training.sdft import TEACHER_SEQUENCES
from evermix.version import TRAINING_VERSION

_SAME = 1e-9


@dataclass(frozen=True)
class RunContext:
    """What all arms and orders share; made by `open_context`.

    Attributes:
        recipe: over today's domains, where updates have changed them.
        store: the text of all phases; mixtures of a run are over its domains, in its order.
        size: of the model.
        swarm_project: the study of a project that a swarm decides; None for other recipes.
    """

    recipe: Recipe
    project: Project
    store: TokenStore
    size: ModelSize
    reporter: Reporter
    swarm_project: SwarmProject | None = None

    @cached_property
    def orders(self) -> list[tuple[Phase, ...]]:
        """The phases in every order that the recipe asks for."""
        return [self.recipe.timeline(order) for order in self.recipe.phase_orders]

    @cached_property
    def rows(self) -> DomainSet:
        """Every text, its size counted in rows: shares of a run are shares of rows."""
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

    def named_mixture(self, phase: Phase, name: str | dict[str, float] = "start") -> Mixture:
        """`start` (as the recipe says), `weights`, `natural`, `uniform` or shares by domain, over a phase's domains.

        A start by domain holds for the first phase only; later ones then start as by default.

        Raises:
            DomainError: shares name a domain that the phase does not have.
        """
        leaves = self.leaves(phase.domains)
        if name == "start":
            name = self.recipe.shares_of_start(phase.domains, not phase.number) or "natural"
        if name == "weights":
            name = self.recipe.shares_by_weights(phase.domains)
        if isinstance(name, dict):
            labels = {base_name(label): label for label in phase.domains}
            return Mixture.from_dict(leaves, {labels.get(domain, domain): share for domain, share in name.items()})
        return Mixture.natural(leaves) if name == "natural" else Mixture.uniform(leaves)

    def heldout(self, names: Sequence[str], side: Side, most: int | None = None) -> HeldoutText:
        """Held-out text of some domains in the order of `names`, at most so many sequences of each.

        Test text is for final scores alone (`assembling`); all that a decision sees is decision text.
        """
        return HeldoutText.from_store(self.store.subset(names), side, most).select(names)

    def objective(self, names: Sequence[str], side: Side) -> Objective:
        """What a mixture is chosen for while `names` are the domains, of losses in nats per token on that side's text:
        how many nats one bit per byte is depends on the text."""
        asked, heldout = self.recipe.domain_weights, self.heldout(names, side)
        weights = None if asked is None else {name: asked.get(base_name(name), 0.0) for name in names}
        quantity = self.recipe.objective.quantity
        return Objective.from_dict(names, weights, quantity, heldout.bits_per_byte_factor.tolist())

    def bounds(self, history: DataHistory, names: Sequence[str], bundled: Sequence[str], n_rows: int) -> Bounds:
        """What `n_rows` more may use of `names`, after the epochs that `history` has spent.

        The recipe's floor for all does not hold for `bundled` domains, for they keep their proportions.

        Raises:
            ConstraintError: if no mixture is allowed.
        """
        rules = self.recipe.constraints
        caps, fixed, floors = (by_label(given, names) for given in (rules.caps, rules.fixed, rules.floors))
        floors = {name: rules.floor for name in names if name not in bundled} | floors
        groups = {name: _of_texts(group, names) for name, group in rules.build().groups.items()}
        there = {name: group for name, group in groups.items() if group.members}
        spent = history.spent[[self.rows.index(name) for name in names]]
        constraints = Constraints(rules.max_epochs, 0.0, floors, caps, fixed, there)
        return constraints.bounds(self.leaves(names), n_rows, spent)

    def within_rules(self, history: DataHistory, mixture: Mixture, n_rows: int) -> Mixture:
        """The nearest mixture (in KL) that `n_rows` more may use; the very same, where the rules allow it.

        Raises:
            ConstraintError: if no mixture is allowed.
        """
        nearest = self.bounds(history, mixture.domains.names, (), n_rows).clip(mixture.weights)
        is_allowed = np.abs(nearest - mixture.weights).max() < _SAME
        return mixture if is_allowed else Mixture(mixture.domains, nearest)

    def allowed_start(self, history: DataHistory, phase: Phase) -> Mixture:
        """The start of a phase, as far as the rules allow it.

        Raises:
            ConstraintError: if no mixture is allowed.
        """
        return self.within_rules(history, self.named_mixture(phase), phase.n_rows)

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
        """Hash of what is the same in all phases and decides every weight: training code, tokenizer, model, seed."""
        return content_hash(
            {
                "training": TRAINING_VERSION,
                "tokenizer": self.store.tokenizer_fingerprint,
                "sequence_length": self.store.sequence_length,
                "model": self.recipe.model.model_dump(mode="json"),
                "seed": self.recipe.seed,
            }
        )

    @property
    def initial_id(self) -> str:
        """The hash that stands for the model before any training."""
        return content_hash(["initial", self.fingerprint])

    def initial_model(self) -> PreTrainedModel:
        """The model as it is before training."""
        return initial_model(self.recipe, self.store)

    def mean_length(self, mixture: Mixture) -> float:
        """Expected tokens of a row drawn from a mixture over all texts."""
        return float(mixture.weights @ self.store.mean_lengths)


def _of_texts(group: GroupTotal, names: Sequence[str]) -> GroupTotal:
    """A group of domains as one of texts, for the texts that there are; `code:` is every domain nested under it."""
    nested = tuple(member for member in group.members if member.endswith(":"))
    members = tuple(n for n in names if base_name(n) in group.members or (nested and n.startswith(nested)))
    return replace(group, members=members)


def open_context(recipe: Recipe, project: Project, reporter: Reporter, accept_changed_text: bool = False) -> RunContext:
    """Prepare the text of all phases, check that model and rules fit it, begin the study of a swarm or go on with it.

    The tokenizer is trained on the domains of the first phase, so that later ones change nothing; where there are more
    than one, it is pinned.

    Raises:
        CorpusError, TokenizerError, CheckpointError, ConstraintError, RecipeError: on input that cannot work.
        ProjectError: if the text changed since the project began and this is not accepted, or since a swarm was trained
            on it.
    """
    if recipe.model.checkpoint is None:
        find_rung(recipe.model.rung)
    swarm_project = open_swarm_project(recipe, project, reporter) if recipe.keeps_study else None
    today = recipe if swarm_project is None else swarm_project.recipe
    if swarm_project is None:
        first = today.timeline(today.phase_orders[0])[0].domains
        everything = over_every_text(today)
        check_known_text(everything, project, reporter, accept_changed_text)
        together = [phase.domains for order in today.phase_orders for phase in today.timeline(order)]
        store = open_text(everything, project, reporter, first, together)
        if recipe.phases:
            pin_tokenizer(project, store)
    else:
        store = swarm_project.store
    model = initial_model(today, store)
    size = ModelSize.of(model)
    if today.model.checkpoint is not None and "probes" in today.evidence and {"evermix", "lora-merge"} & {*today.arms}:
        check_probing(model, today.model.checkpoint, interpolated=today.interpolates)
    context = RunContext(today, project, store, size, reporter, swarm_project)
    for phases in context.orders[:1]:
        context.bounds(DataHistory(context.rows), phases[0].domains, (), phases[0].n_rows)
    return context


def over_every_text(recipe: Recipe) -> Recipe:
    """The recipe with the domains of all phases."""
    return recipe.model_copy(update={"domains": tuple(recipe.labels.sources.values())})


def initial_model(recipe: Recipe, store: TokenStore) -> PreTrainedModel:
    """The model that a recipe begins with: a rung of the ladder with random weights, or a checkpoint.

    Raises:
        CheckpointError: if the checkpoint cannot be read, belongs to another tokenizer or has too few positions.
    """
    checkpoint = recipe.model.checkpoint
    if checkpoint is None:
        return build_model(recipe.model.rung, store.vocab_size, store.sequence_length, store.end_id, recipe.seed)
    source = resolve_checkpoint(checkpoint, recipe.base)
    check_tokenizer(source, store.tokenizer_fingerprint, fingerprint_beside(source))
    model = load_model(source)
    check_vocabulary(model, store.vocab_size, source)
    check_positions(recipe, model.config)
    return model


def check_positions(recipe: Recipe, config: PreTrainedConfig) -> None:
    """The recipe's checkpoint, whose configuration this is, must have positions for all that it will read at once.

    Raises:
        CheckpointError: if it has not; before anything is trained.
    """
    checkpoint, length = str(recipe.model.checkpoint), recipe.corpus.sequence_length
    check_context(config, length, checkpoint)
    if any(phase.trainer == "sdft" for phase in recipe.phases):
        check_context(config, TEACHER_SEQUENCES * length, checkpoint, "the three sequences of trainer sdft")


def by_label(shares: Mapping[str, float], names: Sequence[str]) -> dict[str, float]:
    """Rules by domain as rules by text, for the texts that there are."""
    return {name: shares[base_name(name)] for name in names if base_name(name) in shares}
