"""What a study's ledger holds of runs: asked, told, foretold; and the shape that its entries must have."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from evermix.errors import ObservationError, ProjectError
from evermix.ledger import Entry
from evermix.mixture import Mixture


@dataclass(frozen=True)
class Trial:
    """A run to be made: train a model on `mixture`, measure it, and `tell` under `run_id`."""

    run_id: str
    mixture: Mixture


@dataclass(frozen=True)
class PlannedTrial:
    """A run to be asked for, with the metrics that the law foretells; None where there is no law yet."""

    mixture: Mixture
    predicted: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Prediction:
    """A run's metrics as the law foretold them when it was asked for, and as they were measured."""

    run_id: str
    predicted: dict[str, float]
    measured: dict[str, float]


@dataclass(frozen=True)
class MeasuredRun:
    """One measured run.

    Attributes:
        version: whose domains the shares are over.
        shares: domain -> share, zeros left out.
        n_tokens, n_parameters: the run's token budget, and the size of its model; None when unknown.
    """

    run_id: str
    version: int
    shares: Mapping[str, float]
    metrics: Mapping[str, float]
    standard_errors: Mapping[str, float]
    n_tokens: int | None = None
    n_parameters: int | None = None

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for the ledger."""
        parts = {name: dict(getattr(self, name)) for name in ("shares", "metrics", "standard_errors")}
        amounts = {"n_tokens": self.n_tokens, "n_parameters": self.n_parameters}
        return {"run_id": self.run_id, "version": self.version, **parts, **amounts}

    def merged(self, other: MeasuredRun) -> MeasuredRun:
        """This run with what another telling adds to it.

        Raises:
            ObservationError: if a value that both give differs.
        """
        for name in ("metrics", "standard_errors"):
            mine, theirs = getattr(self, name), getattr(other, name)
            for metric in mine:
                if metric in theirs and theirs[metric] != mine[metric]:
                    raise self._otherwise(f"{metric} = {theirs[metric]:g} instead of {mine[metric]:g}")
        if None not in (self.n_tokens, other.n_tokens) and self.n_tokens != other.n_tokens:
            raise self._otherwise(f"{other.n_tokens} tokens instead of {self.n_tokens}")
        if None not in (self.n_parameters, other.n_parameters) and self.n_parameters != other.n_parameters:
            raise self._otherwise(f"{other.n_parameters} parameters instead of {self.n_parameters}")
        return replace(
            self,
            metrics={**self.metrics, **other.metrics},
            standard_errors={**self.standard_errors, **other.standard_errors},
            n_tokens=self.n_tokens if other.n_tokens is None else other.n_tokens,
            n_parameters=self.n_parameters if other.n_parameters is None else other.n_parameters,
        )

    def _otherwise(self, what: str) -> ObservationError:
        return ObservationError(
            f"run '{self.run_id}' was told already, with other values, and a ledger is never changed",
            received=what,
            hint="tell a repeated run under a name of its own, with its mixture",
        )


def measured_runs(entries: Iterable[Entry], versions: frozenset[int] | None = None) -> dict[str, MeasuredRun]:
    """Run id -> the run with all that was told of it; within `versions`, or everywhere if None.

    A run counts where its mixture is over the domains of one of the versions. What was told of it later (kind "retell")
    counts if it was told in one of them: an undone update takes its metrics along.
    """
    found: dict[str, MeasuredRun] = {}
    for entry in entries:
        record = entry.payload
        if entry.kind == "tell" and (versions is None or record["version"] in versions):
            found[record["run_id"]] = MeasuredRun(**record)
        elif (
            entry.kind == "retell" and record["run_id"] in found and (versions is None or record["version"] in versions)
        ):
            first = found[record["run_id"]]
            found[first.run_id] = first.merged(
                MeasuredRun(**{**record, "shares": first.shares, "version": first.version})
            )
    return found


# ---- the shape of entries

Numbers = dict[str, float]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _Ask(_Entry):
    version: int
    shares: Numbers
    predicted: Numbers | None


class _Retell(_Entry):
    model_config = ConfigDict(extra="forbid")  # MeasuredRun has these fields and no others

    run_id: str
    version: int
    metrics: Numbers
    standard_errors: Numbers
    n_tokens: int | None
    n_parameters: int | None = None


class _Tell(_Retell):
    shares: Numbers


class _Proposal(_Entry):
    version: int
    mixture: Numbers
    runs: list[str]
    recipe: dict[str, Any]
    kl: float | None


class _Definition(_Entry):
    domains: list[list[str | int | None]]
    recipe: dict[str, Any]
    n_runs: int | None


class _Change(_Entry):
    what: str
    n_runs: int | None = None
    measured: list[str] = []
    recomputed: list[str] = []


_SHAPES: Mapping[str, type[_Entry]] = {
    "study": _Definition,
    "ask": _Ask,
    "tell": _Tell,
    "retell": _Retell,
    "proposal": _Proposal,
    "change": _Change,
}


def check_shapes(entries: Iterable[Entry]) -> None:
    """ProjectError, naming the entry and its field, unless runs and proposals have the shape that a study writes."""
    for entry in entries:
        if entry.kind in _SHAPES:
            with reading(entry):
                _SHAPES[entry.kind].model_validate(entry.payload)


@contextmanager
def reading(entry: Entry) -> Iterator[None]:
    """Within the block an entry is taken apart: whatever is not there, or of another type, is the entry's fault."""
    try:
        yield
    except ValidationError as error:
        first = error.errors()[0]
        raise _misshapen(entry, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise _misshapen(entry, f"{type(error).__name__}: {error}") from error


def _misshapen(entry: Entry, what: str) -> ProjectError:
    return ProjectError(
        f"ledger entry {entry.number} ({entry.kind}) must have the shape that a study writes ({what})",
        hint="the project is of another evermix, or was changed by hand: read it with the one that wrote it, or move "
        "ledger.sqlite away and run the same command again: finished runs are kept",
    )
