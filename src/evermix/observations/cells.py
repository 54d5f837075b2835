"""Cells: what one cell of a table says, a number, nothing, or something that is no number."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_MISSING = frozenset(("", "nan", "null", "none", "na", "n/a", "<na>"))
_INFINITE = frozenset(("inf", "infinity", "+inf", "+infinity", "-inf", "-infinity"))


@dataclass(frozen=True)
class Fault:
    """Why a cell is no number, with the way out."""

    reason: str
    hint: str | None = None


Parsed = float | Fault


def parse(cell: object) -> Parsed:
    """A number (infinite if it is beyond the range of floats), NaN for a missing cell, or a Fault.

    Text must be a plain decimal number: no thousands separators, units or percent signs. Empty, NaN, null, none and NA
    are missing.
    """
    if cell is None:
        return math.nan
    if isinstance(cell, bool):
        return Fault("a boolean")
    if isinstance(cell, str):
        return _parse_text(cell.strip())
    if isinstance(cell, int | float | Decimal):
        try:
            return float(cell)
        except OverflowError:
            return math.inf
    return Fault("not a number")


def _parse_text(text: str) -> Parsed:
    if NUMBER.fullmatch(text):
        return float(text)
    folded = text.lower()
    if folded in _MISSING:
        return math.nan
    if folded in _INFINITE:
        return -math.inf if folded[0] == "-" else math.inf
    if folded in ("true", "false"):
        return Fault("a boolean")
    if text.endswith("%") and NUMBER.fullmatch(text[:-1].strip()):
        return Fault("one with a percent sign", "remove the % signs, and read with --percent (percent=True)")
    if re.fullmatch(r"[+-]?[\d.]*,\d+", text, re.ASCII):
        return Fault("one with a comma", "write decimals with a point, without thousands separators")
    return Fault("text")


def label(cell: object) -> str:
    """An id or seed as text: stripped; whole floats without their point, since tables differ in that; "" if missing."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()
