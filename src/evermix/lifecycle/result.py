"""The result of a run: every arm's scores, cost, mixtures and decisions, as plain values."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.lifecycle.deciding import Decision
from evermix.lifecycle.segments import TrainedTo
from evermix.lifecycle.workbench import Workbench
from evermix.training.data import open_stream
from evermix.version import VERSION

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ArmResult:
    """An arm at the end of its run."""

    arm: str
    reached: TrainedTo
    decisions: tuple[Decision, ...]


def assemble(bench: Workbench, arms: dict[str, ArmResult]) -> dict[str, Any]:
    """What `result.json` holds; the realised losses of each decision are put beside the predicted ones."""
    decisions = [_with_outcome(bench, arm, decision) for arm in arms.values() for decision in arm.decisions]
    objective = bench.objective
    return {
        "evermix_version": VERSION,
        "recipe_fingerprint": bench.recipe.fingerprint(),
        "seed": bench.recipe.seed,
        "model": bench.recipe.model.checkpoint or bench.recipe.model.rung,
        "n_parameters": {
            "non_embedding": bench.size.non_embedding,
            "output_projection": bench.size.output_projection,
        },
        "objective": {
            "quantity": objective.quantity,
            "weights": dict(zip(objective.metrics, objective.weights, strict=True)),
        },
        "total_tokens": bench.total_steps * bench.tokens_per_step,
        "max_epochs": bench.constraints.max_epochs,
        "domains": domain_rows(bench),
        "arms": {name: arm_row(bench, arm) for name, arm in arms.items()},
        "comparisons": comparisons(bench, arms),
        "decisions": decisions,
    }


def comparisons(bench: Workbench, arms: dict[str, ArmResult]) -> list[dict[str, Any]]:
    """Standard errors of loss differences between arms, paired over the held-out sequences that both scored."""
    rows = []
    for arm, baseline in itertools.permutations(arms, 2):
        ours, theirs = arms[arm].reached.sequence_losses or {}, arms[baseline].reached.sequence_losses or {}
        errors = {}
        for name in bench.domains.names:
            difference = np.array(ours[name]) - np.array(theirs[name])
            spread = difference.std(ddof=1) if len(difference) > 1 else 0.0
            errors[name] = float(spread / np.sqrt(len(difference)))
        rows.append({"arm": arm, "baseline": baseline, "difference_stderr_nats": errors})
    return rows


def domain_rows(bench: Workbench) -> list[dict[str, Any]]:
    """One row per domain: tokens, bytes and documents of its training side, and its held-out tokens."""
    rows: list[dict[str, Any]] = []
    for row, heldout in zip(bench.store.counts(), bench.heldout.sequences, strict=True):
        rows.append(
            {
                "name": row["name"],
                "n_tokens": bench.domains.domains[len(rows)].n_tokens,
                "n_bytes": row["train_n_bytes"],
                "n_documents": row["train_n_documents"],
                "heldout_tokens": heldout.numel(),
            }
        )
    return rows


def arm_row(bench: Workbench, arm: ArmResult) -> dict[str, Any]:
    """What one arm was trained on, scored, and cost."""
    reached, names = arm.reached, bench.domains.names
    scores = reached.scores or {}
    losses = np.array([scores[name]["loss_nats"] for name in names])
    bits = np.array([scores[name]["bits_per_byte"] for name in names])
    stream = open_stream(bench.store, reached.schedule, bench.recipe.seed)
    stream.seek(reached.step * bench.batch_sequences)
    n_tokens = bench.total_steps * bench.tokens_per_step
    flops = {"training": bench.size.training(n_tokens)}
    seconds = {"training": reached.seconds}
    for decision in arm.decisions:
        for part, value in decision.record["flops_by_part"].items():
            flops[part] = flops.get(part, 0.0) + value
        for part, value in decision.record["seconds_by_part"].items():
            seconds[part] = seconds.get(part, 0.0) + value
    return {
        "mixture": dict(reached.schedule.segments[-1].mixture.as_dict),
        "average_mixture": dict(reached.schedule.average(reached.step * bench.batch_sequences).as_dict),
        "schedule": [
            {
                "start_token": phase.start_sequence * bench.store.sequence_length,
                "mixture": dict(phase.mixture.as_dict),
            }
            for phase in reached.schedule.segments
        ],
        "objective_value": float(bench.objective.value(losses)),
        **_means(losses, bits, np.array(bench.objective.weights)),
        "means_over_all_domains": _means(losses, bits, np.full(len(names), 1 / len(names))),
        "per_domain": scores,
        "epochs": dict(zip(names, stream.epochs().tolist(), strict=True)),
        "tokens": dict(zip(names, (stream.counts * bench.store.sequence_length).tolist(), strict=True)),
        "flops": sum(flops.values()),
        "flops_by_part": flops,
        "seconds_by_part": seconds,
        "curve": list(reached.curve),
        "run_id": reached.run_id,
    }


def _means(losses: Floats, bits_per_byte: Floats, weights: Floats) -> dict[str, float]:
    """Means over domains, shapes (domains,), under weights that sum to 1: the objective's, or all alike."""
    return {
        "mean_loss_nats": float(weights @ losses),
        "mean_bits_per_byte": float(weights @ bits_per_byte),
        "mean_perplexity": float(weights @ np.exp(losses)),
    }


def _with_outcome(bench: Workbench, arm: ArmResult, decision: Decision) -> dict[str, Any]:
    """The decision's record with what came of it; the outcome is kept in the ledger too."""
    scores = arm.reached.scores or {}
    realised = {name: scores[name]["loss_nats"] for name in bench.domains.names}
    value = float(bench.objective.value(np.array(list(realised.values()))))
    key = f"{arm.reached.run_id}@{decision.record['at_step']}"
    outcome = {
        "arm": arm.arm,
        "at_step": decision.record["at_step"],
        "predicted_loss_nats": decision.record["predicted_loss_nats"],
        "realised_loss_nats": realised,
        "realised_objective": value,
    }
    bench.project.ledger.append("outcome", key, outcome)
    return {**decision.record, "realised_loss_nats": realised, "realised_objective": value}
