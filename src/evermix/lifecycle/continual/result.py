"""The result of a life: scores, forgetting and cost of every stage, per arm and order, and their means over orders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from evermix.lifecycle.continual.arms.base import Outcome
from evermix.lifecycle.continual.bench import LifeBench
from evermix.lifecycle.continual.cost import Cost
from evermix.lifecycle.continual.scoring import TaskScores, score, score_on_tasks, tasks_seen
from evermix.recipe import Recipe
from evermix.recipe.timeline import Phase, base_name
from evermix.version import VERSION

StageRow = dict[str, Any]
_MEANS = ("objective_value", "mean_loss_nats", "mean_bits_per_byte", "mean_perplexity", "mean_forgetting_nats")
_ACCURACY = "mean_accuracy"


def stage_row(bench: LifeBench, arm: str, stage: Phase, outcome: Outcome, before: Sequence[StageRow]) -> StageRow:
    """What one arm was trained on in a stage, how it scores on all domains seen so far, and what it cost.

    Forgetting of a domain is how much its loss has risen above the least it had after any earlier stage, in nats.
    """
    scores = score(bench, outcome.model_id, outcome.model, stage.domains).per_domain
    losses = np.array([scores[name]["loss_nats"] for name in stage.domains])
    objective = bench.objective(stage.domains)
    forgetting = {}
    for name in stage.known:
        earlier = [row["per_domain"][name]["loss_nats"] for row in before if name in row["per_domain"]]
        if earlier:
            forgetting[name] = scores[name]["loss_nats"] - min(earlier)
    row: StageRow = {
        "arm": arm,
        "stage": stage.name,
        "number": stage.number,
        "kind": stage.recipe.kind,
        "new": list(stage.new),
        "n_rows": stage.n_rows,
        "mixture": {name: share for name, share in outcome.mixture.as_dict.items() if share > 0},
        "new_share": float(sum(outcome.mixture[name] for name in stage.new)),
        "per_domain": scores,
        "objective_value": float(objective.value(losses)),
        "mean_loss_nats": float(losses.mean()),
        "mean_bits_per_byte": float(np.mean([scores[name]["bits_per_byte"] for name in stage.domains])),
        "mean_perplexity": float(np.exp(losses).mean()),
        "forgetting_nats": forgetting,
        "mean_forgetting_nats": float(np.mean(list(forgetting.values()))) if forgetting else 0.0,
        "cost": summed(outcome.costs),
        "told": outcome.record,
        "model": outcome.model_id,
    }
    row["cumulative_cost"] = added([*(earlier["cost"] for earlier in before), row["cost"]])
    return row | _task_scores(bench, stage, outcome, before)


def _task_scores(bench: LifeBench, stage: Phase, outcome: Outcome, before: Sequence[StageRow]) -> dict[str, Any]:
    """Scores on the tasks of all domains that there are or were, and their cost, which is in no total."""
    domains = {base_name(name) for row in before for name in row["per_domain"]} | set(map(base_name, stage.domains))
    tasks = tasks_seen(bench, domains)
    if not tasks:
        return {}
    found = score_on_tasks(bench, outcome.model_id, outcome.model, tasks)
    return {"tasks": found.metrics, **_mean_accuracy(bench.recipe, found), "scoring_cost": summed(found.costs)}


def _mean_accuracy(recipe: Recipe, found: TaskScores) -> dict[str, float]:
    """The mean over tasks, if any; where tasks of role fit have decided, over the others, should there be such."""
    counted = list(found.accuracies.values())
    if recipe.decision.by == "accuracy":
        only_reported = {task.name for task in recipe.tasks if task.role == "held-out"}
        counted = [value for name, value in found.accuracies.items() if name in only_reported] or counted
    return {_ACCURACY: float(np.mean(counted))} if counted else {}


def summed(costs: Sequence[Cost]) -> dict[str, Any]:
    """FLOPs, tokens and seconds in all and by part."""
    parts: dict[str, dict[str, float]] = {}
    for cost in (each for one in costs for each in one.all):
        part = parts.setdefault(cost.part, {"flops": 0.0, "n_tokens": 0.0, "seconds": 0.0})
        for key in part:
            part[key] += getattr(cost, key)
    return _with_total(parts)


def added(costs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The sum of what `summed` gave."""
    parts: dict[str, dict[str, float]] = {}
    for cost in costs:
        for name, values in cost["by_part"].items():
            part = parts.setdefault(name, {"flops": 0.0, "n_tokens": 0.0, "seconds": 0.0})
            for key in part:
                part[key] += values[key]
    return _with_total(parts)


def _with_total(parts: dict[str, dict[str, float]]) -> dict[str, Any]:
    total = {key: sum(part[key] for part in parts.values()) for key in ("flops", "n_tokens", "seconds")}
    return {**total, "by_part": parts}


def assemble(
    bench: LifeBench, lives: Mapping[str, Sequence[Sequence[StageRow]]], before: TaskScores | None = None
) -> dict[str, Any]:
    """What `result.json` holds; `before` is what the checkpoint that all lives begin with scores on the tasks."""
    recipe = bench.recipe
    return {
        "evermix_version": VERSION,
        "recipe_fingerprint": recipe.fingerprint(),
        "seed": recipe.seed,
        "model": recipe.model.checkpoint or recipe.model.rung,
        "n_parameters": {
            "non_embedding": bench.size.non_embedding,
            "output_projection": bench.size.output_projection,
        },
        "objective": {"quantity": recipe.objective.quantity, "weights": recipe.objective.weights},
        "max_epochs": recipe.constraints.max_epochs,
        "orders": [[phase.name for phase in order] for order in recipe.phase_orders],
        "domains": [{"name": domain.name, "n_rows": domain.n_rows} for domain in bench.rows],
        **({} if before is None else {"before": {"tasks": before.metrics, **_mean_accuracy(recipe, before)}}),
        "lives": {arm: [list(rows) for rows in orders] for arm, orders in lives.items()},
        "arms": {arm: _over_orders(orders) for arm, orders in lives.items()},
    }


def _over_orders(orders: Sequence[Sequence[StageRow]]) -> dict[str, Any]:
    """Means over orders of what stands at the end of a life and, per place in the order, of every stage."""
    last = [rows[-1] for rows in orders]
    return {
        **{key: _mean_and_error([row[key] for row in last]) for key in _means_of(last)},
        "flops": float(np.mean([row["cumulative_cost"]["flops"] for row in last])),
        "n_tokens": float(np.mean([row["cumulative_cost"]["n_tokens"] for row in last])),
        "seconds": float(np.mean([row["cumulative_cost"]["seconds"] for row in last])),
        "flops_by_part": _mean_parts([row["cumulative_cost"]["by_part"] for row in last]),
        "by_stage": [
            {
                **{key: float(np.mean([rows[k][key] for rows in orders])) for key in _means_of([r[k] for r in orders])},
                "flops": float(np.mean([rows[k]["cumulative_cost"]["flops"] for rows in orders])),
            }
            for k in range(len(orders[0]))
        ],
    }


def _means_of(rows: Sequence[StageRow]) -> tuple[str, ...]:
    """What is averaged over orders: accuracy too, if each of them has one."""
    return (*_MEANS, *([_ACCURACY] if all(_ACCURACY in row for row in rows) else []))


def _mean_and_error(values: Sequence[float]) -> dict[str, float | None]:
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "stderr": error}


def _mean_parts(parts: Sequence[Mapping[str, Mapping[str, float]]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in parts for name in one)
    return {name: float(np.mean([one.get(name, {}).get("flops", 0.0) for one in parts])) for name in names}
