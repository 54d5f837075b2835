"""What a reader has to say beside the numbers: what it left out, and what it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["run", "metric", "column", "row", "rule"]


@dataclass(frozen=True)
class LeftOut:
    """Something of the source that is not in the observations, and why.

    Attributes:
        kind: "run", "metric", "column", "row", or "rule" of a recipe.
        name: the run id, the metric's or column's name, or file and line of the row.
        reason: why it was left out.
    """

    kind: Kind
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r} is left out: {self.reason}"


@dataclass(frozen=True)
class Finding:
    """Something that is in the observations and deserves to be known.

    Attributes:
        rule: which check found it, as in the documentation's table: "missing cells", "too few runs", ...
        detail: names and numbers.
    """

    rule: str
    detail: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.detail}"
