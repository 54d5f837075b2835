"""The history of a study's domains and mixtures as one graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evermix.domain_updates import Add, Change, DomainUpdate, Partition, Remove
from evermix.study.eras import Era
from evermix.study.state import State

EdgeKind = Literal["update", "release", "propose", "carry", "freeze", "undo"]


@dataclass(frozen=True)
class EraNode:
    """A domain set, and what is free in it.

    Attributes:
        id: "era 2". at: when it began, ISO-8601 UTC. entry: of the ledger.
        domains: leaves. frozen: those among them that keep their proportions.
        n_runs: told runs whose mixtures are over this era's domains.
        current: whether the study is in it.
    """

    id: str
    entry: int
    at: str
    strategy: str
    domains: tuple[str, ...]
    frozen: tuple[str, ...]
    n_runs: int
    current: bool


@dataclass(frozen=True)
class MixtureNode:
    """A proposed or carried mixture.

    Attributes:
        id: "mixture 2-0000". at, entry: of the proposal, or of the update that carried it.
        shares: domain -> share.
        current: whether it is the study's mixture.
    """

    id: str
    entry: int
    at: str
    shares: dict[str, float]
    current: bool


@dataclass(frozen=True)
class Edge:
    """How one node led to another.

    Attributes:
        kind: "update", "release", "undo" from era to era; "propose", "carry" from era to mixture; "freeze" from a
            mixture to the era that keeps its proportions.
        source, target: ids of nodes. entry: of the ledger.
        what: in words.
    """

    kind: EdgeKind
    source: str
    target: str
    entry: int
    what: str


@dataclass(frozen=True)
class History:
    """All eras and mixtures, and how one led to another, each list in the order of the ledger."""

    eras: tuple[EraNode, ...]
    mixtures: tuple[MixtureNode, ...]
    edges: tuple[Edge, ...]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: [_plain(each) for each in getattr(self, name)] for name in ("eras", "mixtures", "edges")}


def history(state: State) -> History:
    """The graph of a state's ledger."""
    current = state.mixture_with_key[1]
    mixtures: list[MixtureNode] = []
    edges: list[Edge] = []
    for era in state.eras.eras:
        edges += _edges_to(era)
        if era.carried is not None:
            key = era.carried_key
            mixtures.append(_mixture(key, era.entry, era.at, era.carried.as_dict, key == current))
            edges.append(Edge("carry", _era(era.number), f"mixture {key}", era.entry, "renormalised, without runs"))
        for entry in state.proposals(era.number):
            shares = entry.payload["mixture"]
            mixtures.append(_mixture(entry.key, entry.number, entry.at, shares, entry.key == current))
            what = f"from {len(entry.payload['runs'])} runs"
            edges.append(Edge("propose", _era(era.number), f"mixture {entry.key}", entry.number, what))
    for undo in state.eras.undone:
        edges.append(Edge("undo", _era(undo.source), _era(undo.target), undo.entry, "taken back"))
    return History(
        tuple(_node(state, era) for era in state.eras.eras),
        tuple(sorted(mixtures, key=lambda node: node.entry)),
        tuple(sorted(edges, key=lambda edge: edge.entry)),
    )


def in_words(update: DomainUpdate) -> str:
    """`add papers; remove spam`."""
    return "; ".join(_change(change) for change in update.changes)


def _change(change: Change) -> str:
    if isinstance(change, Partition):
        return f"partition {change.name} into {', '.join(part.name for part in change.parts)}"
    verb = "add" if isinstance(change, Add) else "remove" if isinstance(change, Remove) else "revise"
    return f"{verb} {change.name}"


def _edges_to(era: Era) -> list[Edge]:
    if era.parent is None:
        return []
    if era.update is None:
        found = [Edge("release", _era(era.parent), _era(era.number), era.entry, f"release {', '.join(era.released)}")]
    else:
        found = [Edge("update", _era(era.parent), _era(era.number), era.entry, in_words(era.update))]
    if era.frozen_from is not None:
        kept = era.domains.names if era.space is None else era.space.frozen
        what = f"{len(kept)} domains keep their proportions"
        found.append(Edge("freeze", f"mixture {era.frozen_from}", _era(era.number), era.entry, what))
    return found


def _node(state: State, era: Era) -> EraNode:
    n_runs = sum(run.era == era.number for run in state.told_anywhere.values())
    frozen = era.space.frozen if era.space is not None else ()
    current = era.number == state.era.number
    return EraNode(_era(era.number), era.entry, era.at, era.strategy, era.domains.names, frozen, n_runs, current)


def _mixture(key: str, entry: int, at: str, shares: dict[str, float], current: bool) -> MixtureNode:
    return MixtureNode(f"mixture {key}", entry, at, dict(shares), current)


def _era(number: int) -> str:
    return f"era {number}"


def _plain(node: EraNode | MixtureNode | Edge) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(node).items()}
