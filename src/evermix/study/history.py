"""The history of a study's domains and mixtures as one graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from evermix.domain_updates import Add, Change, DomainUpdate, Partition, Remove
from evermix.study.state import State
from evermix.study.versions import DomainVersion

EdgeKind = Literal["update", "recompute", "propose", "carry", "fix", "undo"]


@dataclass(frozen=True)
class VersionNode:
    """A domain set, and what is free in it.

    Attributes:
        id: "version 2". at: when it began, ISO-8601 UTC. entry: of the ledger.
        domains: leaves. fixed_ratio: those among them that keep their proportions.
        n_runs: told runs whose mixtures are over this version's domains.
        current: whether the study is in it.
    """

    id: str
    entry: int
    at: str
    strategy: str
    domains: tuple[str, ...]
    fixed_ratio: tuple[str, ...]
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
        kind: "update", "recompute", "undo" between versions; "propose", "carry" from version to mixture; "fix" from a
            mixture to the version that keeps its proportions.
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
    """All versions and mixtures, and how one led to another, each list in the order of the ledger."""

    versions: tuple[VersionNode, ...]
    mixtures: tuple[MixtureNode, ...]
    edges: tuple[Edge, ...]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {name: [_plain(each) for each in getattr(self, name)] for name in ("versions", "mixtures", "edges")}


def history(state: State) -> History:
    """The graph of a state's ledger."""
    current = state.mixture_with_key[1]
    mixtures: list[MixtureNode] = []
    edges: list[Edge] = []
    for version in state.versions.versions:
        edges += _edges_to(version)
        if version.carried is not None:
            key = version.carried_key
            mixtures.append(_mixture(key, version.entry, version.at, version.carried.as_dict, key == current))
            edges.append(
                Edge("carry", _version(version.number), f"mixture {key}", version.entry, "renormalised, without runs")
            )
        for entry in state.proposals(version.number):
            shares = entry.payload["mixture"]
            mixtures.append(_mixture(entry.key, entry.number, entry.at, shares, entry.key == current))
            what = f"from {len(entry.payload['runs'])} runs"
            edges.append(Edge("propose", _version(version.number), f"mixture {entry.key}", entry.number, what))
    for undo in state.versions.undone:
        edges.append(Edge("undo", _version(undo.source), _version(undo.target), undo.entry, "taken back"))
    return History(
        tuple(_node(state, version) for version in state.versions.versions),
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


def _edges_to(version: DomainVersion) -> list[Edge]:
    if version.parent is None:
        return []
    if version.update is None:
        found = [
            Edge(
                "recompute",
                _version(version.parent),
                _version(version.number),
                version.entry,
                f"recompute {', '.join(version.recomputed)}",
            )
        ]
    else:
        found = [
            Edge("update", _version(version.parent), _version(version.number), version.entry, in_words(version.update))
        ]
    if version.fixed_from is not None:
        kept = version.domains.names if version.space is None else version.space.fixed_ratio
        what = f"{len(kept)} domains keep their proportions"
        found.append(Edge("fix", f"mixture {version.fixed_from}", _version(version.number), version.entry, what))
    return found


def _node(state: State, version: DomainVersion) -> VersionNode:
    n_runs = sum(run.version == version.number for run in state.measured_anywhere.values())
    fixed_ratio = version.space.fixed_ratio if version.space is not None else ()
    current = version.number == state.version.number
    return VersionNode(
        _version(version.number),
        version.entry,
        version.at,
        version.strategy,
        version.domains.names,
        fixed_ratio,
        n_runs,
        current,
    )


def _mixture(key: str, entry: int, at: str, shares: dict[str, float], current: bool) -> MixtureNode:
    return MixtureNode(f"mixture {key}", entry, at, dict(shares), current)


def _version(number: int) -> str:
    return f"version {number}"


def _plain(node: VersionNode | MixtureNode | Edge) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(node).items()}
