"""Domains: the named bodies of text among which a mixture shares out what a model is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from evermix.errors import DomainError, known_names
from evermix.wording import composed, is_unicode

Unit = Literal["tokens", "rows"]


@dataclass(frozen=True)
class Domain:
    """One body of text. Its size is counted in tokens or in rows, sequences of a token store; never in both.

    Attributes:
        name: unique in its set, kept in composed form (NFC); nested names are joined by colons, `source:topic:quality`.
        n_tokens: tokens available for training, or None when unknown or counted in rows.
        fingerprint: hash of the content, or None when unknown; a revised domain has another one.
        n_rows: rows available for training, or None when unknown or counted in tokens.
    """

    name: str
    n_tokens: int | None = None
    fingerprint: str | None = None
    n_rows: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", composed(self.name))
        if not self.name or self.name != self.name.strip() or any(not part for part in self.name.split(":")):
            raise DomainError(
                "a domain name must be non-empty, without outer blanks or empty parts between colons",
                received=self.name,
                hint="use names such as 'web' or 'web:science'",
            )
        if not is_unicode(self.name):
            raise DomainError("a domain name must be Unicode, and half a surrogate pair is none", received=self.name)
        for key, count in (("n_tokens", self.n_tokens), ("n_rows", self.n_rows)):
            if count is not None and count < 0:
                raise DomainError(f"domain '{self.name}' must have {key} >= 0", received=count)
        if self.n_tokens is not None and self.n_rows is not None:
            raise DomainError(
                f"the size of domain '{self.name}' must be counted in tokens or in rows, not in both",
                received=f"{self.n_tokens} tokens and {self.n_rows} rows",
            )

    @property
    def unit(self) -> Unit | None:
        """What its size is counted in; None when the size is unknown."""
        return "rows" if self.n_rows is not None else None if self.n_tokens is None else "tokens"

    @property
    def size(self) -> int | None:
        """Tokens or rows available, in its unit; None when unknown."""
        return self.n_tokens if self.n_rows is None else self.n_rows

    def resized(self, size: int | None, unit: Unit) -> Domain:
        """The same text with another size, counted in `unit`."""
        n_tokens, n_rows = (size, None) if unit == "tokens" else (None, size)
        return Domain(self.name, n_tokens, self.fingerprint, n_rows)

    @property
    def as_row(self) -> list[Any]:
        """Its fields as plain values, for hashes and JSON; `Domain(*row)` is the inverse."""
        row = [self.name, self.n_tokens, self.fingerprint]
        return row if self.n_rows is None else [*row, self.n_rows]


class DomainSet:
    """An ordered set of domains with unique names; order fixes the columns of every array.

    Sizes that are known are all in one unit, and so are the shares of a mixture over the set: a share of the tokens
    that are drawn, or of the rows.

    Raises:
        DomainError: if it is empty, two domains share a name, or some count tokens and others rows.
    """

    def __init__(self, domains: Iterable[Domain | str]) -> None:
        self.domains: tuple[Domain, ...] = tuple(Domain(d) if isinstance(d, str) else d for d in domains)
        if not self.domains:
            raise DomainError("a domain set must hold at least one domain")
        self._position = {d.name: j for j, d in enumerate(self.domains)}
        if len(self._position) != len(self.domains):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise DomainError("domain names must be unique", received=twice, hint="rename or merge one of them")
        units = {d.unit for d in self.domains if d.unit is not None}
        if len(units) > 1:
            raise DomainError(
                "sizes of domains in one set must be counted in one unit",
                received=", ".join(f"{d.name} in {d.unit}" for d in self.domains if d.unit is not None),
            )
        self.unit: Unit = units.pop() if units else "tokens"

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Domain names in column order."""
        return tuple(d.name for d in self.domains)

    def index(self, name: str) -> int:
        """Column of the domain called `name`; DomainError if there is none."""
        if name not in self._position:
            raise DomainError(
                "a domain name must be in the domain set", received=name, hint=known_names(name, self.names)
            )
        return self._position[name]

    @property
    def sizes_known(self) -> bool:
        """Whether every domain's size is known."""
        return all(d.size is not None for d in self.domains)

    @property
    def sizes(self) -> npt.NDArray[np.float64]:
        """Tokens or rows available, in the set's unit, shape (domains,); DomainError if a size is unknown."""
        for domain in self.domains:
            if domain.size is None:
                raise DomainError(
                    f"domain '{domain.name}' must have a {self.unit[:-1]} count for this", hint=f"set n_{self.unit}"
                )
        return np.array([d.size for d in self.domains], dtype=np.float64)

    @property
    def n_tokens(self) -> npt.NDArray[np.float64]:
        """Tokens available, shape (domains,); DomainError if a size is unknown or counted in rows."""
        if self.unit != "tokens":
            raise DomainError(f"domain '{self.domains[0].name}' must have a token count for this", hint="set n_tokens")
        return self.sizes

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, sizes with their unit, and content fingerprints, in order."""
        return hashlib.sha256(json.dumps([d.as_row for d in self.domains]).encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.domains)

    def __iter__(self) -> Iterator[Domain]:
        return iter(self.domains)

    def __contains__(self, name: object) -> bool:
        return name in self._position

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DomainSet) and self.domains == other.domains

    def __hash__(self) -> int:
        return hash(self.domains)

    def __repr__(self) -> str:
        return f"DomainSet({', '.join(self.names)})"
