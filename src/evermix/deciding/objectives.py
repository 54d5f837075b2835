"""The objective over the metrics that a law can learn, and what is to be said of it before its mixture is used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from evermix.errors import ConstraintError
from evermix.objective import Objective
from evermix.observations import LeftOut, Observations
from evermix.recipe.decision import ObjectiveRecipe
from evermix.trust.assessment import ProposalWarning, quoted


def over_what_is_left(asked: ObjectiveRecipe, left_out: tuple[LeftOut, ...]) -> ObjectiveRecipe:
    """The objective without metrics that no law can learn.

    Raises:
        ConstraintError: if none that counts is left.
    """
    gone = {item.name: item.reason for item in left_out if item.kind == "metric"}
    left = asked.without(gone)
    counted = left.weights is None or any(left.weights.values())
    if not counted or (asked.groups and not left.groups):
        named = [name for name in asked.names if name in gone]
        raise ConstraintError(
            "at least one metric of the objective must be one that a law can learn",
            received="; ".join(f"{name}: {gone[name]}" for name in named[:5]) or asked.weights,
            hint="weigh a metric that differs between runs, or give no weights: then all that differ count",
        )
    return left


def build_objective(observations: Observations, asked: ObjectiveRecipe) -> Objective:
    """The recipe's weights over the observations' metrics."""
    metrics = observations.metrics
    if asked.groups is not None:
        objective = Objective.from_groups(metrics, asked.groups, asked.group_weights, "metric")
    else:
        objective = Objective.from_dict(metrics, asked.weights, "metric")
    given = asked.bits_per_byte_factor
    factor = None if given is None else tuple(given.get(name, 1.0) for name in metrics)
    objective = replace(objective, quantity=asked.quantity, bits_per_byte_factor=factor)
    if asked.unit == "deviations":
        spread = np.nanstd(objective.transform(observations.costs), axis=0)
        return replace(objective, weights=tuple(np.array(objective.weights) / spread))
    return objective


def mixed_units(observations: Observations, objective: Objective, asked: ObjectiveRecipe) -> list[ProposalWarning]:
    """Metrics averaged as they are although they cannot share a unit: in some lower is better, in others higher."""
    counted = [name for name, weight in zip(objective.metrics, objective.weights, strict=True) if weight > 0]
    higher = [name for name in counted if name in observations.maximised]
    lower = [name for name in counted if name not in observations.maximised]
    if asked.unit == "deviations" or not higher or not lower:
        return []
    text = (
        f"The objective averages metrics of different units: {quoted(lower)}, where lower is better, and "
        f"{quoted(higher)}, where higher is better, turned round. What varies most decides, and gains have no unit."
    )
    remedy = (
        "Weigh one kind only (--weight METRIC=WEIGHT, --drop METRIC), or count all in standard deviations "
        "(objective: {unit: deviations})."
    )
    return [ProposalWarning("mixed units", "warning", text, remedy, {"lower": lower, "higher": higher})]


def objective_warnings(asked: ObjectiveRecipe, left_out: Sequence[LeftOut]) -> tuple[ProposalWarning, ...]:
    """Metrics that the objective should count and does not; those asked for with drop aside."""
    counted = None if asked.weights is None and asked.groups is None else set(asked.names)
    if asked.weights is not None:
        counted = {name for name, weight in asked.weights.items() if weight > 0}
    gone: dict[str, list[str]] = {}
    for item in left_out:
        wanted = counted is None or item.name in counted
        if item.kind == "metric" and wanted and not asked.dropped([item.name]):
            gone.setdefault(item.reason, []).append(item.name)
    remedy = "The rest decide; look at what scores it, or drop it."
    return tuple(
        ProposalWarning(
            "metric left out",
            "warning",
            f"The objective goes without {quoted(names)}: {reason}.",
            remedy,
            {"metrics": names, "reason": reason},
        )
        for reason, names in gone.items()
    )
