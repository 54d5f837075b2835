"""MixtureStream: which sequence of which domain comes next, as a function of seed, schedule and counter alone.

Domains are chosen by Tijdeman's rule for the chairman assignment problem (R. Tijdeman, Discrete Mathematics 32, 1980):
with shares p_j > 0 of m domains, at the n-th draw of a segment let s_j = n p_j - c_j, c_j the draws so far; among the
domains with s_j >= g, g = 1 / (2m - 2), take the one with least (1 - g - s_j) / p_j. Then |c_j - n p_j| <= 1 - g.

The k-th draw of a domain is entry k mod N of the permutation of epoch k div N, which depends on (seed, domain name,
epoch) only: the same sequence whatever the mixture is, so that runs with other mixtures share their random numbers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.errors import CorpusError
from evermix.mixture import Mixture
from evermix.schedule import MixtureSchedule, MixtureSegment

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
_LEAST_SHARE = 1e-15  # a share below this is drawn less than once in any run: treated as zero


@dataclass
class _StreamSegment:
    start: int
    weights: Floats
    counts: Indices  # draws of each domain before the segment began, known once it is reached


class MixtureStream:
    """An endless order of flat train-sequence indices in exact proportion to a schedule.

    Args:
        store_sizes: train sequences of each domain, shape (domains,).
        domain_names: their names, in the same order.
        schedule: mixtures over these domains; segment starts are sequence counts.
        seed: of the order within each domain.

    Raises:
        CorpusError: names and sizes do not fit the schedule, or an empty domain has a positive share.
    """

    def __init__(
        self, store_sizes: Sequence[int], domain_names: Sequence[str], schedule: MixtureSchedule, seed: int
    ) -> None:
        self.sizes: Indices = np.array(store_sizes, dtype=np.int64)
        self.names = tuple(domain_names)
        self.seed = int(seed)
        if len(self.sizes) != len(self.names) or self.names != schedule.domains.names:
            raise CorpusError(
                "a stream's schedule must be over the domains of its store, in order",
                received=f"{schedule.domains.names} for {self.names}",
            )
        self._size_list: list[int] = self.sizes.tolist()
        self._offsets = np.concatenate([[0], np.cumsum(self.sizes)]).astype(np.int64)
        self._segments: list[_StreamSegment] = []
        for segment in schedule.segments:
            self._add_segment(segment.start_sequence, segment.mixture.weights)
        self._orders: dict[int, tuple[int, Indices]] = {}
        self._current, self._position = 0, 0
        self._counts: Indices = np.zeros(len(self.names), dtype=np.int64)

    # ---- drawing

    @property
    def position(self) -> int:
        """Sequences drawn so far."""
        return self._position

    @property
    def counts(self) -> Indices:
        """Sequences drawn so far of each domain, shape (domains,)."""
        return self._counts.copy()

    def epochs(self) -> Floats:
        """Passes over each domain so far, shape (domains,); 0 for an empty domain."""
        return np.asarray(self._counts / np.maximum(self.sizes, 1), dtype=np.float64)

    @property
    def schedule(self) -> MixtureSchedule:
        """The mixtures of all segments, also those to come."""
        domains = DomainSet(self.names)
        return MixtureSchedule(tuple(MixtureSegment(p.start, Mixture(domains, p.weights)) for p in self._segments))

    def draw(self, n_sequences: int) -> Indices:
        """The next `n_sequences` flat indices, shape (n_sequences,)."""
        return self._locate(*self._advance(n_sequences))

    def seek(self, position: int) -> None:
        """Go to any position; the draws from there on are the same as if it had been reached by drawing."""
        if position < self._position:
            self._rewind(max(i for i, segment in enumerate(self._segments) if segment.start <= position))
        self._advance(position - self._position)

    def indices_for(self, step: int, rank: int, world: int, batch: int) -> Indices:
        """What rank `rank` of `world` reads at training step `step` with `batch` sequences over all ranks.

        Every world-th sequence of the global batch: the union over ranks is the same for any number of ranks.

        Raises:
            CorpusError: unless 0 <= rank < world and world divides batch.
        """
        if not 0 <= rank < world or batch % world:
            raise CorpusError(
                "a global batch must divide evenly over its ranks", received=f"rank {rank} of {world}, batch {batch}"
            )
        self.seek(step * batch)
        return self.draw(batch)[rank::world]

    # ---- changing the mixture

    def append_segment(self, mixture: Mixture, start_sequence: int | None = None) -> None:
        """Draw from `mixture` from `start_sequence` on (default: from the next draw); later segments are dropped.

        Raises:
            CorpusError: if the start lies before the current position, or the domains differ.
        """
        start = self._position if start_sequence is None else start_sequence
        if start < self._position:
            raise CorpusError(
                f"a new segment must not start before the stream's position {self._position}",
                received=start,
                hint="start it at a step boundary that has not been drawn yet",
            )
        if mixture.domains.names != self.names:
            raise CorpusError("a new segment must be over the stream's domains", received=mixture.domains.names)
        kept = self._segments
        self._segments = [segment for segment in kept if segment.start < start]
        try:
            self._add_segment(start, mixture.weights)
        except CorpusError:
            self._segments = kept
            raise
        self._current = min(self._current, len(self._segments) - 1)
        if start == self._position:
            self._enter(len(self._segments) - 1)

    # ---- state

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on exactly: small and JSON-able."""
        return {
            "version": 1,
            "seed": self.seed,
            "names": list(self.names),
            "sizes": self.sizes.tolist(),
            "position": self._position,
            "counts": self._counts.tolist(),
            "segment": self._current,
            "segments": [
                {"start": p.start, "weights": p.weights.tolist(), "counts": p.counts.tolist()} for p in self._segments
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over a saved state, segments included.

        Raises:
            CorpusError: the state belongs to another seed, other domains, or a store of other sizes.
        """
        own = self.state_dict()
        for field in ("version", "seed", "names", "sizes"):
            if state.get(field) != own[field]:
                raise CorpusError(
                    f"a saved stream must belong to this run, but its {field} is another",
                    received=state.get(field),
                    hint=f"this run has {own[field]}; the corpus or the recipe has changed since",
                )
        self._segments = [
            _StreamSegment(int(p["start"]), np.array(p["weights"], np.float64), np.array(p["counts"], np.int64))
            for p in state["segments"]
        ]
        self._position = int(state["position"])
        self._counts = np.array(state["counts"], dtype=np.int64)
        self._current = int(state["segment"])

    # ---- inside

    def _add_segment(self, start: int, weights: Floats) -> None:
        weights = np.array(weights, dtype=np.float64)
        for name, weight, size in zip(self.names, weights, self.sizes, strict=True):
            if weight > _LEAST_SHARE and size == 0:
                raise CorpusError(f"domain '{name}' must hold a train sequence to have a share", received=float(weight))
        self._segments.append(_StreamSegment(start, weights, np.zeros(len(self.names), dtype=np.int64)))

    def _enter(self, number: int) -> None:
        self._current = number
        self._segments[number].counts = self._counts.copy()

    def _rewind(self, number: int) -> None:
        segment = self._segments[number]
        self._current, self._position, self._counts = number, segment.start, segment.counts.copy()

    def _advance(self, n_sequences: int) -> tuple[Indices, Indices]:
        """Domains of the next draws and the number of earlier draws of each one's domain, both (n_sequences,)."""
        if n_sequences < 0:
            raise CorpusError("a number of sequences must be >= 0", received=n_sequences)
        before = self._counts.copy()
        chosen = np.empty(n_sequences, dtype=np.int64)
        done = 0
        while done < n_sequences:
            following = self._current + 1
            if following < len(self._segments) and self._segments[following].start <= self._position:
                self._enter(following)
                continue
            left = n_sequences - done
            if following < len(self._segments):
                left = min(left, self._segments[following].start - self._position)
            chosen[done : done + left] = self._apportion(left)
            self._counts += np.bincount(chosen[done : done + left], minlength=len(self.names))
            self._position += left
            done += left
        return chosen, before[chosen] + _occurrences(chosen)

    def _apportion(self, n_sequences: int) -> Indices:
        """Domains of the next draws within the current segment (the module's rule), shape (n_sequences,)."""
        segment = self._segments[self._current]
        sampled = np.flatnonzero(segment.weights > _LEAST_SHARE)
        if len(sampled) == 1:
            return np.full(n_sequences, sampled[0], dtype=np.int64)
        share = segment.weights[sampled] / segment.weights[sampled].sum()
        drawn = (self._counts - segment.counts)[sampled].astype(np.float64)
        picks = np.empty(n_sequences, dtype=np.int64)
        first = self._position - segment.start + 1
        gap, inverse = 1 / (2 * len(sampled) - 2), 1 / share
        due, late = np.empty_like(share), np.empty_like(share)
        early = np.empty(len(sampled), dtype=np.bool_)
        for i in range(n_sequences):
            np.multiply(share, first + i, out=due)
            np.subtract(due, drawn, out=due)
            np.less(due, gap, out=early)
            np.subtract(1 - gap, due, out=late)
            np.multiply(late, inverse, out=late)
            late[early] = np.inf
            j = late.argmin()
            drawn[j] += 1
            picks[i] = j
        return sampled[picks]

    def _locate(self, chosen: Indices, turns: Indices) -> Indices:
        """Flat index of the turns[i]-th draw of domain chosen[i], shape (n,)."""
        flat = np.empty(len(chosen), dtype=np.int64)
        for i, (j, turn) in enumerate(zip(chosen.tolist(), turns.tolist(), strict=True)):
            epoch, place = divmod(turn, self._size_list[j])
            flat[i] = self._order(j, epoch)[place]
        return flat + self._offsets[chosen]

    def _order(self, j: int, epoch: int) -> Indices:
        """Order of domain j's sequences in an epoch, shape (sizes[j],); the last one asked for is kept."""
        kept = self._orders.get(j)
        if kept is None or kept[0] != epoch:
            name = int.from_bytes(hashlib.sha256(self.names[j].encode()).digest()[:8], "big")
            raw = np.random.PCG64(np.random.SeedSequence([self.seed, name, epoch])).random_raw(int(self.sizes[j]))
            kept = (epoch, np.argsort(raw, kind="stable").astype(np.int64))
            self._orders[j] = kept
        return kept[1]


def _occurrences(values: Indices) -> Indices:
    """How often values[i] occurs among values[:i], shape (n,)."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    starts = np.searchsorted(ordered, ordered, side="left")
    result = np.empty(len(values), dtype=np.int64)
    result[order] = np.arange(len(values)) - starts
    return result
