"""Workbench: everything a lifecycle needs at hand: recipe, project, text, model size, objective, constraints."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from transformers import PreTrainedModel

from evermix.constraints import Constraints
from evermix.corpus.store import TokenStore
from evermix.domains import DomainSet
from evermix.errors import RecipeError
from evermix.ledger import Project, content_hash
from evermix.lifecycle.progress import Reporter
from evermix.lifecycle.text import corpus_record, open_text, tokenizer_of
from evermix.mixture import Mixture
from evermix.models.ladder import ModelSize, build_model, find_rung
from evermix.models.loading import check_tokenizer, check_vocabulary, load_model, resolve_checkpoint
from evermix.objective import Objective
from evermix.recipe import Recipe, TrainingRecipe
from evermix.training.evaluation import HeldoutText
from evermix.training.segment import LearningRate, Optimisation
from evermix.version import VERSION


@dataclass(frozen=True)
class Workbench:
    """What every arm of a recipe shares; made by `open_workbench`."""

    recipe: Recipe
    project: Project
    store: TokenStore
    size: ModelSize
    reporter: Reporter

    @property
    def domains(self) -> DomainSet:
        """The recipe's domains with their token counts."""
        return self.store.domains

    @property
    def batch_sequences(self) -> int:
        """Sequences per optimiser step."""
        return self.recipe.training.batch_sequences

    @property
    def tokens_per_step(self) -> int:
        """Tokens per optimiser step."""
        return self.batch_sequences * self.store.sequence_length

    @property
    def total_steps(self) -> int:
        """Optimiser steps of the run: the whole steps that fit the token budget."""
        return self.recipe.training.tokens // self.tokens_per_step

    @property
    def decision_steps(self) -> tuple[int, ...]:
        """Steps at which the mixture is decided."""
        return decision_steps(self.recipe.decision.at, self.total_steps)

    @property
    def boundaries(self) -> tuple[int, ...]:
        """Ends of the segments: decision steps and the end of the run."""
        return (*self.decision_steps, self.total_steps)

    @cached_property
    def constraints(self) -> Constraints:
        """Rules on shares."""
        return self.recipe.constraints.build()

    @cached_property
    def heldout(self) -> HeldoutText:
        """All held-out text, for final scores."""
        return HeldoutText.from_store(self.store)

    @cached_property
    def objective(self) -> Objective:
        """What the mixture is chosen for."""
        return Objective.from_dict(
            self.domains.names,
            self.recipe.domain_weights,
            self.recipe.objective.quantity,
            self.heldout.bits_per_byte_factor.tolist(),
        )

    @cached_property
    def start(self) -> Mixture:
        """The mixture before the first decision."""
        return (
            self.mixture_named(self.recipe.start)
            if isinstance(self.recipe.start, str)
            else Mixture.from_dict(self.domains, self.recipe.start)
        )

    def mixture_named(self, name: str | dict[str, float]) -> Mixture:
        """`natural`, `uniform`, `start` (or `auto`, the same), or shares by domain."""
        if isinstance(name, dict):
            return Mixture.from_dict(self.domains, name)
        makers = {"natural": Mixture.natural, "uniform": Mixture.uniform}
        return makers[name](self.domains) if name in makers else self.start

    @cached_property
    def optimisation(self) -> Optimisation:
        """How weights are updated over the run."""
        return optimisation_of(self.recipe.training, self.total_steps)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of what decides every weight of a run but its mixtures."""
        return content_hash(
            {
                "evermix": VERSION,
                "text": corpus_record(self.store),
                "sequence_length": self.store.sequence_length,
                "model": self.recipe.model.model_dump(mode="json"),
                "training": self.recipe.training.model_dump(mode="json", exclude={"checkpoints", "workers"}),
                "seed": self.recipe.seed,
            }
        )

    def fresh_model(self) -> PreTrainedModel:
        """The model as it is before training."""
        return initial_model(self.recipe, self.store)


def optimisation_of(training: TrainingRecipe, n_steps: int) -> Optimisation:
    """How weights are updated over `n_steps`, the learning rate's schedule stretched over them."""
    schedule = LearningRate(
        training.schedule,
        n_steps,
        round(training.warmup_fraction * n_steps),
        round(training.decay_fraction * n_steps),
    )
    return Optimisation(
        learning_rate=training.learning_rate,
        schedule=schedule,
        batch_sequences=training.batch_sequences,
        gradient_accumulation=training.gradient_accumulation,
        weight_decay=training.weight_decay,
        clip_norm=training.clip_norm,
        workers=training.workers,
        precision=training.precision,
    )


def open_workbench(recipe: Recipe, project: Project, reporter: Reporter) -> Workbench:
    """Prepare the text, check that the model and the budget fit it.

    Raises:
        CorpusError, TokenizerError, CheckpointError, ConstraintError, RecipeError: on input that cannot work.
    """
    check_steps(recipe)
    if recipe.model.checkpoint is None:
        find_rung(recipe.model.rung)
    store = open_text(recipe, project, reporter)
    size = initial_size(recipe, store)
    bench = Workbench(recipe, project, store, size, reporter)
    bench.constraints.bounds(bench.domains, bench.total_steps * bench.tokens_per_step)
    return bench


def check_steps(recipe: Recipe) -> None:
    """Enough steps for every segment, and every decision at a step of its own; RecipeError otherwise."""
    tokens_per_step = recipe.training.batch_sequences * recipe.corpus.sequence_length
    total, least = recipe.training.tokens // tokens_per_step, 2 * (len(recipe.decision.at) + 1)
    if total < least:
        raise RecipeError(
            f"training.tokens must pay for at least {least} steps of {tokens_per_step} tokens",
            received=recipe.training.tokens,
            hint="raise training.tokens, or lower batch_sequences or sequence_length",
        )
    ends = [*decision_steps(recipe.decision.at, total), total]
    if len(set(ends)) != len(ends):
        raise RecipeError(
            f"decision.at must fall on different steps before the end, step {total}",
            received=ends[:-1],
            hint="move the decision points apart, or raise training.tokens",
        )


def decision_steps(at: tuple[float, ...], total_steps: int) -> tuple[int, ...]:
    """Steps at which the mixture is decided, for decision points given as fractions of the run."""
    return tuple(max(1, round(fraction * total_steps)) for fraction in at)


def initial_size(recipe: Recipe, store: TokenStore) -> ModelSize:
    """Parameters of the model that a recipe trains.

    Raises:
        CheckpointError: if it starts from a checkpoint that cannot be read or belongs to another tokenizer.
    """
    return ModelSize.of(initial_model(recipe, store))


def initial_model(recipe: Recipe, store: TokenStore) -> PreTrainedModel:
    """The model that a recipe begins with: a rung of the ladder with random weights, or a checkpoint.

    Raises:
        CheckpointError: if the checkpoint cannot be read or belongs to another tokenizer.
    """
    checkpoint = recipe.model.checkpoint
    if checkpoint is None:
        return build_model(recipe.model.rung, store.vocab_size, store.sequence_length, store.end_id, recipe.seed)
    source = resolve_checkpoint(checkpoint, recipe.base)
    own = tokenizer_of(source)
    check_tokenizer(source, store.tokenizer_fingerprint, own.fingerprint if own else None)
    model = load_model(source)
    check_vocabulary(model, store.vocab_size, source)
    return model
