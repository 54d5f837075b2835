"""Numbers as people read them: every one with its unit."""

from __future__ import annotations

import math
from typing import TypeGuard

_SHORT = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))
_FLOPS = ((1e21, "ZFLOP"), (1e18, "EFLOP"), (1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
NOTHING = "-"


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
