"""ModelState: a model at a point of its training; training it further is a cached job that is never done twice.

What trains a phase:
    plain   HF Trainer; of conversations, on the answers
    sft     TRL's SFTTrainer on the same rows
    sdft    the model, shown the demonstration, teaches itself on what it writes without (training/sdft.py)

With N as in models/ladder.py, sdft costs 6 N per token that the student is trained on (its prompts and what it wrote),
2 N per token read or written to write it (part `generation`), and 2 N per token that the teacher reads (`evaluation`);
a prompt with several generations counts once for each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from evermix.errors import RecipeError, to_install
from evermix.executors.job import CachedJob
from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.history import DataHistory
from evermix.lifecycle.text import chat_template
from evermix.lifecycle.work import part_of
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.recipe import Recipe, TrainingRecipe
from evermix.recipe.phases import DistillationRecipe, Phase, TrainerKind
from evermix.results import Compute, CurvePoint
from evermix.tasks.prompts import PromptEncoder
from evermix.training.sdft import SelfDistillation, TeacherPrompt, sdft_trainer
from evermix.training.segment import (
    ONLY_TO_GO_ON,
    LearningRate,
    MakeTrainer,
    Optimisation,
    Segment,
    newest_checkpoint,
    plain_trainer,
    spread_steps,
    train_segment,
)

_CURVE_SEQUENCES = 32


@dataclass(frozen=True)
class ModelState:
    """A model at a point of its training.

    Attributes:
        run_id: hash of all that led here.
        checkpoint: its folder; None for a model that was never trained.
        history: what it was trained on.
        step: optimiser steps since its optimiser began; 0 where the next phase begins with a new one.
        curve: loss curve since then, steps counted likewise.
    """

    run_id: str
    checkpoint: Path | None
    history: DataHistory
    step: int = 0
    curve: tuple[CurvePoint, ...] = ()

    @classmethod
    def initial(cls, context: RunContext) -> ModelState:
        """The model before any training."""
        return cls(context.initial_id, None, DataHistory(context.rows))

    def with_new_optimizer(self) -> ModelState:
        """The same weights, to be trained on with a new optimiser."""
        return replace(self, step=0, curve=())

    @property
    def trained(self) -> Path:
        """The folder of its weights; only for a model that was trained."""
        assert self.checkpoint is not None, "the model was never trained"
        return self.checkpoint


@dataclass(frozen=True)
class Piece:
    """A piece of a model's training.

    Attributes:
        mixture: over all texts of the run.
        optimisation: of the whole phase.
        end_step: step at which the piece ends; it begins at the model's.
        total_steps: of the phase.
        phase, label: for the reader.
        trainer: of the phase.
        distillation: of the phase, for trainer sdft.
        is_trunk: whether the next phase goes on with its optimiser.
        part: under which its compute is booked.
    """

    mixture: Mixture
    optimisation: Optimisation
    end_step: int
    total_steps: int
    phase: str
    label: str
    trainer: TrainerKind = "plain"
    is_trunk: bool = False
    part: str = "training"
    distillation: DistillationRecipe = field(default_factory=DistillationRecipe)

    @property
    def is_carried_on(self) -> bool:
        """Whether a later piece goes on with this one's optimiser."""
        return self.is_trunk or self.end_step < self.total_steps

    def up_to(self, end_step: int) -> Piece:
        """Its beginning, up to a step of the phase; itself, if that is where it ends."""
        if end_step == self.end_step:
            return self
        return replace(self, end_step=end_step, label=f"{self.phase}: training to step {end_step}")

    @property
    def used(self) -> dict[str, float]:
        """Texts with a share."""
        return {name: share for name, share in self.mixture.as_dict.items() if share > 0}


def train(context: RunContext, state: ModelState, piece: Piece) -> tuple[ModelState, Compute]:
    """Train a model further, or read what was trained before."""
    run_id = content_hash(_identity(context, state, piece))
    folder = context.project.run_folder(run_id)
    n_rows = (piece.end_step - state.step) * piece.optimisation.batch_sequences
    history = state.history.then(piece.mixture, n_rows)
    job = CachedJob(folder, ("curve", "seconds"), frozenset() if piece.is_carried_on else ONLY_TO_GO_ON)
    record = job.run(lambda place: _train(context, state, piece, history, place), resumable=True)
    checkpoint = folder / f"checkpoint-{piece.end_step}"
    compute = _compute(context, piece, n_rows * context.mean_length(piece.mixture), record)
    ledger_record = {
        "phase": piece.phase,
        "label": piece.label,
        "part": piece.part,
        "start_row": state.history.n_rows,
        "end_row": history.n_rows,
        "mixture": piece.used,
        "compute": compute.model_dump(mode="json"),
    }
    context.project.ledger.append("segment", run_id, ledger_record)
    curve = tuple(CurvePoint.model_validate(point) for point in record["curve"])
    return ModelState(run_id, checkpoint, history, piece.end_step, (*state.curve, *curve)), compute


def phase_piece(context: RunContext, phase: Phase, mixture: Mixture, part: str | None = None) -> Piece:
    """A whole phase on one mixture over all texts, with an optimiser of its own."""
    n_steps = phase.n_steps
    return Piece(
        mixture,
        optimisation_of(phase.training, n_steps),
        n_steps,
        n_steps,
        phase.name,
        f"{phase.name}: training",
        phase.recipe.trainer,
        part=part or part_of(context.recipe, phase),
        distillation=phase.recipe.distillation,
    )


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


def decision_steps(at: tuple[float, ...], total_steps: int) -> tuple[int, ...]:
    """Steps at which the mixture is decided, for decision points given as fractions of a phase."""
    return tuple(max(1, round(fraction * total_steps)) for fraction in at)


def check_trainers(recipe: Recipe) -> None:
    """Nothing, if the packages of every phase's trainer are there.

    Raises:
        RecipeError: TRL is not installed.
    """
    for phase in recipe.phases:
        if phase.trainer == "sft" and find_spec("trl") is None:
            raise RecipeError(
                f"phase '{phase.name}': trainer sft must have TRL",
                hint=f"{to_install('trl')}; trainer plain learns the same without it",
            )


def _identity(context: RunContext, state: ModelState, piece: Piece) -> dict[str, Any]:
    """All that decides the weights: texts of no share do not count, so later phases of a recipe change nothing."""
    texts = [domain for domain in context.rows if domain.name in piece.used]
    optimisation = asdict(piece.optimisation)
    optimisation.pop("workers")
    return {
        "context": context.fingerprint,
        "before": state.run_id,
        "from_step": state.step,
        "mixture": {name: share.hex() for name, share in piece.used.items()},
        "texts": {domain.name: domain.fingerprint for domain in texts},
        "sizes": {domain.name: domain.n_rows for domain in texts},
        "optimisation": optimisation,
        "end_step": piece.end_step,
        **_trainer_identity(context, piece),
    }


def _train(context: RunContext, state: ModelState, piece: Piece, history: DataHistory, folder: Path) -> dict[str, Any]:
    recipe, batch = context.recipe.training, piece.optimisation.batch_sequences
    assert history.schedule is not None  # `then` has put the mixture into it
    start, end = state.step, piece.end_step
    segment = Segment(
        history.schedule,
        end,
        piece.optimisation,
        context.recipe.seed,
        spread_steps(start, end, piece.total_steps, recipe.evaluations) if recipe.evaluations else (),
        spread_steps(start, end, piece.total_steps, recipe.checkpoints),
        state.history.n_rows - start * batch,
    )
    resumed = newest_checkpoint(folder)
    at = int(resumed.name.removeprefix("checkpoint-")) if resumed else start
    model = context.initial_model() if state.checkpoint is None else load_model(state.checkpoint)
    tokens_per_step = round(batch * context.mean_length(piece.mixture))
    with context.reporter.part("training", piece.label, end, tokens_per_step, at) as report:
        progress = train_segment(
            model,
            context.store,
            segment,
            folder,
            parent=None if state.checkpoint is None or start == 0 else state.checkpoint,
            heldout=context.heldout(list(piece.used), _CURVE_SEQUENCES),
            report=report,
            make_trainer=_trainer_of(context, piece),
        )
    counts = {"counts": progress.counts} if progress.counts else {}
    return {"curve": progress.curve, "seconds": progress.seconds, **counts}


def _trainer_of(context: RunContext, piece: Piece) -> MakeTrainer:
    """What makes the trainer of a phase."""
    if piece.trainer == "plain":
        return plain_trainer
    if piece.trainer == "sft":
        from evermix.training.sft import sft_trainer

        return sft_trainer
    return partial(sdft_trainer, how=_self_distillation(context, piece.distillation))


def _trainer_identity(context: RunContext, piece: Piece) -> dict[str, Any]:
    """What a trainer adds to the identity of a run: nothing, if it is the plain one."""
    if piece.trainer == "plain":
        return {}
    own = asdict(_self_distillation(context, piece.distillation)) if piece.trainer == "sdft" else {}
    return {"trainer": piece.trainer, **own}


def _self_distillation(context: RunContext, settings: DistillationRecipe) -> SelfDistillation:
    """How a model teaches itself: by the chat template of its conversations."""
    template = chat_template(context.recipe)
    tokenizer = context.store.tokenizer
    ends = [tokenizer.end_id]
    if template.source is not None:
        end_of_turn = PromptEncoder(tokenizer, partial(template.render, generate=True)).end_of_turn
        ends += [] if end_of_turn is None else [end_of_turn]
    return SelfDistillation(
        TeacherPrompt.of(tokenizer, template),
        tuple(sorted(set(ends))),
        settings.generations,
        settings.skipped_tokens,
        settings.teacher_rate,
    )


def _compute(context: RunContext, piece: Piece, n_tokens: float, record: Mapping[str, Any]) -> Compute:
    """What a training cost: `n_tokens` are expected of its rows; `record` is of the finished training."""
    counts, size = record.get("counts"), context.size
    if not counts:
        return Compute.of(piece.part, size.training(n_tokens), n_tokens, record["seconds"])
    learnt, written, taught = (counts[f"n_{name}_tokens"] for name in ("student", "generation", "teacher"))
    writing, teaching = counts["generation_seconds"], counts["teacher_seconds"]
    return Compute.sum(
        (
            Compute.of(piece.part, size.training(learnt), learnt, max(record["seconds"] - writing - teaching, 0.0)),
            Compute.of("generation", size.evaluation(written), written, writing),
            Compute.of("evaluation", size.evaluation(taught), taught, teaching),
        )
    )
