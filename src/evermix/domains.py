"""Domains: the named bodies of text among which a mixture shares out the training tokens."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.errors import DomainError


@dataclass(frozen=True)
class Domain:
    """One body of text.

    Attributes:
        name: unique in its set; nested names are joined by colons, `source:topic:quality`.
        n_tokens: tokens available for training, or None when unknown.
        fingerprint: hash of the content, or None when unknown; a revised domain has another one.
    """

    name: str
    n_tokens: int | None = None
    fingerprint: str | None = None

    def __post_init__(self) -> None:
        if not self.name or self.name != self.name.strip() or any(not part for part in self.name.split(":")):
            raise DomainError(
                "a domain name must be non-empty, without outer blanks or empty parts between colons",
                received=self.name,
                hint="use names such as 'web' or 'web:science'",
            )
        if self.n_tokens is not None and self.n_tokens < 0:
            raise DomainError(f"domain '{self.name}' must have n_tokens >= 0", received=self.n_tokens)


class DomainSet:
    """An ordered set of domains with unique names; order fixes the columns of every array.

    Raises:
        DomainError: if it is empty or two domains share a name.
    """

    def __init__(self, domains: Iterable[Domain | str]) -> None:
        self.domains: tuple[Domain, ...] = tuple(Domain(d) if isinstance(d, str) else d for d in domains)
        if not self.domains:
            raise DomainError("a domain set must hold at least one domain")
        self._position = {d.name: j for j, d in enumerate(self.domains)}
        if len(self._position) != len(self.domains):
            twice = next(n for n in self.names if self.names.count(n) > 1)
            raise DomainError("domain names must be unique", received=twice, hint="rename or merge one of them")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Domain names in column order."""
        return tuple(d.name for d in self.domains)

    def index(self, name: str) -> int:
        """Column of the domain called `name`; DomainError if there is none."""
        if name not in self._position:
            raise DomainError(
                "a domain name must be in the domain set", received=name, hint=f"known: {', '.join(self.names)}"
            )
        return self._position[name]

    @property
    def n_tokens(self) -> npt.NDArray[np.float64]:
        """Tokens available, shape (domains,); DomainError if a count is unknown."""
        for domain in self.domains:
            if domain.n_tokens is None:
                raise DomainError(f"domain '{domain.name}' must have a token count for this", hint="set n_tokens")
        return np.array([d.n_tokens for d in self.domains], dtype=np.float64)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, counts and content fingerprints, in order."""
        rows = [[d.name, d.n_tokens, d.fingerprint] for d in self.domains]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()[:16]

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
