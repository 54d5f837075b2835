"""Cost: what a piece of work took, counted alike everywhere (METHODS 2, last paragraph)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """What a piece of work cost.

    Attributes:
        part: prefix, training, probes, evaluation, proxies, specialists, generation, ...
        flops, n_tokens: read by the model, in whatever way.
        seconds: of wall time.
        besides: costs that came with it, booked under parts of their own and not in these numbers.
    """

    part: str
    flops: float
    n_tokens: float
    seconds: float
    besides: tuple[Cost, ...] = ()

    @property
    def all(self) -> tuple[Cost, ...]:
        """This cost and those that came with it."""
        return (self, *self.besides)
