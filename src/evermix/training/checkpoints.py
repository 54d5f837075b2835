"""Checkpoints: which is the newest that was written whole, whether it can be read to its end, and full disks."""

from __future__ import annotations

import errno
import json
import os
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from safetensors import SafetensorError, safe_open

from evermix.errors import CheckpointError
from evermix.files import remove_tree

PROGRESS_FILE = "evermix_progress.json"
TEACHER_FILE = "evermix_teacher.safetensors"
_TO_GO_ON = ("optimizer.pt", "scheduler.pt", TEACHER_FILE)
# what safetensors and torch say of ENOSPC, EDQUOT and EFBIG
_FULL_DISK = re.compile(r"os error (28|122|27)\b|No space left|PytorchStreamWriter|inline_container.*unexpected pos")


def newest_checkpoint(folder: Path) -> Path | None:
    """The latest checkpoint of `folder` that was written whole; torn ones are removed."""
    whole: list[tuple[int, Path]] = []
    for path in folder.glob("checkpoint-*"):
        if (path / PROGRESS_FILE).exists():
            whole.append((int(path.name.removeprefix("checkpoint-")), path))
        else:
            remove_tree(path)
    return max(whole)[1] if whole else None


def keep_weights_only(checkpoint: Path) -> None:
    """Remove what only its own training needs to go on, three times the weights and more; nothing if that was done."""
    for name in _TO_GO_ON:
        (checkpoint / name).unlink(missing_ok=True)


@contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """The libraries that write checkpoints hide a full disk in errors of their own: raise the OSError that it is."""
    try:
        yield
    except (SafetensorError, RuntimeError) as error:
        if not _FULL_DISK.search(str(error)):
            raise
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder)) from error


def check_whole(checkpoint: Path) -> None:
    """CheckpointError unless weights, optimiser and trainer state can be read to their ends."""
    try:
        with safe_open(checkpoint / "model.safetensors", "pt") if _has_weights(checkpoint) else nullcontext():
            pass
        json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))["global_step"]
        for name in ("optimizer.pt", "scheduler.pt"):
            with zipfile.ZipFile(checkpoint / name) as archive:
                if archive.testzip() is not None:
                    raise zipfile.BadZipFile(name)
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, SafetensorError) as error:
        raise CheckpointError(
            f"{checkpoint}: a checkpoint to go on from must be whole ({error})",
            hint=f"delete the folder {checkpoint.parent} and run the same command again: that part is trained anew",
        ) from error


def _has_weights(checkpoint: Path) -> bool:
    """Large models are saved in several files, which the loader checks against their index."""
    return not (checkpoint / "model.safetensors.index.json").exists()
