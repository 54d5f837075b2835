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

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from evermix.errors import RecipeError, to_install
from evermix.executors.job import CachedJob
from evermix.ledger import content_hash
from evermix.lifecycle.context import RunContext
from evermix.lifecycle.history import DataHistory
from evermix.lifecycle.text import chat_template
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase, PhaseRecipe
from evermix.results import Compute, CurvePoint, Decision, Measurement
from evermix.tasks.prompts import PromptEncoder
from evermix.training.sdft import SelfDistillation, TeacherPrompt, sdft_trainer
from evermix.training.segment import (
    ONLY_TO_GO_ON,
    MakeTrainer,
    Optimisation,
    Segment,
    newest_checkpoint,
    plain_trainer,
    spread_steps,
    train_segment,
)

_CURVE_SEQUENCES = 32


Point = TypeVar("Point", CurvePoint, Measurement)


@dataclass(frozen=True)
class ModelState:
    """A model at a point of its training.

    Attributes:
        run_id: hash of all that led here.
        checkpoint: its folder; None for a model that was never trained.
        history: what it was trained on.
        step: optimiser steps since its optimiser began; 0 where the next phase begins with a new one.
        began: at which of them its phase began.
        curve: loss curve of its phase.
        measured: losses that decisions of its phase stand on.
        decisions: that earlier phases have followed, in order.
    """

    run_id: str
    checkpoint: Path | None
    history: DataHistory
    step: int = 0
    began: int = 0
    curve: tuple[CurvePoint, ...] = ()
    measured: tuple[Measurement, ...] = ()
    decisions: tuple[Decision, ...] = ()

    @classmethod
    def initial(cls, context: RunContext) -> ModelState:
        """The model before any training."""
        return cls(context.initial_id, None, DataHistory(context.rows))

    def with_new_optimizer(self) -> ModelState:
        """The same weights, to be trained on with a new optimiser."""
        return replace(self, step=0, began=0, curve=(), measured=())

    def with_its_optimizer(self) -> ModelState:
        """The same weights at the beginning of a phase that goes on with the optimiser."""
        return replace(self, began=self.step, curve=(), measured=())

    @property
    def phase_step(self) -> int:
        """Optimiser steps since its phase began."""
        return self.step - self.began

    @property
    def trained(self) -> Path:
        """The folder of its weights; only for a model that was trained."""
        assert self.checkpoint is not None, "the model was never trained"
        return self.checkpoint


@dataclass(frozen=True)
class Stretch:
    """Steps trained on one mixture over all texts of the run, up to `end_step` of the optimiser."""

    mixture: Mixture
    end_step: int


@dataclass(frozen=True)
class Measuring:
    """What is read at the end of every stretch of a piece: so many held-out sequences of each of some domains."""

    domains: tuple[str, ...]
    sequences: int


@dataclass(frozen=True)
class Piece:
    """A piece of a model's training.

    Attributes:
        stretches: what it is trained on, in order; it begins at the model's step.
        optimisation: of the whole phase, its schedule over the steps of the optimiser.
        phase: that it belongs to.
        label: for the reader.
        part: under which its compute is booked.
        first_step: step of the optimiser at which the phase begins.
        n_before: steps that were trained in the phase before this piece; for progress.
        measuring: for decisions; None: nothing is measured.
    """

    stretches: tuple[Stretch, ...]
    optimisation: Optimisation
    phase: Phase
    label: str
    part: str = "training"
    first_step: int = 0
    n_before: int = 0
    measuring: Measuring | None = None

    @property
    def end_step(self) -> int:
        """Step of the optimiser at which it ends."""
        return self.stretches[-1].end_step

    @property
    def own_optimisation(self) -> Optimisation:
        """What of the phase's the piece is trained with: its schedule says nothing of steps after its end."""
        return replace(self.optimisation, schedule=self.optimisation.schedule.until(self.end_step))

    @property
    def may_go_on(self) -> bool:
        """Whether later steps may go on with its optimiser: not after a decay to its end."""
        schedule = self.own_optimisation.schedule
        return schedule.kind == "constant" or self.end_step < schedule.total_steps

    def spread(self, start: int, count: int) -> tuple[int, ...]:
        """Of `count` steps spread evenly over the phase, those from `start` on that lie in the piece, and its end."""
        first = self.first_step
        found = spread_steps(start - first, self.end_step - first, self.phase.n_steps, count)
        return tuple(first + step for step in found)

    @property
    def used(self) -> frozenset[str]:
        """Texts with a share."""
        return frozenset(name for each in self.stretches for name in shares_of(each.mixture))


def shares_of(mixture: Mixture) -> dict[str, float]:
    """Texts with a share, and it."""
    return {name: share for name, share in mixture.as_dict.items() if share > 0}


def train(context: RunContext, state: ModelState, piece: Piece) -> tuple[ModelState, Compute]:
    """Train a model further, or read what was trained before."""
    run_id = content_hash(_identity(context, state, piece))
    folder = context.project.run_folder(run_id)
    history, n_tokens = _history(context, state, piece)
    job = CachedJob(folder, ("curve", "measured", "seconds"), frozenset() if piece.may_go_on else ONLY_TO_GO_ON)
    record = job.run(lambda place: _train(context, state, piece, history, place), resumable=True)
    checkpoint = folder / f"checkpoint-{piece.end_step}"
    compute = _compute(context, piece, n_tokens, record)
    rows = history.spent - state.history.spent
    ledger_record = {
        "phase": piece.phase.name,
        "label": piece.label,
        "part": piece.part,
        "start_row": state.history.n_rows,
        "end_row": history.n_rows,
        "mixture": shares_of(Mixture.normalised(context.rows, rows)),
        "compute": compute.model_dump(mode="json"),
    }
    context.project.ledger.append("segment", run_id, ledger_record)
    shift = _before_the_phase(context, state, piece)
    curve = (*state.curve, *_since(shift, CurvePoint, record["curve"]))
    measured = (*state.measured, *_since(shift, Measurement, record["measured"]))
    trained = replace(state, run_id=run_id, checkpoint=checkpoint, history=history, curve=curve, measured=measured)
    return replace(trained, step=piece.end_step, began=piece.first_step), compute


def _history(context: RunContext, state: ModelState, piece: Piece) -> tuple[DataHistory, float]:
    """All rows after the piece, and expected tokens of its own."""
    history, n_tokens, step = state.history, 0.0, state.step
    for stretch in piece.stretches:
        n_rows = (stretch.end_step - step) * piece.optimisation.batch_sequences
        history, step = history.then(stretch.mixture, n_rows), stretch.end_step
        n_tokens += n_rows * context.mean_length(stretch.mixture)
    return history, n_tokens


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
    optimisation = asdict(piece.own_optimisation)
    optimisation.pop("workers")
    return {
        "context": context.fingerprint,
        "before": state.run_id,
        "from_step": state.step,
        "mixtures": [[{n: x.hex() for n, x in shares_of(s.mixture).items()}, s.end_step] for s in piece.stretches],
        "measuring": None if piece.measuring is None else asdict(piece.measuring),
        "texts": {domain.name: domain.fingerprint for domain in texts},
        "sizes": {domain.name: domain.n_rows for domain in texts},
        "optimisation": optimisation,
        **_trainer_identity(context, piece.phase.recipe),
    }


def _since(shift: Mapping[str, int], kind: type[Point], points: Sequence[Any]) -> list[Point]:
    """Points of a finished piece, their steps and tokens counted from the beginning of the phase."""
    found = [kind.model_validate(point) for point in points]
    return [p.model_copy(update={key: getattr(p, key) - n for key, n in shift.items()}) for p in found]


def _before_the_phase(context: RunContext, state: ModelState, piece: Piece) -> dict[str, int]:
    """Steps that the optimiser had done before the phase, and their tokens."""
    if not piece.first_step:
        return {"step": 0, "n_tokens": 0}
    batch, schedule = piece.optimisation.batch_sequences, state.history.schedule
    assert schedule is not None  # there was a phase before
    began = state.history.n_rows - state.step * batch
    spent = schedule.sequences_spent(began + piece.first_step * batch) - schedule.sequences_spent(began)
    return {"step": piece.first_step, "n_tokens": round(float(spent @ context.store.mean_lengths))}


def _train(context: RunContext, state: ModelState, piece: Piece, history: DataHistory, folder: Path) -> dict[str, Any]:
    recipe, batch = context.recipe.training, piece.optimisation.batch_sequences
    assert history.schedule is not None  # `then` has put the mixture into it
    start, end = state.step, piece.end_step
    measuring = piece.measuring
    segment = Segment(
        history.schedule,
        end,
        piece.own_optimisation,
        context.recipe.seed,
        piece.spread(start, recipe.evaluations) if recipe.evaluations else (),
        piece.spread(start, recipe.checkpoints),
        tuple(each.end_step for each in piece.stretches) if measuring else (),
        state.history.n_rows - start * batch,
    )
    used = [name for name in context.rows.names if name in piece.used]
    resumed = newest_checkpoint(folder)
    at = int(resumed.name.removeprefix("checkpoint-")) if resumed else start
    model = context.initial_model() if state.checkpoint is None else load_model(state.checkpoint)
    tokens_per_step, passed = round(batch * context.mean_length(piece.stretches[-1].mixture)), start - piece.n_before
    with context.reporter.part("training", piece.label, end - passed, tokens_per_step, at - passed) as report:
        progress = train_segment(
            model,
            context.store,
            segment,
            folder,
            parent=None if state.checkpoint is None or start == 0 else state.checkpoint,
            heldout=context.heldout(used, "decision", _CURVE_SEQUENCES),
            deciding=context.heldout(measuring.domains, "decision", measuring.sequences) if measuring else None,
            report=lambda step: report(step - passed),
            make_trainer=_trainer_of(context, piece.phase.recipe),
        )
    counts = {"counts": progress.counts} if progress.counts else {}
    return {"curve": progress.curve, "measured": progress.measured, "seconds": progress.seconds, **counts}


def _trainer_of(context: RunContext, phase: PhaseRecipe) -> MakeTrainer:
    """What makes the trainer of a phase."""
    if phase.trainer == "plain":
        return plain_trainer
    if phase.trainer == "sft":
        from evermix.training.sft import sft_trainer

        return sft_trainer
    return partial(sdft_trainer, how=_self_distillation(context, phase))


def _trainer_identity(context: RunContext, phase: PhaseRecipe) -> dict[str, Any]:
    """What a trainer adds to the identity of a run: nothing, if it is the plain one."""
    if phase.trainer == "plain":
        return {}
    own = asdict(_self_distillation(context, phase)) if phase.trainer == "sdft" else {}
    return {"trainer": phase.trainer, **own}


def _self_distillation(context: RunContext, phase: PhaseRecipe) -> SelfDistillation:
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
        phase.distillation.generations,
        phase.distillation.skipped_tokens,
        phase.distillation.teacher_rate,
    )


def _compute(context: RunContext, piece: Piece, n_tokens: float, record: Mapping[str, Any]) -> Compute:
    """What a training cost: `n_tokens` are expected of its rows; `record` is of the finished training."""
    counts, size = record.get("counts"), context.size
    seconds = record["seconds"] - sum(point["seconds"] for point in record["measured"])  # booked by who decides
    if not counts:
        return Compute.of(piece.part, size.training(n_tokens), n_tokens, seconds)
    learnt, written, taught = (counts[f"n_{name}_tokens"] for name in ("student", "generation", "teacher"))
    writing, teaching = counts["generation_seconds"], counts["teacher_seconds"]
    return Compute.sum(
        (
            Compute.of(piece.part, size.training(learnt), learnt, max(seconds - writing - teaching, 0.0)),
            Compute.of("generation", size.evaluation(written), written, writing),
            Compute.of("evaluation", size.evaluation(taught), taught, teaching),
        )
    )
