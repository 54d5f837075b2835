"""Loading checkpoints: ours, a registry model, a Hugging Face folder or hub name; safetensors only, no remote code."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedModel

from evermix.errors import CheckpointError
from evermix.models.registry import PREFIX, resolve_checkpoint


def load_model(source: str | Path) -> PreTrainedModel:
    """A causal language model in float32 from a checkpoint folder, a hub name, or `registry:NAME`.

    Raises:
        CheckpointError: if it cannot be found, is damaged, or holds no safetensors.
    """
    if str(source).startswith(PREFIX):
        source = resolve_checkpoint(str(source), Path())
    try:
        model = AutoModelForCausalLM.from_pretrained(str(source), use_safetensors=True, dtype="float32")
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        first_line = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise CheckpointError(
            f"{source}: a checkpoint must be a folder with config.json and safetensors, or a hub name ({first_line})",
            hint="check the path, or convert the weights to safetensors",
        ) from error
    model.config.use_cache = False
    return model


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
    """The model must know every id of the tokenizer, and not have been made for a much larger one.

    Padding the table to a multiple of 128 or so is common, so up to 1,024 spare rows are accepted.

    Raises:
        CheckpointError: if the sizes tell that the checkpoint belongs to another tokenizer.
    """
    rows = model.get_input_embeddings().num_embeddings
    if rows < vocab_size or rows - vocab_size > 1024:
        raise CheckpointError(
            f"{source}: a checkpoint must belong to the tokenizer: it embeds {rows} tokens, not {vocab_size}",
            hint="set tokenizer.path to the tokenizer that the checkpoint was trained with",
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
