"""One reading of a study's ledger: its domains, the runs that count, what was asked, the mixture it has."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from evermix.domains import DomainSet
from evermix.errors import ObservationError, ProjectError
from evermix.ledger import Entry, Ledger
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study.carrying import Carried, carry_runs
from evermix.study.eras import Era, Eras
from evermix.study.records import Asked, Foretold, Told, told_runs


class State:
    """What the entries of a ledger say, up to one of them; see `writing` for how more are appended.

    Attributes:
        ledger: they are from.
        entries: in order.
        recipe: as it was first given.
        eras: the history of the domain set.
    """

    def __init__(self, ledger: Ledger, entries: Sequence[Entry]) -> None:
        self.ledger = ledger
        self.entries = tuple(entries)
        definition = next(e for e in self.entries if e.kind == "study")
        self.recipe = StudyRecipe.model_validate(definition.payload["recipe"])
        self.eras = Eras.read(definition, self._of("change"))

    @classmethod
    def load(cls, ledger: Ledger) -> State | None:
        """The state, or None if the ledger holds no study."""
        entries = ledger.entries()
        return cls(ledger, entries) if any(e.kind == "study" for e in entries) else None

    @classmethod
    def begin(cls, ledger: Ledger, domains: DomainSet, recipe: StudyRecipe, n_runs: int | None = None) -> State:
        """Write the definition; where another process was faster, its definition must be the same."""
        rows = [d.as_row for d in domains]
        asked = recipe.model_dump(mode="json", exclude_unset=True)
        definition = {"domains": rows, "recipe": asked, "n_runs": n_runs}
        if not ledger.append("study", "definition", definition):
            found = ledger.find("study", "definition")
            if found is None or found.payload != definition:
                raise ProjectError(f"{ledger.path}: another process began another study in this folder")
        return cls(ledger, ledger.entries())

    def again(self) -> State:
        """The same ledger, read anew."""
        return State(self.ledger, self.ledger.entries())

    def at(self, number: int) -> State:
        """The state as it was after ledger entry `number`.

        Raises:
            ProjectError: if the study had not begun by then, or the ledger has no such entry.
        """
        first = next(e.number for e in self.entries if e.kind == "study")
        last = self.entries[-1].number
        if not first <= number <= last:
            raise ProjectError(
                f"{self.ledger.path}: a past state must be one between entries {first} and {last}", received=number
            )
        return State(self.ledger, [e for e in self.entries if e.number <= number])

    @property
    def era(self) -> Era:
        """The current one."""
        return self.eras.era

    @property
    def domains(self) -> DomainSet:
        """Of the current era."""
        return self.era.domains

    def known_as(self, domains: DomainSet) -> bool:
        """Whether the study is over `domains`: as it began, as it is now, or as it was in between."""
        return any(domains == era.domains for era in self.eras.path())

    @cached_property
    def told(self) -> dict[str, Told]:
        """Runs that count in the current era, by id; those that its updates have stranded too."""
        return told_runs(self.entries, self.eras.line)

    @cached_property
    def told_anywhere(self) -> dict[str, Told]:
        """Runs told on any branch, by id, with all that was told of them."""
        return told_runs(self.entries)

    @cached_property
    def carried(self) -> Carried:
        """The told runs over the domains of the current era, within its space."""
        return carry_runs(self.told.values(), self.eras.path()).within(self.era.space)

    @cached_property
    def asks(self) -> tuple[Entry, ...]:
        """All runs asked for."""
        return tuple(self._of("ask"))

    @property
    def asked_in_era(self) -> list[dict[str, float]]:
        """Shares of the runs that the current era asked for, in order."""
        return [e.payload["shares"] for e in self.asks if e.payload["era"] == self.era.number]

    def asked(self, run_id: str) -> tuple[int, dict[str, float]]:
        """Era and shares of an asked run.

        Raises:
            ObservationError: if it was not asked for.
        """
        for entry in self.asks:
            if entry.key == run_id:
                return entry.payload["era"], entry.payload["shares"]
        raise ObservationError(
            "a told run must have been asked for, or come with its mixture",
            received=run_id,
            hint=f"pending: {', '.join(run.run_id for run in self.pending()) or 'none'}",
        )

    def pending(self) -> list[Asked]:
        """Runs asked for and not told, of the current era and of those that it only released domains of."""
        numbers, era = {self.era.number}, self.era
        while era.is_release and era.parent is not None:
            era = self.eras.eras[era.parent]
            numbers.add(era.number)
        waiting = (e for e in self.asks if e.payload["era"] in numbers and e.key not in self.told)
        return [Asked(e.key, Mixture.from_dict(self.domains, e.payload["shares"])) for e in waiting]

    def foretold(self) -> list[Foretold]:
        """Told runs that were asked for with a prediction."""
        asked = ((e.key, e.payload["predicted"]) for e in self.asks)
        return [
            Foretold(key, predicted, dict(self.told[key].metrics))
            for key, predicted in asked
            if predicted and key in self.told
        ]

    def proposals(self, era: int | None = None) -> list[Entry]:
        """Of one era, by default the current, oldest first."""
        number = self.era.number if era is None else era
        return [e for e in self._of("proposal") if e.payload["era"] == number]

    @property
    def kl_before(self) -> float | None:
        """The pull towards the prior of the last proposal on the current era's line, relative; None if unknown."""
        known = (e.payload["kl"] for era in reversed(self.eras.path()) for e in reversed(self.proposals(era.number)))
        return next((kl for kl in known if kl is not None), None)

    @property
    def mixture(self) -> Mixture | None:
        """The mixture over today's domains; None where runs must decide first. See `mixture_with_key`."""
        return self.mixture_with_key[0]

    @cached_property
    def mixture_with_key(self) -> tuple[Mixture | None, str | None]:
        """The era's last proposal, or what an update without runs has made of the mixture before it; and its key.

        A release keeps the mixture of the era that it widens, until the next proposal.
        """
        era = self.era
        while True:
            proposals = self.proposals(era.number)
            if proposals:
                shares: dict[str, Any] = proposals[-1].payload["mixture"]
                return Mixture.from_dict(era.domains, shares), proposals[-1].key
            if era.carried is not None:
                return era.carried, era.carried_key
            if not era.is_release or era.parent is None:
                return None, None
            era = self.eras.eras[era.parent]

    def _of(self, kind: str) -> list[Entry]:
        return [e for e in self.entries if e.kind == kind]
