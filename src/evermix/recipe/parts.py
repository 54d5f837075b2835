"""The parts of a recipe as frozen pydantic models; amounts of tokens and bytes may be written `1.5M`, `20B`, `1T`."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from evermix.constraints import Constraints
from evermix.objective import LossQuantity

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


class ProbeRecipe(Model):
    """LoRA probes of the current model (arXiv 2605.15220; METHODS 2.1)."""

    budget: Fraction = Field(0.14, description="part of the run's training FLOPs that all decisions may spend")
    steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="steps of one probe; default: what the budget allows"
    )
    purities: tuple[Annotated[float, Field(gt=0, le=1)], ...] = Field(
        (0.9,), min_length=1, description="shares of the domain in its probes; the rest is the mixture used so far"
    )
    rank: Annotated[int, Field(ge=1)] = 16
    alpha: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 32.0
    learning_rate_factor: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2.0
    evaluation_sequences: Annotated[int, Field(ge=2)] | None = Field(
        None,
        description="held-out sequences per domain that score probes and candidates; default: what the budget allows",
    )


Mode = Literal["probe-law", "interpolation", "gradient"]


class DecisionRecipe(Model):
    """When and how the mixture is decided."""

    at: tuple[Fraction, ...] = Field((0.4,), description="decision points as fractions of the token budget")
    mode: Mode = "probe-law"
    by: Literal["loss", "accuracy"] = Field(
        "loss",
        description="loss: what the objective says of held-out text, smooth; accuracy: in a recipe with phases, the "
        "share of wrong answers to its tasks of role fit, by their weights, which costs writing all these answers once "
        "per probe (mode probe-law) or candidate (interpolation)",
    )
    kl: Weight | None = Field(
        None,
        description="pull towards the prior, relative to the predicted spread of the objective; "
        "default: 0.5 for probe-law, 2 for gradient, 5 for interpolation",
    )
    prior: Literal["natural", "uniform", "start"] = Field("start", description="what the KL pulls towards")
    candidates: Annotated[int, Field(ge=2)] = Field(
        20, description="interpolated candidates of mode interpolation; raised to domains + 3 where the law needs it"
    )
    gradient_evaluations: Annotated[int, Field(ge=2)] = Field(5, description="mode gradient")
    cross_checks: bool = Field(False, description="also run the other modes on the same probes, for the report")
    probes: ProbeRecipe = ProbeRecipe()

    @model_validator(mode="after")
    def _increasing(self) -> Self:
        if list(self.at) != sorted(set(self.at)):
            raise ValueError(f"decision points must strictly increase (at: {list(self.at)})")
        return self


class ObjectiveRecipe(Model):
    """What the mixture is chosen for: a weighted mean over the domains' held-out text."""

    quantity: LossQuantity = "perplexity"
    weights: dict[str, Weight] | None = Field(None, description="domain -> weight; default: all alike; 0 leaves out")


class ConstraintRecipe(Model):
    """What the mixture may not do."""

    max_epochs: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = 4.0
    floor: Share = Field(0.01, description="least share of every domain")
    floors: dict[str, Share] = {}
    caps: dict[str, Share] = {}
    fixed: dict[str, Share] = {}

    def build(self) -> Constraints:
        """The same rules as a `Constraints`; ConstraintError if they contradict each other."""
        return Constraints(self.max_epochs, self.floor, self.floors, self.caps, self.fixed)
