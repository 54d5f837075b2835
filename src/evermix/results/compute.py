"""Compute: what work cost, by part."""

from __future__ import annotations

from collections.abc import Iterable

from evermix.results.record import Record

APART = ("scoring", "cross-checks")
"""Parts of the compute that are the same for every arm, or for the report only: beside the total, not in it."""


class ComputePart(Record):
    """FLOPs (METHODS 2: 6, 4 or 2 N per token), tokens gone through by a model, seconds of wall time."""

    flops: float = 0.0
    n_tokens: float = 0.0
    seconds: float = 0.0


class Compute(Record):
    """What work cost, in all and by part (prefix, training, probes, evaluation, proxies, specialists, ...)."""

    by_part: dict[str, ComputePart] = {}

    @property
    def flops(self) -> float:
        """Of all parts."""
        return sum(part.flops for part in self.by_part.values())

    @property
    def n_tokens(self) -> float:
        """Of all parts."""
        return sum(part.n_tokens for part in self.by_part.values())

    @property
    def seconds(self) -> float:
        """Of all parts."""
        return sum(part.seconds for part in self.by_part.values())

    @property
    def counted(self) -> Compute:
        """Without what is apart (`APART`)."""
        return Compute(by_part={name: part for name, part in self.by_part.items() if name not in APART})

    @classmethod
    def sum(cls, computes: Iterable[Compute]) -> Compute:
        """All of them together, part by part."""
        parts: dict[str, ComputePart] = {}
        for name, part in ((name, part) for one in computes for name, part in one.by_part.items()):
            before = parts.get(name, ComputePart())
            parts[name] = ComputePart(
                flops=before.flops + part.flops,
                n_tokens=before.n_tokens + part.n_tokens,
                seconds=before.seconds + part.seconds,
            )
        return cls(by_part=parts)

    @classmethod
    def of(cls, part: str, flops: float, n_tokens: float, seconds: float) -> Compute:
        """One part."""
        return cls(by_part={part: ComputePart(flops=flops, n_tokens=n_tokens, seconds=seconds)})

    def __add__(self, other: Compute) -> Compute:
        return Compute.sum((self, other))
