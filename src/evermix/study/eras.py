"""Eras: what a study was over, from one change of its domains (or of what is frozen among them) to the next.

Changes form a tree. An update or a release begins a new era below the current one; an undo goes back to an earlier
era, and an update after it begins a branch. An era sees the runs of its ancestors and its own, never those of another
branch.
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

Strategy = Literal["full", "swarm", "mixture", "partial", "auto"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
FREEZING: frozenset[Strategy] = frozenset({"mixture", "partial", "auto"})


@dataclass(frozen=True, eq=False)
class Era:
    """One stretch of a study.

    Attributes:
        number: 0 for the first.
        parent: the era that it changed; None for the first.
        entry: number of the ledger entry that began it.
        at: when, ISO-8601 UTC.
        update: what it did to the domains; None for the first, and for a release.
        strategy: how its mixture is found.
        domains: the leaves.
        space: the mixtures that it considers; None for all.
        measured: leaves that its own runs are about: affected by the update, or released; empty where all are.
        released: unaffected leaves that were taken out of the bundle, by its update or by itself.
        n_runs: of its own design; None for as many as the law needs.
        carried: the mixture that needs no runs (a removal renormalises); None where runs decide.
        frozen_from: key of the mixture whose proportions are kept; None where none are.
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
    released: tuple[str, ...] = ()
    n_runs: int | None = None
    carried: Mixture | None = None
    frozen_from: str | None = None

    @property
    def is_release(self) -> bool:
        """Whether it only widened the space of its parent."""
        return self.parent is not None and self.update is None

    @property
    def carried_key(self) -> str:
        """Key of the mixture that an update without runs leaves behind, among those of proposals."""
        return f"{self.number}-carried"


@dataclass(frozen=True)
class Undo:
    """A way back: from which era to which, by which ledger entry."""

    source: int
    target: int
    entry: int


@dataclass(frozen=True, eq=False)
class Eras:
    """All eras, in the order of their numbers.

    Attributes:
        current: number of the era that the study is in.
        n_changes: updates, releases and undos so far.
    """

    eras: tuple[Era, ...]
    undone: tuple[Undo, ...]
    current: int
    n_changes: int

    @classmethod
    def read(cls, definition: Entry, changes: Iterable[Entry]) -> Eras:
        """From the ledger's entries "study" and "change"."""
        first = DomainSet(Domain(*row) for row in definition.payload["domains"])
        n_runs = definition.payload["n_runs"]
        eras = [Era(0, None, definition.number, definition.at, None, "full", first, n_runs=n_runs)]
        undone: list[Undo] = []
        current = n_changes = 0
        for entry in changes:
            n_changes += 1
            if entry.payload["what"] == "undo":
                undone.append(Undo(current, entry.payload["to"], entry.number))
                current = entry.payload["to"]
            else:
                eras.append(_changed(eras[entry.payload["parent"]], len(eras), entry))
                current = eras[-1].number
        return cls(tuple(eras), tuple(undone), current, n_changes)

    @property
    def era(self) -> Era:
        """The current one."""
        return self.eras[self.current]

    def path(self, number: int | None = None) -> tuple[Era, ...]:
        """From the first era to one of them, by default the current."""
        era = self.eras[self.current if number is None else number]
        return (era,) if era.parent is None else (*self.path(era.parent), era)

    @property
    def line(self) -> frozenset[int]:
        """Numbers of the current era and its ancestors: whose runs count."""
        return frozenset(era.number for era in self.path())

    def since(self, number: int) -> tuple[Era, ...]:
        """The eras after an ancestor, up to the current one."""
        return tuple(era for era in self.path() if era.number > number)

    @property
    def before_update(self) -> Era:
        """The era that the last update changed; its releases count with it.

        Raises:
            ProjectError: if there was none.
        """
        updated = next((era for era in reversed(self.path()) if era.update is not None), None)
        if updated is None or updated.parent is None:
            raise ProjectError("there must be an update to take back", received="none so far")
        return self.eras[updated.parent]

    def then(self, update: DomainUpdate) -> Eras:
        """What they would be after an update of the current era."""
        before = self.era
        era = Era(len(self.eras), before.number, 0, "", update, "full", update.apply(before.domains))
        return Eras((*self.eras, era), self.undone, era.number, self.n_changes + 1)

    def ever_had(self, name: str) -> bool:
        """Whether a domain of that name was ever in the study, on any branch."""
        return any(name in era.domains for era in self.eras)


def _changed(parent: Era, number: int, entry: Entry) -> Era:
    record = entry.payload
    update = None if record["update"] is None else DomainUpdate.from_dict(record["update"])
    domains = parent.domains if update is None else update.apply(parent.domains)
    frozen, carried = record["frozen"], record["carried"]
    return Era(
        number,
        parent.number,
        entry.number,
        entry.at,
        update,
        record["strategy"],
        domains,
        None if frozen is None else CollapsedSpace.freeze(domains, frozen["shares"], frozen["name"]),
        tuple(record["measured"]),
        tuple(record["released"]),
        record["n_runs"],
        None if carried is None else Mixture.from_dict(domains, carried),
        record["frozen_from"],
    )
