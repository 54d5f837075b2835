"""Supervised fine-tuning by TRL's SFTTrainer, on our rows in our order.

    loss = sum over learnt tokens of -ln p(token | what stands before it) / learnt tokens of the optimiser step

which is what the plain trainer minimises: both reach the same weights but for rounding. TRL's own preparation of text
(templates, packing, cutting) is passed over, for rows are token ids with labels already.

This module needs the package trl; import it only where such a phase is trained.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Trainer, TrainingArguments
from trl import SFTConfig, SFTTrainer

from evermix.corpus.store import TokenStore
from evermix.corpus.tokenizer import TextTokenizer
from evermix.errors import RecipeError
from evermix.training.data import SequenceDataset, trimmed
from evermix.training.segment import StreamTrainer, TrainerParts

_ROW = "row"


def sft_trainer(parts: TrainerParts) -> Trainer:
    """TRL's trainer of a segment; conversations and text are learnt by their labels.

    Raises:
        RecipeError: several GPUs are visible to one process, which TRL does not support.
    """
    if parts.arguments.n_gpu > 1:
        raise RecipeError(
            "trainer sft must see one GPU per process",
            received=parts.arguments.n_gpu,
            hint="set CUDA_VISIBLE_DEVICES to one of them, or start with torchrun",
        )
    return _StreamSFTTrainer(
        model=parts.model,
        args=_configuration(parts.arguments),
        train_dataset=_rows(parts.store),
        data_collator=trimmed,
        processing_class=_wrapped(parts.store.tokenizer),
        callbacks=list(parts.callbacks),
        optimizers=parts.optimizers,
        sampler=parts.sampler,
    )


def _configuration(arguments: TrainingArguments) -> SFTConfig:
    """The same arguments in TRL's class; nothing of the rows is prepared anew."""
    return SFTConfig(**{**arguments.to_dict(), "dataset_kwargs": {"skip_prepare_dataset": True}})


def _rows(store: TokenStore) -> Dataset:
    """Every train row of the store as a `datasets.Dataset`, which TRL asks for; read when it is asked for."""
    rows = SequenceDataset(store)
    return Dataset.from_dict({_ROW: np.arange(len(rows))}).with_transform(_Reader(rows))


@dataclass(frozen=True)
class _Reader:
    """From row numbers to the columns of these rows."""

    rows: SequenceDataset

    def __call__(self, asked: Mapping[str, Sequence[int]]) -> dict[str, list[torch.Tensor]]:
        """{"row": numbers} -> "input_ids", "labels", "attention_mask": LongTensors (sequence_length,), one per row."""
        examples = self.rows.__getitems__(asked[_ROW])
        for example in examples:
            example.setdefault("attention_mask", torch.ones_like(example["input_ids"]))
        return {key: [example[key] for example in examples] for key in examples[0]}


def _wrapped(tokenizer: TextTokenizer) -> PreTrainedTokenizerFast:
    """A copy of the tokenizer in the class that TRL asks for; nothing is encoded with it."""
    end = tokenizer.backend.id_to_token(tokenizer.end_id)
    copy = Tokenizer.from_str(tokenizer.backend.to_str())
    return PreTrainedTokenizerFast(tokenizer_object=copy, eos_token=end, pad_token=end)


class _StreamSFTTrainer(StreamTrainer, SFTTrainer):
    """SFTTrainer that takes its order from the mixture stream, and writes and sends nothing of its own."""

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.processing_class = None  # checkpoints hold weights, not a second tokenizer

    def _send_telemetry(self) -> None:
        """Nobody is told what is trained here."""

    def create_model_card(self, *names: Any, **fields: Any) -> None:
        """A run folder has no model card."""
