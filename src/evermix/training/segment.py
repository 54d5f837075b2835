"""One segment of training on HF Trainer: from one decision to the next, resumable at every checkpoint.

Here too: learning-rate schedules over the steps of a whole run, as factors of the peak rate; and checkpoints: which is
the newest that is whole, and full disks.
"""

from __future__ import annotations

import errno
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import Sampler
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from evermix.corpus.store import TokenStore
from evermix.errors import RecipeError, TrainingError
from evermix.executors.job import PROGRESS_FILE
from evermix.files import read_record, remove_tree, stored, write_record
from evermix.schedule import MixtureSchedule
from evermix.training.data import SequenceDataset, StreamSampler, trimmed
from evermix.training.evaluation import HeldoutText, evaluate, is_loss, sequence_losses


@dataclass(frozen=True)
class LearningRate:
    """Factor of the peak learning rate at each step.

    Warm-up: (s + 1) / w for s < w. Then either
    - `wsd` (warmup-stable-decay): 1, and over the last d steps linearly to zero: (total - s) / d;
    - `cosine`: 0.1 + 0.45 (1 + cos(pi (s - w) / (total - w)));
    - `constant`: 1.

    Attributes:
        total_steps, warmup_steps, decay_steps: optimiser steps.
    """

    kind: Literal["wsd", "cosine", "constant"]
    total_steps: int
    warmup_steps: int = 0
    decay_steps: int = 0

    def __call__(self, step: int) -> float:
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.kind == "constant":
            return 1.0
        if self.kind == "wsd":
            return min(1.0, max(self.total_steps - step, 0) / max(self.decay_steps, 1))
        progress = (step - self.warmup_steps) / max(self.total_steps - self.warmup_steps, 1)
        return 0.1 + 0.45 * (1 + math.cos(math.pi * min(progress, 1.0)))

    def until(self, end: int) -> LearningRate:
        """The same factors for all steps < end, and no more than that: what is trained by then has no part in the rest.

        Of `wsd` up to the beginning of its decay that is `constant` with the same warm-up, whenever the decay begins. A
        checkpoint at `end` holds the factor of step `end` too, which the next step is taken with; it is the same.
        """
        if self.kind == "constant" or (self.kind == "wsd" and end <= self.total_steps - self.decay_steps):
            return LearningRate("constant", end, self.warmup_steps)
        return self


@dataclass(frozen=True)
class Optimisation:
    """How weights are updated.

    `batch_sequences` counts sequences per optimiser step over all devices. `precision` is that of matrix products:
    weights and their averages are float32 in any case; auto is bfloat16 on a GPU that has it and float32 elsewhere.
    """

    learning_rate: float
    schedule: LearningRate
    batch_sequences: int
    gradient_accumulation: int = 1
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    workers: int = 0
    precision: Precision = "auto"


@dataclass(frozen=True)
class Segment:
    """A piece of training of a run whose steps are counted from 0.

    Attributes:
        mixtures: the schedule of the whole run up to `end_step` (sequences counted from 0).
        end_step: optimiser step at which the segment ends.
        seed: of the order of the sequences.
        evaluate_at, checkpoint_at: steps at which the loss curve gets a point, and a checkpoint is written.
        measure_at: steps at which losses are measured that decisions stand on.
        first_sequence: of `mixtures`, the one that step 0 begins with; not 0 where steps are counted anew in a phase.
        learning_rate_key: of the recipe, that is to be lowered where training diverges.
    """

    mixtures: MixtureSchedule
    end_step: int
    optimisation: Optimisation
    seed: int
    evaluate_at: tuple[int, ...] = ()
    checkpoint_at: tuple[int, ...] = ()
    measure_at: tuple[int, ...] = ()
    first_sequence: int = 0
    learning_rate_key: str = "training.learning_rate"


@dataclass
class Progress:
    """What a segment has recorded so far: points of the loss curve, measurements, and seconds spent, all in all.

    `counts` holds what else a trainer counts, by name: tokens that it generates, for instance.
    """

    curve: list[dict[str, Any]] = field(default_factory=list)
    measured: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0
    counts: dict[str, float] = field(default_factory=dict)

    def count(self, name: str, amount: float) -> None:
        """Add to one of `counts`."""
        self.counts[name] = self.counts.get(name, 0.0) + amount


@dataclass(frozen=True)
class TrainerParts:
    """What a trainer of a segment is made of; the order of the sequences is the sampler's.

    Attributes:
        model: to be trained in place, with the weights that the segment begins with.
        segment: what is asked for.
        progress: where the trainer may count.
    """

    model: PreTrainedModel
    store: TokenStore
    segment: Segment
    arguments: TrainingArguments
    sampler: StreamSampler
    callbacks: tuple[TrainerCallback, ...]
    optimizers: tuple[torch.optim.Optimizer, LambdaLR]
    progress: Progress


MakeTrainer = Callable[[TrainerParts], Trainer]


def plain_trainer(parts: TrainerParts) -> Trainer:
    """HF Trainer: every token that has a label is learnt."""
    return StreamTrainer(
        model=parts.model,
        args=parts.arguments,
        train_dataset=SequenceDataset(parts.store),
        data_collator=trimmed if parts.store.has_chat else None,
        callbacks=list(parts.callbacks),
        optimizers=parts.optimizers,
        sampler=parts.sampler,
    )


def train_segment(
    model: PreTrainedModel,
    store: TokenStore,
    segment: Segment,
    folder: Path,
    *,
    parent: Path | None = None,
    heldout: HeldoutText | None = None,
    deciding: HeldoutText | None = None,
    report: StepReport | None = None,
    make_trainer: MakeTrainer = plain_trainer,
) -> Progress:
    """Train `model` in place to `segment.end_step`.

    Goes on from the newest whole checkpoint in `folder`, else from the checkpoint `parent` (same optimiser state), else
    from the weights of `model` as they are.

    Args:
        heldout, deciding: read for the loss curve, and for measurements.

    Raises:
        TrainingError: training diverged; it names the step, the domains and the key to change.
    """
    resume = newest_checkpoint(folder) or parent
    own = resume is not None and resume.parent == folder
    progress = _read_progress(resume) if own and resume else Progress()
    recorder = _Recorder(segment, store.mean_lengths, heldout, deciding, progress, report)
    n_sequences = segment.end_step * segment.optimisation.batch_sequences
    parts = TrainerParts(
        model,
        store,
        segment,
        _arguments(segment, folder),
        StreamSampler(store, segment.mixtures, segment.seed, n_sequences, segment.first_sequence),
        (recorder,),
        _optimiser(model, segment.optimisation),
        progress,
    )
    trainer = make_trainer(parts)
    trainer.remove_callback(_default_progress())
    try:
        with full_disk_named(folder), divergence_named(segment, lambda: trainer.state.global_step):
            trainer.train(resume_from_checkpoint=str(resume) if resume else None)
            _check_weights(model)
    except OSError:
        newest_checkpoint(folder)  # a full disk gets back the room of the torn checkpoint
        raise
    return recorder.finished()


def _read_progress(checkpoint: Path) -> Progress:
    record = read_record(checkpoint / PROGRESS_FILE, "curve", "measured", "seconds")
    return Progress(record["curve"], record["measured"], record["seconds"], record.get("counts", {}))


def _arguments(segment: Segment, folder: Path) -> TrainingArguments:
    optimisation = segment.optimisation
    is_bfloat16 = _is_bfloat16(optimisation.precision)
    arguments = TrainingArguments(
        output_dir=str(folder),
        max_steps=segment.end_step,
        gradient_accumulation_steps=optimisation.gradient_accumulation,
        max_grad_norm=optimisation.clip_norm,
        dataloader_num_workers=optimisation.workers,
        dataloader_pin_memory=torch.cuda.is_available(),
        bf16=is_bfloat16,
        use_cpu=is_bfloat16 and not torch.cuda.is_available(),  # else they refuse bfloat16 without a GPU
        seed=segment.seed,
        save_strategy="no",
        logging_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    devices = max(1, arguments.n_gpu) * arguments.world_size
    parts = devices * optimisation.gradient_accumulation
    if optimisation.batch_sequences % parts:
        raise RecipeError(
            f"training.batch_sequences must be a multiple of devices x gradient_accumulation = {parts}",
            received=optimisation.batch_sequences,
        )
    arguments.per_device_train_batch_size = optimisation.batch_sequences // parts
    return arguments


def _is_bfloat16(precision: Precision) -> bool:
    on_gpu = torch.cuda.is_available()
    if precision == "auto":
        return on_gpu and torch.cuda.is_bf16_supported()
    if precision == "bfloat16" and on_gpu and not torch.cuda.is_bf16_supported():
        raise RecipeError(
            f"training.precision: {torch.cuda.get_device_name()} must have bfloat16", hint="set it to auto or float32"
        )
    return precision == "bfloat16"


def _optimiser(model: PreTrainedModel, optimisation: Optimisation) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """AdamW (betas 0.9, 0.95); weight decay on matrices only."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.ndim >= 2], "weight_decay": optimisation.weight_decay},
        {"params": [p for p in trained if p.ndim < 2], "weight_decay": 0.0},
    ]
    optimiser = torch.optim.AdamW(
        [group for group in groups if group["params"]], lr=optimisation.learning_rate, betas=(0.9, 0.95)
    )
    schedule = optimisation.schedule
    return optimiser, LambdaLR(optimiser, lambda step: schedule(step))


def _default_progress() -> type[TrainerCallback]:
    from transformers.trainer_callback import PrinterCallback

    return PrinterCallback


_OVERFLOW = "cannot be converted to type float without overflow"  # what torch says of a step size


class StreamTrainer(Trainer):
    """HF Trainer that takes its order of sequences from the mixture stream, and stops where training diverges."""

    def __init__(self, *, sampler: StreamSampler, **arguments: Any) -> None:
        self._stream_sampler = sampler
        super().__init__(**arguments)

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        return self._stream_sampler

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> torch.Tensor:
        """The loss of one part of a step; TrainingError if it is none, before the weights are changed."""
        loss: torch.Tensor = super().training_step(model, inputs, num_items_in_batch)
        if not is_loss(nats := float(loss)):
            names, step = ", ".join(self._diverging(model)), self.state.global_step + 1
            raise TrainingError(f"{names}: loss {nats:.3g} nats per token", where=f" at step {step}")
        return loss

    @torch.no_grad()
    def _diverging(self, model: Any) -> list[str]:
        """The domains whose rows in this step have a loss that is none; those of all its rows, if none has."""
        sampler, size = self._stream_sampler, self.args.train_batch_size * self.args.gradient_accumulation_steps
        size *= self.args.world_size
        rows = sampler.rows(self.state.global_step * size, size)
        positions = np.searchsorted(sampler.store.flat_offsets, rows, side="right") - 1
        owners = [sampler.store.domains.names[j] for j in positions]
        bad = []
        for owner, example in zip(owners, SequenceDataset(sampler.store).__getitems__(rows), strict=True):
            batch = {key: values[None].to(self.args.device) for key, values in example.items() if key != "labels"}
            labels = example["labels"][None].to(self.args.device)
            if not is_loss(float(sequence_losses(model(**batch).logits, labels)[0])):
                bad.append(owner)
        return list(dict.fromkeys(bad or owners))


@contextmanager
def divergence_named(segment: Segment, step: Callable[[], int] | None = None) -> Iterator[None]:
    """Say of divergence at which step it was seen, by default the last, and which key is to be lowered."""
    try:
        try:
            yield
        except RuntimeError as error:
            if _OVERFLOW not in str(error):
                raise
            raise TrainingError("a step of the optimiser is greater than any number") from error
    except TrainingError as error:
        where = error.where or f" at step {segment.end_step if step is None else step()}"
        hint = f"lower {segment.learning_rate_key}"
        raise TrainingError(error.detail, where=f"{where} of {segment.end_step}", hint=hint) from error


def _check_weights(model: PreTrainedModel) -> None:
    """After the last step, whose loss nobody has seen."""
    for name, weight in model.named_parameters():
        if weight.requires_grad and not bool(torch.isfinite(weight).all()):
            raise TrainingError(f"weights that are no numbers: {name}")


class _Recorder(TrainerCallback):
    """Loss curve, checkpoints with completion marker, and step reports of one segment."""

    def __init__(
        self,
        segment: Segment,
        mean_lengths: npt.NDArray[np.float64],
        heldout: HeldoutText | None,
        deciding: HeldoutText | None,
        progress: Progress,
        report: StepReport | None,
    ) -> None:
        self.segment = segment
        self.mean_lengths = mean_lengths
        self.heldout = heldout
        self.deciding = deciding
        self.progress = progress
        self.report = report
        self.started = time.monotonic()
        self.seconds_before = progress.seconds

    def finished(self) -> Progress:
        """The record with the seconds spent so far."""
        self.progress.seconds = self.seconds_before + time.monotonic() - self.started
        return self.progress

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> TrainerControl:
        step = state.global_step
        if self.heldout is not None and step in self.segment.evaluate_at:
            self.progress.curve.append(self._point(context["model"], self.heldout, step))
        if self.deciding is not None and step in self.segment.measure_at:
            started = time.monotonic()
            point = self._point(context["model"], self.deciding, step)
            self.progress.measured.append({**point, "seconds": time.monotonic() - started})
        if step in self.segment.checkpoint_at or (step == self.segment.end_step and self.segment.checkpoint_at):
            control.should_save = True
        if self.report is not None:
            self.report(step)
        return control

    def _point(self, model: PreTrainedModel, text: HeldoutText, step: int) -> dict[str, Any]:
        scores = evaluate(model, text)
        losses = dict(zip(scores.domains.names, map(float, scores.loss_nats), strict=True))
        return {"step": step, "n_tokens": self._tokens_at(step), "loss_nats": losses}

    def _tokens_at(self, step: int) -> int:
        """Tokens trained on by the end of `step`, without padding: sequences per domain times their mean length."""
        first = self.segment.first_sequence
        mixtures, last = self.segment.mixtures, first + step * self.segment.optimisation.batch_sequences
        spent = mixtures.sequences_spent(last) - mixtures.sequences_spent(first)
        return round(float(spent @ self.mean_lengths))

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **context: Any
    ) -> TrainerControl:
        """Mark the checkpoint whole, and drop the ones before it."""
        if not state.is_world_process_zero:
            return control
        current = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        record = self.finished()
        counts = {"counts": record.counts} if record.counts else {}
        made = {path.name for path in current.iterdir() if path.is_file() and not _OF_A_RANK.fullmatch(path.name)}
        progress = {"curve": record.curve, "measured": record.measured, "seconds": record.seconds, **counts}
        write_record(current / PROGRESS_FILE, progress, made - {PROGRESS_FILE})
        for older in Path(args.output_dir).glob("checkpoint-*"):
            if older != current:
                remove_tree(older)
        return control


def spread_steps(start: int, end: int, total: int, count: int) -> tuple[int, ...]:
    """The steps in (start, end] of `count` points spread evenly over `total` steps, with `end` itself."""
    points = {math.ceil(total * k / count) for k in range(1, count + 1)} if count else set()
    return tuple(sorted({step for step in points if start < step <= end} | {end}))


# ---- checkpoints: which is whole, and full disks

TEACHER_FILE = "evermix_teacher.safetensors"
ONLY_TO_GO_ON = frozenset({"optimizer.pt", "scheduler.pt", TEACHER_FILE})  # three times the weights and more
_OF_A_RANK = re.compile(r"rng_state_\d+\.pth")  # other processes may still be writing theirs
# what safetensors and torch say of ENOSPC, EDQUOT and EFBIG
_FULL_DISK = re.compile(r"os error (28|122|27)\b|No space left|PytorchStreamWriter|inline_container.*unexpected pos")


def newest_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint of `folder` that is whole; torn ones are removed, and damaged ones, which is said."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if stored(path / PROGRESS_FILE, "curve", "measured", "seconds") is not None:
            whole.append((int(path.name.removeprefix("checkpoint-")), path))
        else:
            remove_tree(path)
    return max(whole)[1] if whole else None


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """The libraries that write checkpoints hide a full disk in errors of their own: raise the OSError that it is."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if not _FULL_DISK.search(str(error)):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


StepReport = Callable[[int], None]
Precision = Literal["auto", "float32", "bfloat16"]
