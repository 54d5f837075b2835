"""Record: the base of every part of a result, and the types that its parts share."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict

Shares = dict[str, float]


def _finite_or_none(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


Known = Annotated[float | None, BeforeValidator(_finite_or_none)]
"""A number, or None where it is unknown or not finite."""


class Record(BaseModel):
    """Base of every part of a result: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class Ends(Record):
    """An interval at a nominal level; None: nothing is known of that end."""

    low: Known
    high: Known
    level: float = 0.9
