"""The table of registry corpora, put together from the quick-start, Debian and npm lists."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from evermix.corpus.registry.from_debian import DEBIAN
from evermix.corpus.registry.from_npm import NPM
from evermix.corpus.registry.model import RegistryCorpus
from evermix.corpus.registry.quick_start import QUICK_START
from evermix.errors import CorpusError

CORPORA: Mapping[str, RegistryCorpus] = MappingProxyType(
    {corpus.name: corpus for corpus in (*QUICK_START, *DEBIAN, *NPM)}
)


def find(name: str) -> RegistryCorpus:
    """The corpus of that name.

    Raises:
        CorpusError: unknown name; the message lists the known ones.
    """
    if name not in CORPORA:
        near = difflib.get_close_matches(name, CORPORA, n=1)
        guess = f"did you mean {near[0]!r}? " if near else ""
        raise CorpusError(
            "registry corpus must be a known one", received=name, hint=f"{guess}known: {', '.join(CORPORA)}"
        )
    return CORPORA[name]


def list_corpora() -> list[dict[str, str]]:
    """The corpora that a recipe may name as `registry: NAME`, one row each.

    Returns:
        Rows of `name`, `kind`, `package`, `version`, `licence`, `description`; nothing is downloaded.
    """
    fields = ("name", "kind", "package", "version", "licence", "description")
    return [{field: str(getattr(corpus, field)) for field in fields} for corpus in CORPORA.values()]
