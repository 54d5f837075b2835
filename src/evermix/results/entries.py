"""What the ledger's entries hold, as far as status, log and the page of an unfinished run read them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from evermix.errors import ProjectError
from evermix.results.compute import Compute
from evermix.results.record import Shares


class EntryRecord(BaseModel):
    """Base of what an entry holds: frozen, and keys that nobody reads here are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _without_none(cls, content: Any) -> Any:
        """A key without a value is one that was not given."""
        return {k: v for k, v in content.items() if v is not None} if isinstance(content, dict) else content


class Spent(EntryRecord):
    """What any entry may have cost: its own numbers, or a compute by part."""

    flops: float | None = None
    seconds: float | None = None
    compute: Compute | None = None


class NamedDomain(EntryRecord):
    """A domain of the recipe."""

    name: str = "?"


class PhaseEntry(EntryRecord):
    """A phase of the recipe, with the domains that it adds."""

    name: str = "?"
    add: tuple[NamedDomain, ...] = ()


class TrainingEntry(EntryRecord):
    """How long the recipe trains."""

    tokens: float | None = None


class RecipeEntry(EntryRecord):
    """A recipe, as far as the log tells it."""

    method: str = "op-mix"
    seed: int | None = None
    domains: tuple[NamedDomain, ...] = ()
    phases: tuple[PhaseEntry, ...] = ()
    arms: tuple[str, ...] = ()
    training: TrainingEntry = TrainingEntry()


class CorpusDomain(EntryRecord):
    """A domain's text."""

    name: str
    n_tokens: int | None = Field(default=None, validation_alias=AliasChoices("n_tokens", "train_n_tokens"))


class CorpusEntry(EntryRecord):
    """The text of a run, and the folder of its tokens."""

    domains: tuple[CorpusDomain, ...] = ()
    store: str | None = None


class KnownTextEntry(EntryRecord):
    """The text of a domain: what was read."""

    n_documents: int | None = None
    n_bytes: int | None = None


class TextsEntry(EntryRecord):
    """Texts that are new to the project, or otherwise than before."""

    domains: dict[str, KnownTextEntry] = {}
    before: dict[str, KnownTextEntry] = {}


class SegmentEntry(EntryRecord):
    """A training: what was trained, on which rows of its phase, on what mixture."""

    label: str = "?"
    phase: str = ""
    arm: str = ""
    start_row: int | None = None
    end_row: int | None = None
    mixture: Shares = {}
    compute: Compute = Compute()
    part: str = "training"


class PhaseBegunEntry(EntryRecord):
    """The phases up to one that an arm begins."""

    path: tuple[str, ...] = ()


class OutcomeEntry(EntryRecord):
    """What came of a decision."""

    label: str = "?"
    predicted_loss_nats: dict[str, float] = {}
    realised_loss_nats: dict[str, float] = {}


class ProbeEntry(EntryRecord):
    """A probe of one component."""

    component: str = "?"
    steps: int | None = None


class ProxyEntry(EntryRecord):
    """A proxy that was trained and scored, or scored anew, and the id of its folder."""

    proxy: str = ""
    metrics: dict[str, float] = {}


class FailureEntry(EntryRecord):
    """A proxy that failed and was given up."""

    run: str
    reason: str
    log: str


class StudyEntry(EntryRecord):
    """The definition of a study: its domains, name first."""

    domains: tuple[tuple[Any, ...], ...] = ()


class AskEntry(EntryRecord):
    """A run that was asked for."""

    shares: Shares = {}


class TellEntry(EntryRecord):
    """A measured run."""

    run_id: str = "?"
    metrics: dict[str, float] = {}


class ProposalEntry(EntryRecord):
    """A mixture that a study proposed, and the runs it stands on."""

    runs: tuple[Any, ...] = ()
    mixture: Shares = {}


class DatasetEntry(EntryRecord):
    """A dataset by its path."""

    path: str = "?"


class SourceEntry(EntryRecord):
    """Where the text of a domain comes from."""

    files: tuple[str, ...] | None = None
    registry: str | None = None
    dataset: DatasetEntry = DatasetEntry()


class FixedRatioEntry(EntryRecord):
    """Domains that keep their proportions."""

    shares: Shares = {}


class ChangeEntry(EntryRecord):
    """An update, a recomputation or an undo of the domain set."""

    what: str
    to: int | None = None
    update: dict[str, Any] | None = None
    strategy: str = ""
    n_runs: int | None = None
    carried: Any = None
    fixed_ratio: FixedRatioEntry | None = None
    recomputed: tuple[str, ...] = ()


class LiveStatus(EntryRecord):
    """`status.json`: what the running process says of itself.

    Attributes:
        step, total_steps, unit: of the part that is under way.
        place: which arm, order and phase that part belongs to.
        share_of_run: of the work of all arms.
        seconds_left: of it, if that can be told.
    """

    part: str | None = None
    detail: str | None = None
    step: int | None = None
    total_steps: int | None = None
    unit: str | None = None
    tokens_per_second: float | None = None
    seconds_left: float | None = None
    updated_at: str | None = None
    pid: int | None = None
    place: str | None = None
    share_of_run: float | None = None

    @field_validator("updated_at")
    @classmethod
    def _is_a_time(cls, value: str | None) -> str | None:
        if value is not None:
            datetime.fromisoformat(value)
        return value


Kept = TypeVar("Kept", bound=BaseModel)


def read_as(kind: type[Kept], payload: dict[str, Any], where: str) -> Kept:
    """The typed content of an entry.

    Raises:
        ProjectError: if it has another shape, as in a project that another evermix wrote.
    """
    try:
        return kind.model_validate(payload)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ProjectError(
            f"{where}: {field}: {first['msg']}; the project is of another evermix, or damaged",
            hint="run the recipe into another project folder, or read it with the evermix that wrote it",
        ) from error
