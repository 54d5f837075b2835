"""Numbers as people read them: every one with its unit, and as many digits as its differences need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_SHORT = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_FLOPS = ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
NOTHING = "-"
_MOST_DECIMALS = 8
_LARGE = 1e6
_ALMOST = 3


def count(value: float | None) -> str:
    """1234567 -> '1.23M'."""
    if not known(value):
        return NOTHING
    for size, suffix in _SHORT:
        if abs(value) >= size:
            return f"{value / size:.3g}{suffix}" if abs(value) < 999.5 * size else f"{value / size:.0f}{suffix}"
    return f"{value:.0f}"


def flops(value: float | None) -> str:
    """1.5e15 -> '1.5 PFLOP'."""
    if not known(value):
        return NOTHING
    for size, unit in _FLOPS:
        if abs(value) >= size:
            return f"{value / size:.3g} {unit}" if abs(value) < 999.5 * size else f"{value / size:.0f} {unit}"
    return f"{value:.0f} FLOP"


def seconds(value: float | None) -> str:
    """3725 -> '1 h 02 min'."""
    if not known(value):
        return NOTHING
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def share(value: float | None, digits: int = 1) -> str:
    """0.1234 -> '12.3%'."""
    return f"{100 * value:.{digits}f}%" if known(value) else NOTHING


def change(value: float | None, digits: int = 1) -> str:
    """A signed relative change: -0.032 -> '-3.2%'."""
    return f"{100 * value:+.{digits}f}%" if known(value) else NOTHING


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with fixed digits."""
    return f"{value:.{digits}f}" if known(value) else NOTHING


def perplexity(value: float | None) -> str:
    """Perplexity with as many digits as carry meaning: 12.34, 123.4, 1.2e+06."""
    if not known(value):
        return NOTHING
    return f"{value:.2f}" if value < 100 else f"{value:.1f}" if value < 1e5 else f"{value:.2g}"


def known(value: float | None) -> TypeGuard[float]:
    """Whether there is a finite number at all."""
    return value is not None and math.isfinite(value)


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


def decimals_apart(difference: float, noise: float | None = None) -> int:
    """Decimals that show a difference: two digits of it, no more of the noise, but at least one of the difference."""
    if not known(difference) or not difference:
        return 4
    wanted = 1 - math.floor(math.log10(abs(difference)))
    if known(noise) and noise:
        wanted = max(min(wanted, 1 - math.floor(math.log10(abs(noise)))), wanted - 1)
    return min(max(wanted, 0), _MOST_DECIMALS)


def apart(ours: float, theirs: float, noise: float | None = None) -> str:
    """'1.357 instead of 1.369': so many digits that two values that differ are not read as the same."""
    decimals = decimals_apart(ours - theirs, noise)
    return f"{fixed(ours, decimals)} instead of {fixed(theirs, decimals)}"


def spread_out(mixture: Mapping[str, float], most: int = 4) -> str:
    """'code 60.0%, web 30.0% and 3 more': the largest shares first."""
    named = sorted(mixture, key=lambda name: -mixture[name])
    rest = f" and {len(named) - most} more" if len(named) > most else ""
    return ", ".join(f"{name} {share(mixture[name])}" for name in named[:most]) + rest
