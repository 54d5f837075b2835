"""Shares by the objective's weights alone, before anything is measured, and the start that follows from them.

With a loss l_d - b log(p_d / s_d) in every domain's share, all l and b alike, the mean of weights v is least where
v_d p_d^-(1 + b) is the same for all (counted in perplexity; in nats and bits per byte b counts as 0):

    p_d ~ v_d^(1 / (1 + b)),   at least a tenth of an even share

b = .3, the mean slope of our benchmarks' runs (docs/log/in-run.md). Domains that do not count keep a little: what is
read there may serve others. All that count alike get alike, and if all do that is uniform.

A run starts there if they promise enough: b sum_d v_d log(p_d / even), in nats of the mean loss, of at least .1. Else
it starts uniform: trainings that differ from the first step on end some 6% apart by luck, and weights that promised .06
gained between -4 and 9% (docs/log/in-run.md).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

SLOPE = 0.3
LEAST = 0.1  # of an even share
PROMISE = 0.1  # nats


def by_weights(names: Sequence[str], weights: Mapping[str, float] | None, quantity: str) -> dict[str, float]:
    """Shares of domains, summing to 1.

    Args:
        names: of domains, one or more.
        weights: domain -> weight in the objective, those that are not named 0; None, or none positive: all alike.
        quantity: that the objective is counted in.
    """
    even = 1 / len(names)
    asked = [1.0 if weights is None else weights.get(name, 0.0) for name in names]
    if sum(asked) <= 0:
        return dict.fromkeys(names, even)
    exponent = 1 / (1 + SLOPE) if quantity == "perplexity" else 1.0
    wanted = [weight**exponent for weight in asked]
    kept = [max(share / sum(wanted), LEAST * even) for share in wanted]
    return {name: share / sum(kept) for name, share in zip(names, kept, strict=True)}


def default_start(names: Sequence[str], weights: Mapping[str, float] | None, quantity: str) -> dict[str, float]:
    """Shares by weights where these promise enough, else uniform; arguments as of `by_weights`."""
    found, even = by_weights(names, weights, quantity), 1 / len(names)
    asked = {name: 1.0 if weights is None else weights.get(name, 0.0) for name in names}
    total = sum(asked.values()) or 1.0
    promise = SLOPE * sum(asked[name] / total * math.log(share / even) for name, share in found.items())
    return found if promise >= PROMISE else dict.fromkeys(names, even)
