"""The parts of a recipe as frozen pydantic models; amounts of tokens and bytes may be written `1.5M`, `20B`, `1T`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from evermix.files import placed
from evermix.recipe.yaml_faults import LocatedError, read_yaml, recipe_error
from evermix.wording import amount, composed, without_secrets


def parse_amount(value: object) -> object:
    """`1.5M` -> 1500000; numbers and anything else pass through for pydantic to judge."""
    if isinstance(value, str):
        return amount(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value


Name = Annotated[str, AfterValidator(composed)]
Amount = Annotated[int, BeforeValidator(parse_amount), Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Model(BaseModel):
    """Base of every part of a recipe: frozen, no unknown keys, and without its secrets wherever it is written."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=(), hide_input_in_errors=True)

    @model_serializer(mode="wrap", when_used="json")
    def _kept(self, written: SerializerFunctionWrapHandler) -> dict[str, Any]:
        kept: dict[str, Any] = without_secrets(written(self))
        return kept

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """What `repr` shows."""
        yield from (
            (name, without_secrets({name: value})[name] if name else value) for name, value in super().__repr_args__()
        )

    def changed(self, *keys: str) -> list[str]:
        """Those of `keys` that do not have their default."""
        return [key for key in keys if getattr(self, key) != type(self).model_fields[key].default]


Schedule = Literal["wsd", "cosine"]


def check_schedule(schedule: Schedule | None, changed: list[str]) -> None:
    """LocatedError if a decay was given to a schedule that has none."""
    if schedule == "cosine" and changed:
        raise LocatedError(("decay_fraction",), "belongs to schedule wsd (schedule: cosine)")


_NOT_READ: dict[str, tuple[str, ...]] = {
    "jsonl": ("documents",),
    "parquet": ("documents",),
    "text": ("text_field",),
    "chat": ("text_field", "documents"),
}
"""Keys that a format does not read; `auto` may find files of any format but chat."""


class DomainRecipe(Model):
    """One domain and where its text comes from: exactly one of `files`, `registry`, `dataset`."""

    name: Name = Field(min_length=1, description="of the domain; names may nest: `source:topic:quality`")
    files: tuple[str, ...] | None = Field(None, description="paths or globs, relative to the recipe's folder")
    registry: str | None = Field(None, description="a corpus of a package registry; see `evermix list-corpora`")
    dataset: dict[str, Any] | None = Field(
        None,
        description="arguments of datasets.load_dataset (path, name, split); secrets as `token: $NAME`",
    )
    text_field: str = Field(
        "text", description="the field that holds the text, for JSONL, Parquet and datasets; `doc.text` is within `doc`"
    )
    format: Literal["auto", "jsonl", "parquet", "text", "chat"] = Field(
        "auto",
        description="auto goes by file name; chat: records of conversations, of which only answers are learnt",
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
        ignored = self.changed(*_NOT_READ.get(self.format, ()))
        if ignored:
            raise LocatedError((ignored[0],), f"has no meaning with format {self.format}: leave it out")
        return self


class TokenizerRecipe(Model):
    """A byte-level BPE trained on the corpus, or an existing tokenizer (`path`: file, folder or hub name)."""

    vocab_size: Annotated[int, Field(ge=260)] = Field(1024, description="of the BPE that is trained on the corpus")
    path: str | None = Field(None, description="of an existing tokenizer, instead: a file, a folder or a hub name")
    end_token: str | None = Field(
        None,
        min_length=1,
        description="the token of an existing tokenizer that ends a document; default: the `eos_token` it declares, or "
        "one of the usual names",
    )

    @model_validator(mode="after")
    def _trained_or_given(self) -> Self:
        if self.path is not None and self.changed("vocab_size"):
            raise LocatedError(("vocab_size",), "an existing tokenizer (path) has its own vocabulary: leave it out")
        return self


class CorpusRecipe(Model):
    """How text becomes sequences."""

    sequence_length: Annotated[int, Field(ge=8)] = Field(256, description="tokens per training sequence")
    heldout_fraction: Fraction = Field(
        0.02, description="of each domain's documents, for evaluation only: half of them to decide by, half to test by"
    )
    heldout_sequences: Annotated[int, Field(ge=2)] = Field(
        128, description="most sequences per domain that decide, and as many that test"
    )
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

    rung: str = Field("1M", description="of the ladder, by its non-embedding parameters: 0.05M to 60M")
    checkpoint: str | None = Field(
        None,
        description="a folder, a hub name, or registry:NAME (out of a package); its weights are the starting point",
    )

    @model_validator(mode="after")
    def _one_model(self) -> Self:
        if self.checkpoint is not None and self.changed("rung"):
            raise LocatedError(("rung",), "a checkpoint has its own size: give rung or checkpoint, not both")
        return self


class TrainingRecipe(Model):
    """One pass of training: budget, optimiser, learning-rate schedule."""

    tokens: Amount = Field(description="budget of each arm, and R that a swarm decides for; a phase may have its own")
    batch_sequences: Annotated[int, Field(ge=1)] = Field(16, description="sequences per optimiser step")
    gradient_accumulation: Annotated[int, Field(ge=1)] = Field(1, description="parts that a batch is computed in")
    learning_rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(3e-3, description="at its highest")
    schedule: Schedule = Field("wsd", description="of the learning rate: warmup-stable-decay, or cosine to a tenth")
    warmup_fraction: Share = Field(0.02, description="first part of the steps, rising linearly from zero")
    decay_fraction: Share = Field(0.2, description="last part of a wsd schedule, falling linearly to zero")
    trunk: bool | None = Field(
        None,
        description="of a recipe with phases: go from one to the next on a trunk at a constant rate, with its "
        "optimiser, and judge branches that decay; default: true with schedule wsd",
    )
    weight_decay: Weight = Field(0.1, description="of AdamW")
    clip_norm: Annotated[float, Field(gt=0, allow_inf_nan=False)] = Field(1.0, description="greatest gradient norm")
    evaluations: Annotated[int, Field(ge=0)] = Field(8, description="points of the loss curves within the run")
    checkpoints: Annotated[int, Field(ge=0)] = Field(8, description="checkpoints within the run, for resuming")
    workers: Annotated[int, Field(ge=0)] = Field(0, description="processes that load data")
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
        check_schedule(self.schedule, self.changed("decay_fraction"))
        if self.trunk and self.schedule != "wsd":
            message = (
                f"true belongs to schedule wsd, whose rate is constant before it decays (schedule: {self.schedule})"
            )
            raise LocatedError(("trunk",), message)
        return self

    @property
    def has_trunk(self) -> bool:
        """Whether phases are trained on a trunk."""
        return self.trunk is not False and self.schedule == "wsd"

    def decay_steps(self, n_steps: int) -> int:
        """Of `n_steps`, the last ones, over which a wsd schedule falls; 0 with a schedule that has no such end."""
        return round(self.decay_fraction * n_steps) if self.schedule == "wsd" else 0


@dataclass(frozen=True)
class TextUpdate:
    """What changes, with the text of what is new.

    Attributes:
        add: new domains.
        remove: names.
        revise: domains under their old names, with their text now.
        partition: name -> its parts.
    """

    add: tuple[DomainRecipe, ...] = ()
    remove: tuple[str, ...] = ()
    revise: tuple[DomainRecipe, ...] = ()
    partition: Mapping[str, tuple[DomainRecipe, ...]] = field(default_factory=dict)

    @property
    def texts(self) -> dict[str, DomainRecipe]:
        """Name -> text of every domain that is new, revised or a part."""
        parts = [part for group in self.partition.values() for part in group]
        return {domain.name: domain for domain in (*self.add, *self.revise, *parts)}

    @classmethod
    def load(cls, path: str | Path) -> TextUpdate:
        """Read a YAML file with keys add, remove, revise, partition; its paths are relative to its own folder.

        Raises:
            RecipeError: naming the file, the line and the key of the first fault.
        """
        path = Path(path)
        data, node = read_yaml(path)
        try:
            found = _UpdateFile.model_validate(data)
        except ValidationError as error:
            raise recipe_error(path, node, error, _UpdateFile) from error
        folder = path.parent
        return cls(
            tuple(_placed(domain, folder) for domain in found.add),
            found.remove,
            tuple(_placed(domain, folder) for domain in found.revise),
            {name: tuple(_placed(part, folder) for part in parts) for name, parts in found.partition.items()},
        )


def absolute(patterns: Sequence[str] | None, folder: Path | None = None) -> list[str] | None:
    """Patterns from a folder, by default the current one, that mean the same from anywhere."""
    if not patterns:
        return None
    start = (folder or Path()).absolute()
    return [f"{_sign(pattern)}{os.path.normpath(placed(pattern.removeprefix('!'), start))}" for pattern in patterns]


def _sign(pattern: str) -> str:
    return "!" if pattern.startswith("!") else ""


class _UpdateFile(Model):
    """The YAML file."""

    add: tuple[DomainRecipe, ...] = ()
    remove: tuple[Name, ...] = ()
    revise: tuple[DomainRecipe, ...] = ()
    partition: dict[Name, tuple[DomainRecipe, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not (self.add or self.remove or self.revise or self.partition):
            raise ValueError("must add, remove, revise or partition a domain")
        for name, parts in self.partition.items():
            if len(parts) < 2:
                raise LocatedError(("partition", name), f"must have at least two parts (has {len(parts)})")
        return self


def _placed(domain: DomainRecipe, folder: Path) -> DomainRecipe:
    patterns = absolute(domain.files, folder)
    return domain if patterns is None else domain.model_copy(update={"files": tuple(patterns)})
