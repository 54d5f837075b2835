"""Which files a domain's paths and globs mean: every file once, however many names lead to it.

A file is what its path resolves to. `e.txt`, `sub/../e.txt` and a link to it are one file, under the first of these
names. A folder that several links lead to is entered once, so that a link to a parent folder ends where it began.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path

from evermix.errors import CorpusError
from evermix.files import expanded

_LEAVE_OUT = "mend or remove it, or leave it out with a '!pattern' in `files`"


@dataclass(frozen=True)
class FoundFiles:
    """What the patterns of one domain mean.

    Attributes:
        files: sorted within each pattern, each file once, under the first name that leads to it.
        repeated: further names of these files, links and folders that were entered by another way.
    """

    files: tuple[Path, ...]
    repeated: tuple[Path, ...] = ()


def find_files(domain: str, patterns: Sequence[str], base: Path) -> FoundFiles:
    """The files that `patterns` mean; see `TextSource.files`.

    `!pattern` leaves out the names that it matches, and all other names of a file that it matches by its own name.

    Raises:
        CorpusError: a path is missing, a folder, empty or no regular file, a link leads nowhere, or nothing is kept.
    """
    dropped: set[str] = set()
    for pattern in patterns:
        if pattern.startswith("!"):
            for path in matches(pattern[1:], base).files:
                dropped |= {os.path.abspath(path)} | ({os.path.realpath(path)} if _is_own_name(path, base) else set())
    kept: dict[str, Path] = {}
    repeated: list[Path] = []
    real_folder = cache(os.path.realpath)
    for pattern in patterns:
        if pattern.startswith("!"):
            continue
        found = _expand(domain, pattern, base)
        repeated += found.repeated
        for path in found.files:
            is_link = path.is_symlink()
            real = os.path.realpath(path) if is_link else os.path.join(real_folder(path.parent), path.name)
            if not dropped or dropped.isdisjoint((os.path.abspath(path), real)):
                if is_link and not path.exists():
                    raise CorpusError(
                        f"domain '{domain}': link {path} must lead to a file", received=_target(path), hint=_LEAVE_OUT
                    )
                if real not in kept:
                    kept[real] = path
                elif os.path.abspath(kept[real]) != os.path.abspath(path):
                    repeated.append(path)
    if not kept:
        raise CorpusError(f"domain '{domain}' must keep at least one file", received=tuple(patterns))
    return FoundFiles(tuple(kept.values()), tuple(dict.fromkeys(repeated)))


def remarks(found: Mapping[str, FoundFiles], together: Iterable[Collection[str]] | None = None) -> list[str]:
    """A line for each domain with further names of files, and for each two domains that share files.

    Args:
        found: the files of each domain.
        together: domains that are trained on at the same time; by default all of them.
    """
    lines = [
        f"domain '{domain}': {_named(files.repeated)} passed over, because the same files are found by another name; "
        "each is read once"
        for domain, files in found.items()
        if files.repeated
    ]
    paths = {domain: {os.path.realpath(path): path for path in files.files} for domain, files in found.items()}
    for group in [tuple(found)] if together is None else together:
        owners: dict[str, str] = {}
        shared: dict[tuple[str, str], list[Path]] = {}
        for domain in (name for name in paths if name in set(group)):
            for real, path in paths[domain].items():
                if (owner := owners.setdefault(real, domain)) != domain:
                    shared.setdefault((owner, domain), []).append(path)
        lines += [
            f"domains '{one}' and '{other}' both read {_named(both)}; that text counts in each of them"
            for (one, other), both in shared.items()
        ]
    return list(dict.fromkeys(lines))


def matches(pattern: str, base: Path) -> FoundFiles:
    """Files (and links that lead nowhere) that a path or glob matches, sorted; hidden ones only if it says so.

    As `glob.glob(recursive=True)`, but every folder is entered once, and by a link only if no other way leads there.

    Raises:
        CorpusError: a folder cannot be listed.
    """
    path = Path(expanded(pattern, strict=False))  # `./~x` is a file called ~x
    folders = [(Path(path.anchor), path.parts[1:]) if path.is_absolute() else (base, path.parts)]
    links: list[tuple[Path, tuple[str, ...]]] = []
    entered: set[tuple[str, tuple[str, ...]]] = set()
    found: set[Path] = set()
    repeated: set[Path] = set()
    while folders or links:
        by_link = not folders
        folder, parts = links.pop(0) if by_link else folders.pop()
        while parts and not glob.has_magic(parts[0]):
            folder, parts = folder / parts[0], parts[1:]
        if not parts:
            found |= {folder} if _is_file_or_broken(folder) else set()
            continue
        key = (os.path.realpath(folder), parts)
        if key in entered:
            repeated |= {folder} if by_link else set()
            continue
        entered.add(key)
        head, rest = parts[0], parts[1:]
        if head == "**" and rest:
            folders.append((folder, rest))
        for entry in _entries(folder):
            if entry.name.startswith(".") and not head.startswith("."):
                continue
            child = folder / entry.name
            below = parts if head == "**" else rest if fnmatchcase(entry.name, head) else None
            if below and (entry.is_dir(follow_symlinks=False) or (entry.is_symlink() and child.is_dir())):
                (links if entry.is_symlink() else folders).append((child, below))
            elif (below == () or (head == "**" and not rest)) and _is_file_or_broken(child, entry):
                found.add(child)
    return FoundFiles(tuple(sorted(found)), tuple(sorted(repeated)))


def _expand(domain: str, pattern: str, base: Path) -> FoundFiles:
    literal = base / expanded(pattern, strict=False)
    if literal.is_dir():
        raise CorpusError(
            f"domain '{domain}' must name files, not a folder", received=str(literal), hint=f"use '{pattern}/**/*'"
        )
    if literal.exists():
        if not literal.is_file():
            raise CorpusError(f"domain '{domain}': {literal} must be a regular file", hint="copy its content to one")
        if literal.stat().st_size == 0:
            raise CorpusError(f"domain '{domain}': file {literal} must not be empty", hint="remove it from `files`")
        return FoundFiles((literal,))
    found = FoundFiles((literal,)) if literal.is_symlink() else matches(pattern, base)
    if not found.files:
        rule = "a glob must match at least one file" if glob.has_magic(pattern) else "a data file must exist"
        raise CorpusError(f"domain '{domain}': {rule}", received=str(literal), hint="check the path in `files`")
    return found


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise CorpusError(f"folder {folder} must be readable ({error.strerror or error})", hint=_LEAVE_OUT) from None


def _is_file_or_broken(path: Path, entry: os.DirEntry[str] | None = None) -> bool:
    if entry is not None and entry.is_file(follow_symlinks=False):
        return True
    return path.is_file() or (path.is_symlink() and not path.exists())


def _is_own_name(path: Path, base: Path) -> bool:
    """Whether no link is on the way, but for those that lead to `base` itself."""
    real = os.path.realpath(path)
    return real in (os.path.abspath(path), os.path.join(os.path.realpath(base), os.path.relpath(path, base)))


def _target(link: Path) -> str:
    return f"a link to {os.readlink(link)}"


def _named(paths: Iterable[Path]) -> str:
    """The first of them and how many more there are."""
    first, *others = paths
    return f"{first} and {len(others)} more" if others else str(first)
