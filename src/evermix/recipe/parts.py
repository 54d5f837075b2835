"""The parts of a recipe as frozen pydantic models; amounts of tokens and bytes may be written `1.5M`, `20B`, `1T`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

_SUFFIXES = {"": 1, "k": 10**3, "m": 10**6, "b": 10**9, "g": 10**9, "t": 10**12}


def parse_amount(value: object) -> object:
    """`1.5M` -> 1500000; numbers and anything else pass through for pydantic to judge."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*([0-9][0-9_.]*(?:e[0-9]+)?)\s*([kmbgt]?)\s*", value.lower())
        if not match:
            raise ValueError("must be an amount such as 250000, 1.5M or 20B")
        amount = float(match[1].replace("_", "")) * _SUFFIXES[match[2]]
        if not math.isfinite(amount):
            raise ValueError("must be a finite amount")
        return round(amount)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


Amount = Annotated[int, BeforeValidator(parse_amount), Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Model(BaseModel):
    """Base of every part of a recipe: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DomainRecipe(Model):
    """One domain and where its text comes from: exactly one of `files`, `registry`, `dataset`."""

    name: str = Field(min_length=1)
    files: tuple[str, ...] | None = Field(None, description="paths or globs, relative to the recipe's folder")
    registry: str | None = Field(None, description="a corpus of a package registry; see `evermix list-corpora`")
    dataset: dict[str, Any] | None = Field(None, description="arguments of datasets.load_dataset (path, name, split)")
    text_field: str = Field("text", description="the field that holds the text, for JSONL, Parquet and datasets")
    format: Literal["auto", "jsonl", "parquet", "text", "chat"] = Field(
        "auto",
        description="auto goes by file name; chat: JSONL of {prompt, answer} or {messages}, only answers are learnt",
    )
    documents: Literal["file", "paragraph", "line"] = Field("file", description="what one document of plain text is")
    max_bytes: Amount | None = Field(None, description="read at most so many bytes of text")

    @model_validator(mode="before")
    @classmethod
    def _one_file_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("files"), str):
            return {**data, "files": [data["files"]]}
        return data

    @model_validator(mode="after")
    def _exactly_one_place(self) -> Self:
        given = [key for key in ("files", "registry", "dataset") if getattr(self, key)]
        if len(given) != 1:
            raise ValueError(f"must have exactly one of files, registry, dataset (has {given or 'none'})")
        return self


class TokenizerRecipe(Model):
    """A byte-level BPE trained on the corpus, or an existing tokenizer (`path`: file, folder or hub name)."""

    vocab_size: Annotated[int, Field(ge=260)] = 1024
    path: str | None = None


class CorpusRecipe(Model):
    """How text becomes sequences."""

    sequence_length: Annotated[int, Field(ge=8)] = 256
    heldout_fraction: Fraction = 0.02
    heldout_sequences: Annotated[int, Field(ge=2)] = Field(128, description="most held-out sequences per domain")
    store: str | None = Field(None, description="folder of the tokenised text; default: tokens/ in the project folder")
    workers: Annotated[int, Field(ge=1)] = Field(2, description="domains that are tokenised at once")
    chat_template: str = Field(
        "auto",
        min_length=1,
        description="how conversations become text: plain (as they are written), a Jinja file, a checkpoint's folder; "
        "auto: the checkpoint's own, or plain if it has none",
    )


class ModelRecipe(Model):
    """A rung of the ladder of small Llama-style models, or a Hugging Face checkpoint."""

    rung: str = "1M"
    checkpoint: str | None = Field(
        None,
        description="a folder, a hub name, or registry:NAME (out of a package); its weights are the starting point",
    )


class TrainingRecipe(Model):
    """One pass of training: budget, optimiser, learning-rate schedule."""

    tokens: Amount
    batch_sequences: Annotated[int, Field(ge=1)] = 16
    gradient_accumulation: Annotated[int, Field(ge=1)] = 1
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 3e-3
    schedule: Literal["wsd", "cosine"] = "wsd"
    warmup_fraction: Share = 0.02
    decay_fraction: Share = Field(0.2, description="last part of a wsd schedule, falling linearly to zero")
    weight_decay: Weight = 0.1
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    evaluations: Annotated[int, Field(ge=0)] = Field(8, description="points of the loss curves within the run")
    checkpoints: Annotated[int, Field(ge=0)] = Field(8, description="checkpoints within the run, for resuming")
    workers: Annotated[int, Field(ge=0)] = 0
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        "auto",
        description="of matrix products in training; weights are float32 in any case; auto: bfloat16 on a GPU that has "
        "it, else float32; a processor made for bfloat16 trains models of 100M and more in half the time with it",
    )

    @model_validator(mode="after")
    def _batch_splits(self) -> Self:
        if self.batch_sequences % self.gradient_accumulation:
            raise ValueError(
                f"batch_sequences ({self.batch_sequences}) must be a multiple of gradient_accumulation "
                f"({self.gradient_accumulation})"
            )
        return self
