"""MixtureSchedule: which mixture holds from which training step on."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class MixtureSegment:
    """A mixture and the first sequence (counted from 0 over the run) that is drawn from it."""

    start_sequence: int
    mixture: Mixture


@dataclass(frozen=True)
class MixtureSchedule:
    """A piecewise-constant mixture over the sequences of a run.

    Raises:
        MixtureError: unless segments start at 0, strictly increase, and share one domain set.
    """

    segments: tuple[MixtureSegment, ...]

    def __post_init__(self) -> None:
        starts = [segment.start_sequence for segment in self.segments]
        if not starts or starts[0] != 0 or any(b <= a for a, b in pairwise(starts)):
            raise MixtureError("segments of a schedule must start at 0 and strictly increase", received=starts)
        if len({segment.mixture.domains.names for segment in self.segments}) > 1:
            raise MixtureError("segments of a schedule must share one domain set")

    @classmethod
    def constant(cls, mixture: Mixture) -> MixtureSchedule:
        """One mixture for the whole run."""
        return cls((MixtureSegment(0, mixture),))

    @property
    def domains(self) -> DomainSet:
        """The domain set of every segment."""
        return self.segments[0].mixture.domains

    def then(self, start_sequence: int, mixture: Mixture) -> MixtureSchedule:
        """The same schedule, with `mixture` from `start_sequence` on."""
        return MixtureSchedule((*self.segments, MixtureSegment(start_sequence, mixture)))

    def mixture_at(self, sequence: int) -> Mixture:
        """The mixture that sequence number `sequence` is drawn from."""
        return next(p.mixture for p in reversed(self.segments) if p.start_sequence <= sequence)

    def sequences_spent(self, n_sequences: int) -> Floats:
        """Expected sequences drawn per domain among the first `n_sequences`, shape (domains,)."""
        ends = [p.start_sequence for p in self.segments[1:]] + [max(n_sequences, self.segments[-1].start_sequence)]
        total = np.zeros(len(self.domains))
        for segment, end in zip(self.segments, ends, strict=True):
            total += max(min(end, n_sequences) - segment.start_sequence, 0) * segment.mixture.weights
        return total

    def average(self, n_sequences: int) -> Mixture:
        """What the first `n_sequences` were drawn from, as one mixture (the virtual domain `old`)."""
        return Mixture.normalised(self.domains, self.sequences_spent(n_sequences))
