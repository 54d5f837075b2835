"""Extractors in which each file is a document: source code and licence texts."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from evermix.corpus.registry.documents import text_files

_NOT_LIBRARY = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}
_SPDX_VARIABLE = re.compile(r"<<var;[^>]*?original=(.*?);match=.*?>>", re.DOTALL)
_SPDX_OPTIONAL = re.compile(r"<<(?:begin|end)Optional[^>]*>>")


def python_stdlib(root: Path) -> Iterator[str]:
    """Modules of the standard library, without its tests and without installed packages."""
    for path, text in text_files(root, (".py",)):
        if not _NOT_LIBRARY & set(path.relative_to(root).parts):
            yield text


def cpp_headers(root: Path) -> Iterator[str]:
    """C++ and CUDA headers under a package's include folder."""
    for _path, text in text_files(root / "include", (".h", ".hpp", ".cuh")):
        yield text


def licences(root: Path) -> Iterator[str]:
    """SPDX licence texts, template variables replaced by their original wording."""
    for _path, text in text_files(root / "spdx/data", (".txt",)):
        yield _SPDX_OPTIONAL.sub("", _SPDX_VARIABLE.sub(r"\1", text))
