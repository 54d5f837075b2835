"""Learner: a model at a point of its life; training it further is a content-addressed job that is never done twice."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.cost import Cost as Cost
from evermix.lifecycle.continual.instruct import trainer_identity, trainer_of, training_cost
from evermix.lifecycle.continual.life import Life
from evermix.mixture import Mixture
from evermix.models.loading import load_model
from evermix.recipe.phases import TrainerKind
from evermix.training.segment import (
    Optimisation,
    Segment,
    keep_weights_only,
    newest_checkpoint,
    spread_steps,
    train_segment,
)

_MARKER = "done.json"
_CURVE_SEQUENCES = 32


@dataclass(frozen=True)
class Learner:
    """A model at a point of its life.

    Attributes:
        run_id: hash of all that led here.
        checkpoint: its folder; None for a model that was never trained.
        life: what it was trained on.
        step: optimiser steps since its optimiser began; 0 where the next stage begins with a new one.
    """

    run_id: str
    checkpoint: Path | None
    life: Life
    step: int = 0

    @classmethod
    def newborn(cls, bench: LifeBench) -> Learner:
        """The model before any training."""
        return cls(bench.newborn_id, None, Life(bench.rows))

    def rested(self) -> Learner:
        """The same weights, to be trained on with a new optimiser."""
        return replace(self, step=0)


@dataclass(frozen=True)
class Training:
    """A piece of a learner's training.

    Attributes:
        mixture: over all texts of the life.
        optimisation: of the whole stage.
        end_step: step at which the piece ends; it begins at the learner's.
        total_steps: of the stage.
        label: for the reader.
        trainer: of the phase.
        is_trunk: whether the next stage goes on with its optimiser.
    """

    mixture: Mixture
    optimisation: Optimisation
    end_step: int
    total_steps: int
    label: str
    trainer: TrainerKind = "plain"
    is_trunk: bool = False

    @property
    def is_carried_on(self) -> bool:
        """Whether a later piece goes on with this one's optimiser."""
        return self.is_trunk or self.end_step < self.total_steps


def train(bench: LifeBench, learner: Learner, training: Training, part: str = "training") -> tuple[Learner, Cost]:
    """Train a learner further, or read what was trained before.

    Args:
        part: under which the cost is booked.
    """
    run_id = content_hash(_identity(bench, learner, training))
    folder = bench.project.run_folder(run_id)
    batch = training.optimisation.batch_sequences
    n_rows = (training.end_step - learner.step) * batch
    life = learner.life.then(training.mixture, n_rows)
    if not (folder / _MARKER).exists():
        _train(bench, learner, training, life, folder)
    checkpoint = folder / f"checkpoint-{training.end_step}"
    if not training.is_carried_on:
        keep_weights_only(checkpoint)
    record = read_record(folder / _MARKER, "curve", "seconds")
    n_tokens = n_rows * mean_length(bench, training.mixture)
    cost = training_cost(bench, part, n_tokens, record)
    ledger_record = {
        "label": training.label,
        "start_row": learner.life.n_rows,
        "end_row": life.n_rows,
        "mixture": _named(training.mixture),
        **_told(cost),
    }
    bench.project.ledger.append("stage-segment", run_id, ledger_record)
    return Learner(run_id, checkpoint, life, training.end_step), cost


def _told(cost: Cost) -> dict[str, Any]:
    """A cost for the ledger: FLOPs and seconds of all of it, tokens of the training, and what came with it by part."""
    whole = {"flops": sum(each.flops for each in cost.all), "seconds": sum(each.seconds for each in cost.all)}
    besides = [{key: value for key, value in asdict(each).items() if key != "besides"} for each in cost.besides]
    return {"part": cost.part, "n_tokens": cost.n_tokens, **whole, **({"besides": besides} if besides else {})}


def mean_length(bench: LifeBench, mixture: Mixture) -> float:
    """Expected tokens of a row drawn from a mixture."""
    return float(mixture.weights @ bench.store.mean_lengths)


def _identity(bench: LifeBench, learner: Learner, training: Training) -> dict[str, Any]:
    """All that decides the weights: texts of no share do not count, so later phases of a recipe change nothing."""
    used = _named(training.mixture)
    texts = {domain.name: domain.fingerprint for domain in bench.rows if domain.name in used}
    sizes = {domain.name: domain.n_rows for domain in bench.rows if domain.name in used}
    optimisation = asdict(training.optimisation)
    optimisation.pop("workers")
    return {
        "bench": bench.fingerprint,
        "before": learner.run_id,
        "from_step": learner.step,
        "mixture": {name: share.hex() for name, share in used.items()},
        "texts": texts,
        "sizes": sizes,
        "optimisation": optimisation,
        "end_step": training.end_step,
        **trainer_identity(bench, training.trainer),
    }


def _named(mixture: Mixture) -> Mapping[str, float]:
    return {name: share for name, share in mixture.as_dict.items() if share > 0}


def _train(bench: LifeBench, learner: Learner, training: Training, life: Life, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    recipe, batch = bench.recipe.training, training.optimisation.batch_sequences
    assert life.schedule is not None  # `then` has put the mixture into it
    start, end = learner.step, training.end_step
    segment = Segment(
        life.schedule,
        end,
        training.optimisation,
        bench.recipe.seed,
        spread_steps(start, end, training.total_steps, recipe.evaluations) if recipe.evaluations else (),
        spread_steps(start, end, training.total_steps, recipe.checkpoints),
        learner.life.n_rows - start * batch,
    )
    resumed = newest_checkpoint(folder)
    at = int(resumed.name.removeprefix("checkpoint-")) if resumed else start
    begun_anew = learner.checkpoint is None
    model = bench.fresh_model() if learner.checkpoint is None else load_model(learner.checkpoint)
    tokens_per_step = round(batch * mean_length(bench, training.mixture))
    names = [name for name, share in training.mixture.as_dict.items() if share > 0]
    with bench.reporter.part("training", training.label, end, tokens_per_step, at) as report:
        progress = train_segment(
            model,
            bench.store,
            segment,
            folder,
            parent=None if begun_anew or start == 0 else learner.checkpoint,
            heldout=bench.heldout(names, _CURVE_SEQUENCES),
            report=report,
            make_trainer=trainer_of(bench, training.trainer),
        )
    counts = {"counts": progress.counts} if progress.counts else {}
    write_json(folder / _MARKER, {"curve": progress.curve, "seconds": progress.seconds, **counts})
