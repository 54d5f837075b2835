"""Versions of a domain set: what a study was over, from one change (also of what keeps its ratio) to the next.

Changes form a tree. An update or a recomputation begins a new version below the current one; an undo goes back to an
earlier version, and an update after it begins a branch. A version sees the runs of its ancestors and its own, never
those of another branch.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from evermix.domain_updates import CollapsedSpace, DomainUpdate
from evermix.domains import Domain, DomainSet
from evermix.errors import ProjectError
from evermix.ledger import Entry
from evermix.mixture import Mixture
from evermix.study.records import reading

Strategy = Literal["full", "swarm", "mixture", "partial", "auto"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
FIXING: frozenset[Strategy] = frozenset({"mixture", "partial", "auto"})


@dataclass(frozen=True, eq=False)
class DomainVersion:
    """One stretch of a study.

    Attributes:
        number: 0 for the first.
        parent: the version that it changed; None for the first.
        entry: number of the ledger entry that began it.
        at: when, ISO-8601 UTC.
        update: what it did to the domains; None for the first, and for a recomputation.
        strategy: how its mixture is found.
        domains: the leaves.
        space: the mixtures that it considers; None for all.
        measured: leaves that its own runs are about: affected by the update, or recomputed; empty where all are.
        recomputed: unaffected leaves that were taken out of the bundle, by its update or by itself.
        n_runs: of its own design; None for as many as the law needs.
        carried: the mixture that needs no runs (a removal renormalises); None where runs decide.
        fixed_from: key of the mixture whose proportions are kept; None where none are.
    """

    number: int
    parent: int | None
    entry: int
    at: str
    update: DomainUpdate | None
    strategy: Strategy
    domains: DomainSet
    space: CollapsedSpace | None = None
    measured: tuple[str, ...] = ()
    recomputed: tuple[str, ...] = ()
    n_runs: int | None = None
    carried: Mixture | None = None
    fixed_from: str | None = None

    @property
    def is_recomputation(self) -> bool:
        """Whether it only widened the space of its parent."""
        return self.parent is not None and self.update is None

    @property
    def carried_key(self) -> str:
        """Key of the mixture that an update without runs leaves behind, among those of proposals."""
        return f"{self.number}-carried"


@dataclass(frozen=True)
class Undo:
    """A way back: from which version to which, by which ledger entry."""

    source: int
    target: int
    entry: int


@dataclass(frozen=True, eq=False)
class Versions:
    """All versions, in the order of their numbers.

    Attributes:
        current: number of the version that the study is in.
        n_changes: updates, recomputations and undos so far.
    """

    versions: tuple[DomainVersion, ...]
    undone: tuple[Undo, ...]
    current: int
    n_changes: int

    @classmethod
    def read(cls, definition: Entry, changes: Iterable[Entry]) -> Versions:
        """From the ledger's entries "study" and "change"."""
        with reading(definition):
            first = DomainSet(Domain(*row) for row in definition.payload["domains"])
            n_runs = definition.payload["n_runs"]
        versions = [DomainVersion(0, None, definition.number, definition.at, None, "full", first, n_runs=n_runs)]
        undone: list[Undo] = []
        current = n_changes = 0
        for entry in changes:
            n_changes += 1
            with reading(entry):
                if entry.payload["what"] == "undo":
                    undone.append(Undo(current, versions[entry.payload["to"]].number, entry.number))
                    current = undone[-1].target
                else:
                    versions.append(_changed(versions[entry.payload["parent"]], len(versions), entry))
                    current = versions[-1].number
        return cls(tuple(versions), tuple(undone), current, n_changes)

    @property
    def version(self) -> DomainVersion:
        """The current one."""
        return self.versions[self.current]

    def path(self, number: int | None = None) -> tuple[DomainVersion, ...]:
        """From the first version to one of them, by default the current."""
        version = self.versions[self.current if number is None else number]
        return (version,) if version.parent is None else (*self.path(version.parent), version)

    @property
    def line(self) -> frozenset[int]:
        """Numbers of the current version and its ancestors: whose runs count."""
        return frozenset(version.number for version in self.path())

    def since(self, number: int) -> tuple[DomainVersion, ...]:
        """The versions after an ancestor, up to the current one."""
        return tuple(version for version in self.path() if version.number > number)

    @property
    def before_update(self) -> DomainVersion:
        """The version that the last update changed; its recomputations count with it.

        Raises:
            ProjectError: if there was none.
        """
        updated = next((version for version in reversed(self.path()) if version.update is not None), None)
        if updated is None or updated.parent is None:
            raise ProjectError("there must be an update to take back", received="none so far")
        return self.versions[updated.parent]

    def then(self, update: DomainUpdate) -> Versions:
        """What they would be after an update of the current version."""
        before = self.version
        version = DomainVersion(len(self.versions), before.number, 0, "", update, "full", update.apply(before.domains))
        return Versions((*self.versions, version), self.undone, version.number, self.n_changes + 1)

    def ever_had(self, name: str) -> bool:
        """Whether a domain of that name was ever in the study, on any branch."""
        return any(name in version.domains for version in self.versions)


def _changed(parent: DomainVersion, number: int, entry: Entry) -> DomainVersion:
    record = entry.payload
    update = None if record["update"] is None else DomainUpdate.from_dict(record["update"])
    domains = parent.domains if update is None else update.apply(parent.domains)
    fixed_ratio, carried = record["fixed_ratio"], record["carried"]
    return DomainVersion(
        number,
        parent.number,
        entry.number,
        entry.at,
        update,
        record["strategy"],
        domains,
        None if fixed_ratio is None else CollapsedSpace.fix(domains, fixed_ratio["shares"], fixed_ratio["name"]),
        tuple(record["measured"]),
        tuple(record["recomputed"]),
        record["n_runs"],
        None if carried is None else Mixture.from_dict(domains, carried),
        record["fixed_from"],
    )
