"""Objective: which measured quantities a mixture is chosen for, and how much each counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError, known_names

Floats = npt.NDArray[np.float64]
LossQuantity = Literal["loss_nats", "bits_per_byte", "perplexity"]  # of a loss in nats per token
Quantity = Literal["metric"] | LossQuantity
Groups = Mapping[str, "Groups | Sequence[str]"]


@dataclass(frozen=True)
class Objective:
    """sum_i v_i T_i(y_i): a weighted mean of a quantity derived from each metric, lower is better.

    T_i is the identity (`metric`: whatever the runs measured, turned so that lower is better; `loss_nats`: the same,
    known to be nats per token), or of a loss in nats per token exp (`perplexity`), or multiplication by the metric's
    own tokens / (bytes ln 2) (`bits_per_byte`). All are increasing and convex, so a convex law stays convex.
    The mean loss and the mean perplexity rank mixtures differently: optimise the quantity that is reported.

    Attributes:
        metrics: names, in the order of the laws' outputs (held-out domains).
        weights: shape (metrics,), >= 0, normalised to sum 1; zero leaves a metric out.
        quantity: what is averaged.
        bits_per_byte_factor: shape (metrics,), tokens / (bytes ln 2); needed for `bits_per_byte` only.
    """

    metrics: tuple[str, ...]
    weights: tuple[float, ...]
    quantity: Quantity = "loss_nats"
    bits_per_byte_factor: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.weights) != len(self.metrics):
            raise ConstraintError(
                f"an objective over {len(self.metrics)} metrics must have as many weights", received=len(self.weights)
            )
        for name, weight in zip(self.metrics, self.weights, strict=True):
            if not np.isfinite(weight) or weight < 0:
                raise ConstraintError(f"objective weight of '{name}' must be a number >= 0", received=weight)
        if sum(self.weights) <= 0:
            raise ConstraintError("at least one objective weight must be positive", received=list(self.weights))
        if self.quantity == "bits_per_byte" and self.bits_per_byte_factor is None:
            raise ConstraintError("a bits_per_byte objective must know each metric's tokens per byte")
        factors = self.bits_per_byte_factor
        if factors is not None and len(factors) != len(self.metrics):
            raise ConstraintError(
                f"an objective over {len(self.metrics)} metrics must have as many bits-per-byte factors",
                received=len(factors),
            )
        for name, weight, factor in zip(self.metrics, self.weights, factors or (), strict=factors is not None):
            if weight > 0 and not (np.isfinite(factor) and factor > 0):
                raise ConstraintError(f"bits-per-byte factor of '{name}' must be a positive number", received=factor)
        total = float(sum(self.weights))
        object.__setattr__(self, "weights", tuple(float(w) / total for w in self.weights))

    @classmethod
    def from_dict(
        cls,
        metrics: Sequence[str],
        weights: Mapping[str, float] | None = None,
        quantity: Quantity = "loss_nats",
        bits_per_byte_factor: Sequence[float] | None = None,
    ) -> Objective:
        """Objective from metric -> weight (None: all alike; metrics left out of a mapping count zero)."""
        if weights is None:
            weights = dict.fromkeys(metrics, 1.0)
        unknown = [name for name in weights if name not in metrics]
        if unknown:
            raise ConstraintError(
                "an objective weight must name a metric", received=unknown[0], hint=known_names(unknown[0], metrics)
            )
        factor = None if bits_per_byte_factor is None else tuple(float(f) for f in bits_per_byte_factor)
        return cls(tuple(metrics), tuple(float(weights.get(n, 0.0)) for n in metrics), quantity, factor)

    @classmethod
    def from_groups(
        cls,
        metrics: Sequence[str],
        groups: Groups,
        group_weights: Mapping[str, float] | None = None,
        quantity: Quantity = "metric",
    ) -> Objective:
        """Mean over the metrics of a task, mean over the tasks of a family, weighted mean over families.

        Args:
            metrics: names, in the order of the law's outputs.
            groups: name -> metrics, or name -> groups, to any depth; every metric is in exactly one group.
            group_weights: weight of a group among its siblings, by its name or its path "family/task"; 1 where left
                out. Weight 0 leaves its metrics out of the objective.

        Raises:
            ConstraintError: naming the metric or group: unknown, in two groups, in none, an empty group, or a weight
                that is negative or names no group.
        """
        given = dict(group_weights or {})
        weights: dict[str, float] = {}
        named: set[str] = set()
        _share_out(groups, 1.0, "", given, weights, named)
        unused = [name for name in given if name not in named]
        if unused:
            raise ConstraintError(
                "a group weight must name a group", received=unused[0], hint=known_names(unused[0], sorted(named))
            )
        alone = [name for name in metrics if name not in weights]
        if alone:
            raise ConstraintError(
                f"metric '{alone[0]}' must be in a group ({len(alone)} of {len(metrics)} are in none)",
                hint="put metrics that are not to count into a group of weight 0",
            )
        return cls.from_dict(metrics, weights, quantity)

    def transform(self, losses: Floats) -> Floats:
        """T of the metrics, shape (..., metrics) -> (..., metrics), in the objective's quantity."""
        if self.quantity == "perplexity":
            with np.errstate(over="ignore"):  # a law's explosion is an infinite perplexity, not a fault
                return np.exp(losses)
        return losses * self.scale

    def transform_slope(self, losses: Floats) -> Floats:
        """dT/dloss, shape (..., metrics)."""
        if self.quantity == "perplexity":
            return np.exp(losses)
        return np.broadcast_to(self.scale, losses.shape).copy()

    @property
    def scale(self) -> Floats:
        """Factor from the metric to the quantity, shape (metrics,); ones but for bits per byte."""
        if self.quantity == "bits_per_byte":
            return np.array(self.bits_per_byte_factor, dtype=np.float64)
        return np.ones(len(self.metrics))

    def value(self, losses: Floats) -> Floats:
        """Weighted mean of the quantity, shape (..., metrics) -> (...); a metric of weight zero may be NaN."""
        counted = np.array(self.weights) > 0
        transformed = self.transform(np.asarray(losses, dtype=np.float64))
        total: Floats = transformed[..., counted] @ np.array(self.weights)[counted]
        return total

    def gradient(self, losses: Floats, loss_gradients: Floats) -> Floats:
        """Chain rule: losses (metrics,), d loss / d x (metrics, n) -> d value / d x, shape (n,); NaN as in `value`."""
        weights = np.array(self.weights)
        counted = weights > 0
        slopes = self.transform_slope(np.asarray(losses, dtype=np.float64))
        result: Floats = (weights * slopes)[counted] @ loss_gradients[counted]
        return result

    def curvature(self, losses: Floats) -> Floats:
        """d2T/dloss2, shape (..., metrics): exp for perplexity, 0 else."""
        if self.quantity == "perplexity":
            with np.errstate(over="ignore"):
                return np.exp(losses)
        return np.zeros_like(losses)


def _share_out(
    groups: Groups,
    share: float,
    path: str,
    given: Mapping[str, float],
    weights: dict[str, float],
    named: set[str],
) -> None:
    """Spread `share` over the groups by their weights, and within each evenly; fills `weights` and `named`."""
    if not groups:
        raise ConstraintError(f"group '{path or 'the objective'}' must have members", received=0)
    own = {name: _group_weight(name, f"{path}{name}", given) for name in groups}
    total = sum(own.values())
    for name, members in groups.items():
        named |= {name, f"{path}{name}"}
        part = share * own[name] / total if total > 0 else 0.0
        if isinstance(members, Mapping):
            _share_out(members, part, f"{path}{name}/", given, weights, named)
            continue
        metrics = [members] if isinstance(members, str) else list(members)
        if not metrics:
            raise ConstraintError(f"group '{path}{name}' must have members", received=0)
        for metric in metrics:
            if metric in weights:
                raise ConstraintError(f"metric '{metric}' must be in one group only", received=f"again in {path}{name}")
            weights[metric] = part / len(metrics)


def _group_weight(name: str, path: str, given: Mapping[str, float]) -> float:
    weight = given.get(path, given.get(name, 1.0))
    if not np.isfinite(weight) or weight < 0:
        raise ConstraintError(f"weight of group '{path}' must be a number >= 0", received=weight)
    return float(weight)
