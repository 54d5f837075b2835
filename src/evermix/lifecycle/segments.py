"""Segments of a run as content-addressed jobs: one that was finished once is never trained again.

Two arms that begin alike share the segments in which they are alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel

from evermix.files import read_record, write_json
from evermix.ledger import content_hash
from evermix.lifecycle.workbench import Workbench
from evermix.models.loading import load_model
from evermix.schedule import MixtureSchedule
from evermix.training.evaluation import HeldoutText, evaluate
from evermix.training.segment import Segment, newest_checkpoint, spread_steps, train_segment

_MARKER = "done.json"
_CURVE_SEQUENCES = 32


@dataclass(frozen=True)
class TrainedTo:
    """A run up to the end of a segment.

    Attributes:
        run_id: hash of all that led here.
        step: optimiser steps done.
        schedule: mixtures so far.
        checkpoint: its folder.
        curve: points of the loss curve since the start of the run.
        seconds: of training since the start of the run.
    """

    run_id: str
    step: int
    schedule: MixtureSchedule
    checkpoint: Path
    curve: tuple[dict[str, Any], ...]
    seconds: float
    scores: dict[str, dict[str, float]] | None
    sequence_losses: dict[str, list[float]] | None


def train_to(
    bench: Workbench, arm: str, before: TrainedTo | None, schedule: MixtureSchedule, end_step: int
) -> TrainedTo:
    """Train from `before` (the initial weights when None) to `end_step` on `schedule`, or read it if it is done."""
    run_id = _run_id(bench, before, schedule, end_step)
    folder = bench.project.run_folder(run_id)
    if not (folder / _MARKER).exists():
        _train(bench, arm, before, schedule, end_step, folder)
    record = read_record(folder / _MARKER, "curve", "seconds", "scores", "sequence_losses")
    earlier = before.curve if before else ()
    reached = TrainedTo(
        run_id,
        end_step,
        schedule,
        folder / f"checkpoint-{end_step}",
        (*earlier, *record["curve"]),
        record["seconds"] + (before.seconds if before else 0.0),
        record["scores"],
        record["sequence_losses"],
    )
    bench.project.ledger.append("segment", run_id, _ledger_record(bench, arm, before, reached, record["seconds"]))
    return reached


def _run_id(bench: Workbench, before: TrainedTo | None, schedule: MixtureSchedule, end_step: int) -> str:
    start = before.step if before else 0
    mixture = schedule.mixture_at(start * bench.batch_sequences)
    return content_hash(
        {
            "bench": bench.fingerprint,
            "before": before.run_id if before else None,
            "phase_starts": [phase.start_sequence for phase in schedule.segments],
            "mixture": [weight.hex() for weight in mixture.weights.tolist()],
            "end_step": end_step,
        }
    )


def _train(
    bench: Workbench, arm: str, before: TrainedTo | None, schedule: MixtureSchedule, end_step: int, folder: Path
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    start, total = (before.step if before else 0), bench.total_steps
    training = bench.recipe.training
    segment = Segment(
        schedule,
        end_step,
        bench.optimisation,
        bench.recipe.seed,
        spread_steps(start, end_step, total, training.evaluations) if training.evaluations else (),
        spread_steps(start, end_step, total, training.checkpoints),
    )
    write_json(
        folder / "config.json",
        {
            "arm": arm,
            "start_step": start,
            "end_step": end_step,
            "mixture": schedule.segments[-1].mixture.as_dict,
            "recipe": bench.recipe.model_dump(mode="json"),
        },
    )
    resumed = newest_checkpoint(folder)
    at = int(resumed.name.removeprefix("checkpoint-")) if resumed else start
    model = bench.fresh_model() if before is None else load_model(before.checkpoint)
    detail = f"training {arm}" + (f", step {start} to {end_step}" if end_step != total or start else "")
    with bench.reporter.part("training", detail, end_step, bench.tokens_per_step, at) as report:
        progress = train_segment(
            model,
            bench.store,
            segment,
            folder,
            parent=before.checkpoint if before else None,
            heldout=HeldoutText.from_store(bench.store, _CURVE_SEQUENCES),
            report=report,
        )
    record: dict[str, Any] = {"curve": progress.curve, "seconds": progress.seconds}
    write_json(folder / _MARKER, record | _final_scores(bench, model if end_step == total else None))


def _final_scores(bench: Workbench, model: PreTrainedModel | None) -> dict[str, Any]:
    if model is None:
        return {"scores": None, "sequence_losses": None}
    evaluation = evaluate(model, bench.heldout)
    losses = [values.tolist() for values in evaluation.sequence_losses]
    return {
        "scores": evaluation.per_domain(),
        "sequence_losses": dict(zip(bench.domains.names, losses, strict=True)),
    }


def _ledger_record(
    bench: Workbench, arm: str, before: TrainedTo | None, reached: TrainedTo, seconds: float
) -> dict[str, Any]:
    start = before.step if before else 0
    n_tokens = (reached.step - start) * bench.tokens_per_step
    return {
        "arm": arm,
        "start_step": start,
        "end_step": reached.step,
        "mixture": reached.schedule.mixture_at(start * bench.batch_sequences).as_dict,
        "n_tokens": n_tokens,
        "flops": bench.size.training(n_tokens),
        "seconds": seconds,
    }
