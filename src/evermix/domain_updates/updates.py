"""Updates of a domain set as values, and what earlier mixtures and runs still say after them (Olmix, arXiv 2602.12237).

A run is a mixture over the domains of its day. After an update its shares are carried over: a partitioned domain's
share is split in proportion to the sizes of its parts, which is what the run was trained on; new domains get zero. A
run that was trained on a removed or revised domain has no counterpart and is left out, unless the old content is kept
as a retired domain: one that runs were trained on and that no mixture may hold any more.

Lineage goes by content: a revision with the old fingerprint changes nothing, and an added domain with the fingerprint
of a removed one is that domain under another name. Both keep their runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError
from evermix.mixture import Mixture

Kind = Literal["unchanged", "same content", "part of", "none"]


@dataclass(frozen=True)
class Add:
    """A new domain; with the fingerprint of a domain removed by the same update it is that domain, renamed."""

    name: str
    n_tokens: int | None = None
    fingerprint: str | None = None
    n_rows: int | None = None


@dataclass(frozen=True)
class Remove:
    """A domain that is no longer there."""

    name: str


@dataclass(frozen=True)
class Revise:
    """A domain whose content changed; with the fingerprint it had, only its size is corrected."""

    name: str
    n_tokens: int | None = None
    fingerprint: str | None = None
    n_rows: int | None = None


@dataclass(frozen=True)
class Partition:
    """A domain that is replaced by at least two parts."""

    name: str
    parts: tuple[Domain, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "parts", tuple(self.parts))
        if len(self.parts) < 2:
            names = [part.name for part in self.parts]
            raise DomainError(f"the partition of '{self.name}' must have at least two parts", received=names)


Change = Add | Remove | Revise | Partition
_KINDS: dict[str, type[Add] | type[Remove] | type[Revise]] = {"add": Add, "remove": Remove, "revise": Revise}


@dataclass(frozen=True)
class Lineage:
    """Where the evidence about a domain may come from.

    Attributes:
        name: the domain, after the update.
        source: the old domain whose runs speak for it; None if there is none.
        kind: "unchanged"; "same content" (renamed, or revised to the same); "part of" `source`; "none".
    """

    name: str
    source: str | None
    kind: Kind


@dataclass(frozen=True)
class DomainUpdate:
    """Changes of a domain set that are made at once.

    Raises:
        DomainError: if there are none, or two of them name the same domain.
    """

    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "changes", tuple(self.changes))
        if not self.changes:
            raise DomainError("an update must add, remove, revise or partition a domain")
        named = [change.name for change in self.changes]
        for name in named:
            if named.count(name) > 1:
                raise DomainError(
                    "an update must touch a domain once", received=name, hint="make two updates, or revise it"
                )

    def apply(self, domains: DomainSet) -> DomainSet:
        """The domain set after the update; parts take the place of the whole, new domains come last.

        Raises:
            DomainError: if a domain is unknown, a name is taken, or no domain is left.
        """
        by_name = self._old_names(domains)
        after: list[Domain] = []
        for domain in domains:
            change = by_name.get(domain.name)
            if isinstance(change, Partition):
                after += change.parts
            elif isinstance(change, Revise):
                after.append(Domain(change.name, change.n_tokens, change.fingerprint, change.n_rows))
            elif not isinstance(change, Remove):
                after.append(domain)
        added = (Domain(c.name, c.n_tokens, c.fingerprint, c.n_rows) for c in self.changes if isinstance(c, Add))
        return DomainSet([*after, *added])

    def lineage(self, domains: DomainSet) -> tuple[Lineage, ...]:
        """For every domain after the update of `domains`, in their order, where its evidence may come from."""
        by_name = self._old_names(domains)
        same = self._same_content(domains)
        part_of = {part.name: c.name for c in by_name.values() if isinstance(c, Partition) for part in c.parts}
        touched = {change.name for change in self.changes}
        result = []
        for name in self.apply(domains).names:
            if name in part_of:
                result.append(Lineage(name, part_of[name], "part of"))
            elif name in same:
                result.append(Lineage(name, same[name], "same content"))
            elif name in touched:
                result.append(Lineage(name, None, "none"))
            else:
                result.append(Lineage(name, name, "unchanged"))
        return tuple(result)

    def affected(self, domains: DomainSet) -> tuple[str, ...]:
        """Domains after the update whose best share must be found anew: new, revised, or parts of another."""
        return tuple(each.name for each in self.lineage(domains) if each.kind in ("none", "part of"))

    def unaffected(self, domains: DomainSet) -> tuple[str, ...]:
        """Domains after the update whose content is what it was, whatever their name."""
        return tuple(each.name for each in self.lineage(domains) if each.kind in ("unchanged", "same content"))

    def kept(self, mixture: Mixture) -> dict[str, float]:
        """Shares of the unaffected domains in a mixture over the domains before, under their names after; sum <= 1."""
        rows = self.lineage(mixture.domains)
        return {
            each.name: mixture[each.source]
            for each in rows
            if each.source is not None and each.kind in ("unchanged", "same content")
        }

    def carry(
        self,
        shares: Mapping[str, float],
        keep_retired: bool = False,
        *,
        domains: DomainSet | None = None,
        version: int = 0,
    ) -> dict[str, float] | str:
        """A run's shares after the update, or the reason why it has none.

        Args:
            shares: over the domains before the update; retired domains of earlier updates stay as they are.
            keep_retired: keep the share of removed or revised content under the name `retired_name(name, version)`.
            domains: the domain set before the update, whose fingerprints tell renames and empty revisions; without
                it every removed or revised domain counts as gone.
            version: number of the version that the update begins, for the names of retired domains.

        Raises:
            DomainError: if a partitioned domain with mass has parts of unknown size.
        """
        heirs = {} if domains is None else {old: new for new, old in self._same_content(domains).items()}
        by_name = {change.name: change for change in self.changes if not isinstance(change, Add)}
        carried: dict[str, float] = {}
        for name, share in shares.items():
            change = by_name.get(name)
            if share <= 0:
                continue
            if change is None:
                carried[name] = share
            elif name in heirs:
                carried[heirs[name]] = share
            elif isinstance(change, Partition):
                carried |= _split(change, share)
            elif keep_retired:
                carried[retired_name(name, version)] = share
            else:
                gone = "removed" if isinstance(change, Remove) else "revised"
                return f"trained on '{name}', which was {gone} since"
        return carried

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the ledger."""
        return {"changes": [_change_record(change) for change in self.changes]}

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DomainUpdate:
        """Inverse of `as_dict`; DomainError if `record` holds something else."""
        return cls(tuple(_change_from(each) for each in record["changes"]))

    def _old_names(self, domains: DomainSet) -> dict[str, Change]:
        """The changes of domains that must be there, by name."""
        by_name: dict[str, Change] = {c.name: c for c in self.changes if not isinstance(c, Add)}
        for name in by_name:
            domains.index(name)
        return by_name

    def _same_content(self, domains: DomainSet) -> dict[str, str]:
        """Name after -> name before, of domains whose content was there already; each old one has one heir."""
        known = {d.name: d.fingerprint for d in domains if d.fingerprint is not None}
        same: dict[str, str] = {}
        for change in self.changes:
            if isinstance(change, Revise) and change.fingerprint and known.get(change.name) == change.fingerprint:
                same[change.name] = change.name
        removed = [c.name for c in self.changes if isinstance(c, Remove) and c.name in known]
        for change in self.changes:
            if isinstance(change, Add) and change.fingerprint:
                source = next((name for name in removed if known[name] == change.fingerprint), None)
                if source is not None:
                    same[change.name] = source
                    removed.remove(source)
        return same


def retired_name(name: str, version: int) -> str:
    """Name of content that was there until version number `version` began."""
    return f"{name} (until {version})"


def carry_through(
    shares: Mapping[str, float],
    updates: Sequence[DomainUpdate],
    domains: DomainSet | None = None,
    *,
    keep_retired: bool = False,
    version: int = 0,
) -> dict[str, float] | str:
    """A run's shares after several updates in a row, or the reason why it is lost.

    Args:
        shares: over the domains of the run's day.
        updates: those since, oldest first.
        domains: the domain set of the run's day; None: no lineage by content.
        keep_retired: see `DomainUpdate.carry`.
        version: number of the version in which the run was made; the first update begins version + 1.
    """
    carried: dict[str, float] | str = dict(shares)
    for number, update in enumerate(updates, start=version + 1):
        if isinstance(carried, str):
            return carried
        carried = update.carry(carried, keep_retired, domains=domains, version=number)
        domains = None if domains is None else update.apply(domains)
    return carried


def _split(change: Partition, share: float) -> dict[str, float]:
    unit = DomainSet(change.parts).unit
    unknown = [part.name for part in change.parts if part.size is None]
    if unknown:
        raise DomainError(
            f"the parts of '{change.name}' must have {unit[:-1]} counts, so that earlier runs can be carried over",
            received=unknown[0],
            hint=f"give every part its {unit}",
        )
    total = sum(part.size or 0 for part in change.parts)
    if total == 0:
        raise DomainError(f"the parts of '{change.name}' must have {unit}", received=0)
    return {part.name: share * (part.size or 0) / total for part in change.parts}


def _domain_record(domain: Domain | Add | Revise) -> dict[str, Any]:
    record = {"name": domain.name, "n_tokens": domain.n_tokens, "fingerprint": domain.fingerprint}
    return record if domain.n_rows is None else record | {"n_rows": domain.n_rows}


def _change_record(change: Change) -> dict[str, Any]:
    if isinstance(change, Partition):
        return {"kind": "partition", "name": change.name, "parts": [_domain_record(part) for part in change.parts]}
    kind = type(change).__name__.lower()
    return (
        {"kind": kind, "name": change.name} if isinstance(change, Remove) else {"kind": kind} | _domain_record(change)
    )


def _change_from(record: Mapping[str, Any]) -> Change:
    fields = {key: value for key, value in record.items() if key != "kind"}
    try:
        if record["kind"] == "partition":
            return Partition(record["name"], tuple(Domain(**part) for part in record["parts"]))
        return _KINDS[record["kind"]](**fields)
    except (KeyError, TypeError) as error:
        raise DomainError(
            "a change must have a kind (add, remove, revise, partition), a name, and what its kind needs",
            received=dict(record),
        ) from error
