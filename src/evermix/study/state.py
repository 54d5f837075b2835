"""What a study's ledger says: domains and their updates, runs asked and told, proposals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError, ProjectError
from evermix.ledger import Entry, Ledger, content_hash
from evermix.mixture import Mixture
from evermix.observations import LeftOut, Observations
from evermix.recipe.study import StudyRecipe
from evermix.study.domain_update import DomainUpdate, carry_through


@dataclass(frozen=True)
class Told:
    """One measured run as the ledger keeps it; shares are over the domains of its day, zeros left out."""

    run_id: str
    shares: dict[str, float]
    metrics: dict[str, float]
    standard_errors: dict[str, float]
    n_tokens: int | None


@dataclass(frozen=True)
class Planned:
    """A run to be asked for, with the metrics that the law foretells; None where there is no law yet."""

    mixture: Mixture
    foretold: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Foretold:
    """A run's metrics as the law foretold them when it was asked for, and as they were measured."""

    run_id: str
    predicted: dict[str, float]
    measured: dict[str, float]


class State:
    """One reading of the ledger; the `write_` methods append, and never trust that nobody else did meanwhile."""

    def __init__(self, ledger: Ledger, entries: list[Entry]) -> None:
        self.ledger = ledger
        self._definition = next(e.payload for e in entries if e.kind == "study")
        self._asks = [e for e in entries if e.kind == "ask"]
        self._tells = [e for e in entries if e.kind == "tell"]
        self._updates = [e for e in entries if e.kind == "update"]
        self.recipe = StudyRecipe.model_validate(self._definition["recipe"])
        self._first = DomainSet(Domain(*row) for row in self._definition["domains"])
        self._changes = [DomainUpdate.from_dict(e.payload) for e in self._updates]

    @classmethod
    def load(cls, ledger: Ledger) -> State | None:
        """The state, or None if the ledger holds no study."""
        entries = ledger.entries()
        return cls(ledger, entries) if any(e.kind == "study" for e in entries) else None

    @classmethod
    def begin(cls, ledger: Ledger, domains: DomainSet, recipe: StudyRecipe) -> State:
        """Write the definition; where another process was faster, its definition must be the same."""
        rows = [[d.name, d.n_tokens, d.fingerprint] for d in domains]
        definition = {"domains": rows, "recipe": recipe.model_dump(mode="json", exclude_unset=True)}
        if not ledger.append("study", "definition", definition):
            found = ledger.find("study", "definition")
            if found is None or found.payload != definition:
                raise ProjectError(f"{ledger.path}: another process began another study in this folder")
        return cls(ledger, ledger.entries())

    @property
    def domains(self) -> DomainSet:
        """After all updates."""
        domains = self._first
        for change in self._changes:
            domains = change.apply(domains)
        return domains

    def known_as(self, domains: DomainSet) -> bool:
        """Whether the study is over `domains`: as it began, or as it is now."""
        return domains in (self._first, self.domains)

    @property
    def era(self) -> int:
        """Number of updates so far; every era has a design of its own."""
        return len(self._changes)

    @property
    def n_asked(self) -> int:
        """Runs asked for in this era."""
        return sum(e.payload["era"] == self.era for e in self._asks)

    @property
    def n_told(self) -> int:
        """Runs told so far, in all eras."""
        return len(self._tells)

    def asked_shares(self, run_id: str) -> dict[str, float] | None:
        """What an asked run was to be trained on."""
        return next((e.payload["shares"] for e in self._asks if e.key == run_id), None)

    def pending(self) -> list[tuple[str, Mixture]]:
        """Runs of this era that were asked for and not told."""
        told = {e.key for e in self._tells}
        waiting = (e for e in self._asks if e.payload["era"] == self.era and e.key not in told)
        return [(e.key, Mixture.from_dict(self.domains, e.payload["shares"])) for e in waiting]

    def write_ask(self, choose: Callable[[int], Planned | None]) -> tuple[str, Mixture] | None:
        """Append the era's next asked run and return its name and mixture; None if `choose` has none to give.

        Args:
            choose: position within the era -> the run to make. Where another process takes a position first, the
                next one is tried, so that no two processes make the same run.
        """
        number = len(self._asks)
        while True:
            planned = choose(number - self._asked_before_era)
            if planned is None:
                return None
            shares = {name: share for name, share in planned.mixture.as_dict.items() if share > 0}
            foretold = None if planned.foretold is None else dict(planned.foretold)
            run_id = f"run-{number:04d}"
            if self.ledger.append("ask", run_id, {"era": self.era, "shares": shares, "predicted": foretold}):
                return run_id, planned.mixture
            number += 1

    @property
    def _asked_before_era(self) -> int:
        return sum(e.payload["era"] < self.era for e in self._asks)

    def write_tell(self, told: Told) -> None:
        """Append a measured run.

        Raises:
            ObservationError: if the run was told with something else.
        """
        payload = {**asdict(told), "era": self.era}
        if self.ledger.append("tell", told.run_id, payload):
            return
        found = self.ledger.find("tell", told.run_id)
        if found is not None and {**found.payload, "era": 0} != {**payload, "era": 0}:
            raise ObservationError(
                f"run '{told.run_id}' was told already, with other values, and a ledger is never changed",
                received=told.metrics,
                hint="tell a repeated run under a name of its own, with its mixture",
            )

    def write_update(self, change: DomainUpdate) -> DomainSet:
        """Append an update after checking it; the domains after it.

        Raises:
            ProjectError: if another process has updated the study meanwhile.
        """
        after = change.apply(self.domains)
        if not self.ledger.append("update", f"{self.era + 1:04d}", change.as_dict):
            raise ProjectError(f"{self.ledger.path}: another process has updated the study", hint="look at it first")
        return after

    def write_proposal(self, mixture: Mapping[str, float], recipe: StudyRecipe) -> None:
        """Append a proposal with the runs and the recipe that it rests on, unless the very same is there."""
        record: dict[str, Any] = {
            "mixture": dict(mixture),
            "runs": [e.key for e in self._tells],
            "recipe": recipe.model_dump(mode="json", exclude_unset=True),
        }
        self.ledger.append("proposal", content_hash(record), record)

    def foretold(self) -> list[Foretold]:
        """Told runs that were asked for with a prediction."""
        measured = {e.key: e.payload["metrics"] for e in self._tells}
        asked = ((e.key, e.payload["predicted"]) for e in self._asks)
        return [Foretold(key, predicted, measured[key]) for key, predicted in asked if predicted and key in measured]

    def observations(self, recipe: StudyRecipe) -> tuple[Observations, tuple[LeftOut, ...]]:
        """All told runs over today's domains.

        Raises:
            ObservationError: if no run was told, or none is left after the updates.
        """
        rows: list[tuple[Told, dict[str, float]]] = []
        stranded: list[LeftOut] = []
        for entry in self._tells:
            told = Told(**{k: v for k, v in entry.payload.items() if k != "era"})
            carried = carry_through(told.shares, self._changes[entry.payload["era"] :])
            if isinstance(carried, str):
                stranded.append(LeftOut("run", told.run_id, carried))
            else:
                rows.append((told, carried))
        if not rows:
            raise ObservationError(
                "a study must have runs to learn from", received=f"{len(self._tells)} told", hint="ask() and tell()"
            )
        return _observations(self.domains, rows, recipe), tuple(stranded)


def _observations(domains: DomainSet, rows: list[tuple[Told, dict[str, float]]], recipe: StudyRecipe) -> Observations:
    metrics = tuple(dict.fromkeys(name for told, _ in rows for name in told.metrics))
    values = np.array([[told.metrics.get(name, np.nan) for name in metrics] for told, _ in rows])
    errors = np.array([[told.standard_errors.get(name, np.nan) for name in metrics] for told, _ in rows])
    tokens = np.array([np.nan if told.n_tokens is None else float(told.n_tokens) for told, _ in rows])
    complete = np.isfinite(errors[np.isfinite(values)]).all()
    return Observations(
        domains,
        np.array([[shares.get(name, 0.0) for name in domains.names] for _, shares in rows]),
        metrics,
        values,
        errors if complete else None,
        tuple(told.run_id for told, _ in rows),
        tokens if np.isfinite(tokens).all() else None,
        maximised=recipe.objective.maximised(metrics),
    )
