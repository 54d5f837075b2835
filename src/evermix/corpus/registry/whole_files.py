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


def perl_modules(root: Path) -> Iterator[str]:
    """Perl modules and their POD, without Unicode tables and the list of core versions."""
    for path, text in text_files(root / "usr/share/perl", (".pm", ".pl", ".pod")):
        if not {"unicore", "Collate", "CoreList", "CoreList.pm"} & set(path.parts):
            yield text


def go_sources(root: Path) -> Iterator[str]:
    """Go's own source tree without generated files and test data."""
    for path, text in text_files(root / "usr/share/go-1.19/src", (".go",)):
        if "testdata" not in path.parts and "// Code generated" not in text[:2000] and "mkerrors" not in text[:200]:
            yield text


def ruby_sources(root: Path) -> Iterator[str]:
    """Ruby's standard library."""
    for _path, text in text_files(root / "usr/lib/ruby", (".rb",)):
        yield text


def hol_light(root: Path) -> Iterator[str]:
    """HOL Light theories and their proof scripts in OCaml."""
    for _path, text in text_files(root / "usr/share/hol-light", (".ml", ".hl")):
        yield text
