"""Numbers of a swarm as people read them: as many decimals as differences need, intervals, a choice among many rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.laws.base import MixingLaw
from evermix.reports.units import NOTHING, known

Floats = npt.NDArray[np.float64]
_MOST_DECIMALS = 8
_LARGE = 1e6
_ALMOST = 3


def figure(value: float | None, digits: int = 3) -> str:
    """So many significant digits: 0.01234 -> '0.0123'."""
    return f"{value:.{digits}g}" if known(value) else NOTHING


def signed(value: float | None, digits: int = 3) -> str:
    """The same with its sign: '+0.0123'."""
    return f"{value:+.{digits}g}" if known(value) else NOTHING


def decimals_for(values: Sequence[float]) -> int:
    """Decimals that tell values apart: two beyond the first that differs by the median distance from the first."""
    finite = [value for value in values if math.isfinite(value)]
    distances = [abs(value - finite[0]) for value in finite[1:] if value != finite[0]]
    if not distances:
        return 4
    return int(min(max(1 - math.floor(math.log10(float(np.median(distances)))), 0), _MOST_DECIMALS))


def fixed(value: float | None, decimals: int) -> str:
    """So many decimals; a law's explosion in scientific notation."""
    if not known(value):
        return NOTHING
    if abs(value) >= _LARGE:
        return f"{value:.2e}"
    return f"{round(value, decimals) + 0.0:.{decimals}f}"  # no "-0.0"


def span(low: str, high: str) -> str:
    """'1.2 to 2.5'; nothing where both ends are unknown."""
    return NOTHING if low == high == NOTHING else f"{low} to {high}"


def extremes(scores: Sequence[float] | Floats, most: int) -> tuple[list[int], list[int]]:
    """Positions of the highest and the lowest scores, each highest first; all in the first list if `most` (almost) do.

    NaN counts as the lowest.
    """
    order = [int(i) for i in np.argsort(-np.nan_to_num(np.asarray(scores, dtype=np.float64), nan=-np.inf))]
    if len(order) <= most + _ALMOST:
        return order, []
    return order[: most - most // 2], order[-(most // 2) :]


def listed(names: Sequence[str], most: int = 6) -> str:
    """'a, b, c and 9 more'."""
    named = ", ".join(names[:most])
    return f"{named} and {len(names) - most:,} more" if len(names) > most else named


def families(groups: Mapping[str, Any] | None) -> dict[str, tuple[str, ...]]:
    """Group -> all its metrics, for every group at every depth: 'maths', and under it 'maths/algebra'."""
    found: dict[str, tuple[str, ...]] = {}
    for name, members in (groups or {}).items():
        if isinstance(members, Mapping):
            inner = families(members)
            direct = [metrics for path, metrics in inner.items() if "/" not in path]
            found[name] = tuple(metric for metrics in direct for metric in metrics)
            found |= {f"{name}/{path}": metrics for path, metrics in inner.items()}
        else:
            found[name] = (members,) if isinstance(members, str) else tuple(members)
    return found


def inner_law(law: MixingLaw) -> MixingLaw:
    """The law itself, without the wrapper that holds unseen domains at their share."""
    inner: MixingLaw = getattr(law, "inner_", law)
    return inner


def choices(law: MixingLaw) -> tuple[str, ...] | None:
    """The family chosen for each metric, (metrics,); None if the law is one family."""
    choice: Sequence[str] | None = getattr(inner_law(law), "choice_", None)
    return None if choice is None else tuple(str(name) for name in choice)
