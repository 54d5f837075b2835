"""Updates of the domain set, and what the runs made before an update still say after it (Olmix, swarm reuse).

A run is a mixture over the domains of its day. After an update its shares are carried over: a partitioned domain's
share is split in proportion to the tokens of its parts, which is what the run was trained on; new domains get zero. A
run that was trained on a removed or revised domain has no counterpart, and is left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evermix.domains import Domain, DomainSet
from evermix.errors import DomainError


@dataclass(frozen=True)
class DomainUpdate:
    """What changes in a domain set; every part may be empty.

    Attributes:
        add: new domain -> tokens available, or None when unknown.
        remove: domains that are no longer there.
        revise: domain whose content changed -> its tokens now.
        partition: domain -> its parts with their tokens; the parts replace it.
    """

    add: Mapping[str, int | None]
    remove: tuple[str, ...]
    revise: Mapping[str, int | None]
    partition: Mapping[str, Mapping[str, int | None]]

    def __post_init__(self) -> None:
        if not (self.add or self.remove or self.revise or self.partition):
            raise DomainError("an update must add, remove, revise or partition a domain")
        touched = [*self.remove, *self.revise, *self.partition]
        for name in touched:
            if touched.count(name) > 1:
                raise DomainError("an update must touch a domain once", received=name, hint="make two updates")
        for name, parts in self.partition.items():
            if len(parts) < 2:
                raise DomainError(f"the partition of '{name}' must have at least two parts", received=list(parts))

    def apply(self, domains: DomainSet) -> DomainSet:
        """The domain set after the update; parts take the place of the whole, new domains come last."""
        for name in (*self.remove, *self.revise, *self.partition):
            domains.index(name)
        after: list[Domain] = []
        for domain in domains:
            if domain.name in self.partition:
                after += [Domain(part, n_tokens) for part, n_tokens in self.partition[domain.name].items()]
            elif domain.name in self.revise:
                after.append(Domain(domain.name, self.revise[domain.name]))
            elif domain.name not in self.remove:
                after.append(domain)
        return DomainSet([*after, *(Domain(name, n_tokens) for name, n_tokens in self.add.items())])

    def carry(self, shares: Mapping[str, float]) -> dict[str, float] | str:
        """A run's shares after the update, or the reason why it has none.

        Raises:
            DomainError: if a partitioned domain with mass has parts of unknown size.
        """
        for name in (*self.remove, *self.revise):
            if shares.get(name, 0.0) > 0:
                return f"trained on '{name}', which was {'removed' if name in self.remove else 'revised'} since"
        carried = {name: share for name, share in shares.items() if share > 0 and name not in self.partition}
        for name, parts in self.partition.items():
            if shares.get(name, 0.0) > 0:
                carried |= _split(name, shares[name], parts)
        return carried

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the ledger."""
        partition = {name: dict(parts) for name, parts in self.partition.items()}
        return {
            "add": dict(self.add),
            "remove": list(self.remove),
            "revise": dict(self.revise),
            "partition": partition,
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> DomainUpdate:
        """Inverse of `as_dict`."""
        return cls(record["add"], tuple(record["remove"]), record["revise"], record["partition"])


def _split(name: str, share: float, parts: Mapping[str, int | None]) -> dict[str, float]:
    unknown = [part for part, n_tokens in parts.items() if n_tokens is None]
    if unknown:
        raise DomainError(
            f"the parts of '{name}' must have token counts, so that earlier runs can be carried over",
            received=unknown[0],
            hint="give every part its tokens",
        )
    total = sum(n_tokens or 0 for n_tokens in parts.values())
    return {part: share * (n_tokens or 0) / total for part, n_tokens in parts.items()}


def carry_through(shares: Mapping[str, float], updates: Sequence[DomainUpdate]) -> dict[str, float] | str:
    """A run's shares after several updates in a row, or the reason why it is lost."""
    carried: dict[str, float] | str = dict(shares)
    for update in updates:
        if isinstance(carried, str):
            return carried
        carried = update.carry(carried)
    return carried
