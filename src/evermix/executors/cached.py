"""Work done once: a folder that holds what was made, and a marker that is written last.

A kill at any moment leaves either no marker, and the work is done again or gone on with, or the whole record.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evermix.files import read_record, remove_tree, write_json

MARKER = "done.json"


@dataclass(frozen=True)
class CachedJob:
    """A piece of work with a folder of its own, named by all that decides the outcome.

    Attributes:
        folder: where the work is done. What it makes stays there beside the marker.
        keys: what the record must hold.
    """

    folder: Path
    keys: tuple[str, ...]

    @property
    def marker(self) -> Path:
        """The record as a file; there if and only if the work is done."""
        return self.folder / MARKER

    @property
    def is_done(self) -> bool:
        """Whether the marker is there."""
        return self.marker.exists()

    def record(self) -> dict[str, Any]:
        """The record of work that is done.

        Raises:
            FileNotFoundError: if it is not done.
            ProjectError: if the record is damaged or lacks a key; it names the folder to delete.
        """
        return read_record(self.marker, *self.keys)

    def run(self, work: Callable[[Path], dict[str, Any]], *, resumable: bool = False) -> dict[str, Any]:
        """The record, after the work if it was not done before.

        Args:
            work: called with the folder, which is there; what it returns is the record.
            resumable: whether `work` goes on with what a killed attempt left; else that is removed first.

        Raises:
            ProjectError: if the record is damaged or lacks a key.
        """
        if not self.is_done:
            if not resumable:
                remove_tree(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self.marker, work(self.folder))
        return self.record()
