"""The recipe: one YAML file, read into frozen pydantic models, that says everything about a project.

Every error names the file, the line and the key. Amounts of tokens and bytes may be written `1.5M`, `20B`, `1T`.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from evermix.constraints import Constraints
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, DomainError, RecipeError
from evermix.objective import Quantity

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


def _folder_name(value: str) -> str:
    if not value.strip() or "\0" in value:
        raise ValueError("must name a folder")
    return value


Amount = Annotated[int, BeforeValidator(parse_amount), Field(gt=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _LocatedError(ValueError):
    """A rule between keys is broken; `location` says at which key to point."""

    def __init__(self, location: tuple[str | int, ...], message: str) -> None:
        super().__init__(message)
        self.location = location


class Model(BaseModel):
    """Base of every part of a recipe: frozen, and no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())


class DomainRecipe(Model):
    """One domain and where its text comes from: exactly one of `files`, `registry`, `dataset`."""

    name: str = Field(min_length=1)
    files: tuple[str, ...] | None = Field(None, description="paths or globs, relative to the recipe's folder")
    registry: str | None = Field(None, description="a corpus that a package registry carries; see `evermix corpora`")
    dataset: dict[str, Any] | None = Field(None, description="arguments of datasets.load_dataset (path, name, split)")
    text_field: str = Field("text", description="the field that holds the text, for JSONL, Parquet and datasets")
    format: Literal["auto", "jsonl", "parquet", "text"] = "auto"
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


class ModelRecipe(Model):
    """A rung of the ladder of small Llama-style models, or a Hugging Face checkpoint."""

    rung: str = "1M"
    checkpoint: str | None = Field(None, description="a folder or hub name; its weights are the starting point")


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

    quantity: Quantity = "perplexity"
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


Start = Literal["natural", "uniform"] | dict[str, Weight]


class Recipe(Model):
    """Everything about one project. `base` is the folder that relative paths start from."""

    project: Annotated[str, AfterValidator(_folder_name)]
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    domains: tuple[DomainRecipe, ...] = Field(min_length=1)
    tokenizer: TokenizerRecipe = TokenizerRecipe()
    corpus: CorpusRecipe = CorpusRecipe()
    model: ModelRecipe = ModelRecipe()
    training: TrainingRecipe
    start: Start = Field("uniform", description="the mixture before the first decision")
    decision: DecisionRecipe = DecisionRecipe()
    objective: ObjectiveRecipe = ObjectiveRecipe()
    constraints: ConstraintRecipe = ConstraintRecipe()
    arms: tuple[Literal["natural", "uniform", "evermix"], ...] = Field(("evermix",), min_length=1)
    base: Path = Field(Path(), exclude=True)

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        names = [domain.name for domain in self.domains]
        for position, name in enumerate(names):
            if name in names[:position]:
                raise _LocatedError(
                    ("domains", position, "name"), f"domain names must be unique: '{name}' is given twice"
                )
        mentioned: dict[tuple[str, ...], dict[str, float]] = {
            ("objective", "weights"): self.objective.weights or {},
            ("start",): self.start if isinstance(self.start, dict) else {},
            ("constraints", "floors"): self.constraints.floors,
            ("constraints", "caps"): self.constraints.caps,
            ("constraints", "fixed"): self.constraints.fixed,
        }
        for key, weights in mentioned.items():
            for name in weights:
                if name not in names:
                    raise _LocatedError((*key, name), f"unknown domain '{name}' (known: {', '.join(names)})")
        return self

    @model_validator(mode="after")
    def _sums_fit(self) -> Self:
        if self.objective.weights is not None and sum(self.objective.weights.values()) <= 0:
            raise _LocatedError(("objective", "weights"), "at least one weight must be positive")
        if isinstance(self.start, dict) and abs(sum(self.start.values()) - 1) > 1e-6:
            raise _LocatedError(("start",), f"the shares must sum to 1 (they sum to {sum(self.start.values()):g})")
        fixed = sum(self.constraints.fixed.values())
        if fixed > 1 + 1e-9:
            raise _LocatedError(("constraints", "fixed"), f"fixed shares must sum to at most 1 (they sum to {fixed:g})")
        if len(set(self.arms)) != len(self.arms):
            raise _LocatedError(("arms",), f"arms must be unique (given: {', '.join(self.arms)})")
        return self

    @model_validator(mode="after")
    def _some_mixture_is_allowed(self) -> Self:
        """All rules but repetition caps, which need token counts, are judged before any text is read."""
        try:
            domains = DomainSet(domain.name for domain in self.domains)
        except DomainError as error:
            raise _LocatedError(("domains",), str(error)) from error
        try:
            replace(self.constraints.build(), max_epochs=None).bounds(domains, 1.0)
        except ConstraintError as error:
            raise _LocatedError(("constraints",), str(error)) from error
        return self

    @classmethod
    def load(cls, path: str | Path) -> Recipe:
        """Read a YAML recipe; RecipeError names the file, the line and the key of the first fault."""
        path = Path(path)
        text = _read(path)
        try:
            node = yaml.compose(text, Loader=yaml.SafeLoader)
            data = yaml.safe_load(text)
            _refuse_twice_given_keys(path, node)
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            line = f":{mark.line + 1}" if mark else ""
            problem = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise RecipeError(f"{path}{line}: the recipe must be valid YAML ({problem})") from error
        except ValueError as error:
            raise RecipeError(f"{path}: every value of the recipe must be valid ({error})") from error
        except RecursionError as error:
            raise RecipeError(f"{path}: the recipe must not be nested without end") from error
        if not isinstance(data, dict):
            raise RecipeError(
                f"{path}: a recipe must be a mapping of keys",
                received=type(data).__name__,
                hint="write one with `evermix init FOLDER`",
            )
        try:
            return cls.model_validate({**data, "base": path.resolve().parent})
        except ValidationError as error:
            raise _recipe_error(path, node, error) from error

    @property
    def project_folder(self) -> Path:
        """The project folder, relative to the current folder as the user typed it."""
        return Path(self.project)

    def fingerprint(self) -> str:
        """Hash of everything that can change the result (not the project folder)."""
        content = self.model_dump(mode="json", exclude={"project", "base"})
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: the recipe file must exist", hint="write one with `evermix init FOLDER`") from error
    except IsADirectoryError as error:
        raise RecipeError(
            f"{path}: the recipe must be a file, not a folder", hint=f"write one with `evermix init {path}`"
        ) from error
    except UnicodeDecodeError as error:
        raise RecipeError(
            f"{path}: the recipe must be UTF-8", received=f"byte {error.object[error.start]:#x} at {error.start}"
        ) from error


def _refuse_twice_given_keys(path: Path, node: yaml.Node | None) -> None:
    """YAML keeps the last of two equal keys in silence; we do not."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            if key.value in seen:
                raise RecipeError(f"{path}:{key.start_mark.line + 1}: {key.value}: a key must be given once")
            seen.add(key.value)
            _refuse_twice_given_keys(path, value)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            _refuse_twice_given_keys(path, item)


def _recipe_error(path: Path, node: yaml.Node | None, error: ValidationError) -> RecipeError:
    faults = sorted(
        error.errors(), key=lambda fault: (-len(_line_of(node, _location(fault))[1]), fault["type"] == "missing")
    )
    first = faults[0]
    line, known = _line_of(node, _location(first))
    key = ".".join(str(part) for part in known) or "recipe"
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        return RecipeError(f"{path}:{line}: {key}: unknown key", hint=_close_key(first["loc"]))
    if first["type"] == "missing":
        return RecipeError(f"{path}:{line}: {key}: required key is missing")
    received = first["input"] if isinstance(first["input"], str | int | float | bool) else None
    return RecipeError(f"{path}:{line}: {key}: {message}", received=received)


def _location(fault: Any) -> tuple[int | str, ...]:
    cause = fault.get("ctx", {}).get("error")
    return cause.location if isinstance(cause, _LocatedError) else fault["loc"]


def _line_of(node: yaml.Node | None, location: tuple[int | str, ...]) -> tuple[int, list[int | str]]:
    """Line (from 1) and key path of the deepest YAML node on the way to `location`."""
    line, known = 1, list[int | str]()
    for part in location:
        child, mark = _child(node, part)
        if child is None:
            if isinstance(part, str) and isinstance(node, yaml.MappingNode) and part == location[-1]:
                known.append(part)
            continue
        node, line = child, mark
        known.append(part)
    return line, known


def _child(node: yaml.Node | None, part: int | str) -> tuple[yaml.Node | None, int]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None, 1


def _close_key(location: tuple[int | str, ...]) -> str:
    """Names the keys that are allowed where the unknown one stands."""
    part: Any = Recipe
    for step in location[:-1]:
        if isinstance(step, str) and step in part.model_fields:
            part = _model_in(part.model_fields[step].annotation) or part
    return "allowed: " + ", ".join(key for key in part.model_fields if key != "base")


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        found = _model_in(argument)
        if found is not None:
            return found
    return None
