"""Turning one GGUF file of a Llama-style model into an ordinary checkpoint folder.

transformers reads and dequantises the weights (value = scale * integer + minimum per block of 32) and undoes the
reordering of query and key rows. The weights are stored as float16: its rounding, at most 2^-11 of a value, is far
below half a step of 4 bits. The tokenizer is built here from the token and merge lists of the file, because the general
conversion does not cut digits apart before it merges.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GenerationConfig, PreTrainedModel, PreTrainedTokenizerFast

from evermix.errors import CheckpointError

_CONTROL_TOKEN = 3  # the GGUF token type of special tokens


def require_gguf() -> None:
    """Raises CheckpointError when the `gguf` package is missing."""
    if importlib.util.find_spec("gguf") is None:
        raise CheckpointError(
            "this checkpoint is a GGUF file, which the package `gguf` reads; it is not installed",
            hint="pip install 'evermix[gguf]'",
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
        model = AutoModelForCausalLM.from_pretrained(str(file.parent), gguf_file=file.name, dtype=torch.float32)
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
