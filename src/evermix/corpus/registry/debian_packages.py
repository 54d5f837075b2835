"""Fetching a Debian package with `apt-get download`: unpacked with dpkg, never installed."""

from __future__ import annotations

from pathlib import Path

from evermix.corpus.registry.clients import only_file, require_client, run_client, verify
from evermix.corpus.registry.model import Archive
from evermix.errors import CorpusError


def fetch_deb(archive: Archive, folder: Path) -> Path:
    """Downloads and unpacks one .deb under `folder`; returns the unpacked folder.

    Raises:
        CorpusError: apt-get or dpkg missing, the pinned version not offered, hash mismatch.
    """
    require_client("apt-get", archive.package)
    require_client("dpkg", archive.package)
    try:
        run_client(["apt-get", "download", "-q", f"{archive.package}={archive.version}"], archive, folder)
    except CorpusError as error:
        raise CorpusError(
            error.rule, hint="run `apt-get update`; the pinned version is that of Debian 12, others do not match"
        ) from error
    deb = only_file(folder, "*.deb", archive)
    verify(deb, archive)
    unpacked = folder / "unpacked"
    run_client(["dpkg", "-x", str(deb), str(unpacked)], archive, folder)
    return unpacked
