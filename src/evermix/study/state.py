"""One reading of a study's ledger: its domains, the runs that count, the mixture it has; and what is appended to it.

Nothing that writes trusts that no other process has written meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

from evermix.deciding.proposing import AssessedProposal
from evermix.domains import DomainSet
from evermix.errors import ObservationError, ProjectError
from evermix.ledger import Entry, Ledger
from evermix.mixture import Mixture
from evermix.recipe.decision import StudyRecipe
from evermix.study.records import MeasuredRun, PlannedTrial, Prediction, Trial, measured_runs, reading
from evermix.study.run_reuse import CarriedRuns, carry_runs
from evermix.study.versions import DomainVersion, Versions


class State:
    """What the entries of a ledger say, up to one of them; the functions below append more.

    Attributes:
        ledger: they are from.
        entries: in order.
        recipe: as it was first given.
        versions: the history of the domain set.
    """

    def __init__(self, ledger: Ledger, entries: Sequence[Entry]) -> None:
        self.ledger = ledger
        self.entries = tuple(entries)
        definition = next(e for e in self.entries if e.kind == "study")
        with reading(definition):
            self.recipe = StudyRecipe.model_validate(definition.payload["recipe"])
        self.versions = Versions.read(definition, self._of("change"))

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
    def version(self) -> DomainVersion:
        """The current one."""
        return self.versions.version

    @property
    def domains(self) -> DomainSet:
        """Of the current version."""
        return self.version.domains

    def known_as(self, domains: DomainSet) -> bool:
        """Whether the study is over `domains`: as it began, as it is now, or as it was in between."""
        return any(domains == version.domains for version in self.versions.path())

    @cached_property
    def measured(self) -> dict[str, MeasuredRun]:
        """Runs that count in the current version, by id; those that its updates have stranded too."""
        return measured_runs(self.entries, self.versions.line)

    @cached_property
    def measured_anywhere(self) -> dict[str, MeasuredRun]:
        """Runs told on any branch, by id, with all that was told of them."""
        return measured_runs(self.entries)

    @cached_property
    def carried(self) -> CarriedRuns:
        """The told runs over the domains of the current version, within its space."""
        return carry_runs(self.measured.values(), self.versions.path()).within(self.version.space)

    @cached_property
    def asks(self) -> tuple[Entry, ...]:
        """All runs asked for."""
        return tuple(self._of("ask"))

    @property
    def asked_in_version(self) -> list[dict[str, float]]:
        """Shares of the runs that the current version asked for, in order."""
        return [e.payload["shares"] for e in self.asks if e.payload["version"] == self.version.number]

    def asked(self, run_id: str) -> tuple[int, dict[str, float]]:
        """Version and shares of an asked run.

        Raises:
            ObservationError: if it was not asked for.
        """
        for entry in self.asks:
            if entry.key == run_id:
                return entry.payload["version"], entry.payload["shares"]
        raise ObservationError(
            "a told run must have been asked for, or come with its mixture",
            received=run_id,
            hint=f"pending: {', '.join(run.run_id for run in self.pending()) or 'none'}",
        )

    def pending(self) -> list[Trial]:
        """Runs asked for and not told, of the current version and of those that it only recomputed domains of."""
        numbers, version = {self.version.number}, self.version
        while version.is_recomputation and version.parent is not None:
            version = self.versions.versions[version.parent]
            numbers.add(version.number)
        waiting = (e for e in self.asks if e.payload["version"] in numbers and e.key not in self.measured)
        return [Trial(e.key, Mixture.from_dict(self.domains, e.payload["shares"])) for e in waiting]

    def predictions(self) -> list[Prediction]:
        """Told runs that were asked for with a prediction."""
        asked = ((e.key, e.payload["predicted"]) for e in self.asks)
        return [
            Prediction(key, predicted, dict(self.measured[key].metrics))
            for key, predicted in asked
            if predicted and key in self.measured
        ]

    def proposals(self, version: int | None = None) -> list[Entry]:
        """Of one version, by default the current, oldest first."""
        number = self.version.number if version is None else version
        return [e for e in self._of("proposal") if e.payload["version"] == number]

    @property
    def kl_before(self) -> float | None:
        """The pull towards the prior of the last proposal on the current version's line, relative; None if unknown."""
        known = (
            e.payload["kl"]
            for version in reversed(self.versions.path())
            for e in reversed(self.proposals(version.number))
        )
        return next((kl for kl in known if kl is not None), None)

    @property
    def mixture(self) -> Mixture | None:
        """The mixture over today's domains; None where runs must decide first. See `mixture_with_key`."""
        return self.mixture_with_key[0]

    @cached_property
    def mixture_with_key(self) -> tuple[Mixture | None, str | None]:
        """The version's last proposal, or what an update without runs has made of the mixture before it; and its key.

        A recomputation keeps the mixture of the version that it widens, until the next proposal.
        """
        version = self.version
        while True:
            proposals = self.proposals(version.number)
            if proposals:
                shares: dict[str, Any] = proposals[-1].payload["mixture"]
                return Mixture.from_dict(version.domains, shares), proposals[-1].key
            if version.carried is not None:
                return version.carried, version.carried_key
            if not version.is_recomputation or version.parent is None:
                return None, None
            version = self.versions.versions[version.parent]

    def _of(self, kind: str) -> list[Entry]:
        return [e for e in self.entries if e.kind == kind]


_SAME = 1e-9


def positive_shares(mixture: Mixture) -> dict[str, float]:
    """Domain -> share, zeros left out."""
    return {name: share for name, share in mixture.as_dict.items() if share > 0}


def write_ask(state: State, choose: Callable[[int], PlannedTrial | None]) -> Trial | None:
    """Append the version's next run, and return it; None if `choose` has none to give.

    Args:
        choose: position, the number of runs that the version has asked for -> the next run. One that it has asked for
            already, as another process may have, is passed over.

    Raises:
        ProjectError: if another process has changed the domains meanwhile.
    """
    version, passed_over = state.version.number, 0
    while True:
        if state.version.number != version:
            raise _changed_meanwhile(state)
        planned = choose(len(state.asked_in_version) + passed_over)
        if planned is None:
            return None
        shares = positive_shares(planned.mixture)
        if shares in state.asked_in_version:
            passed_over += 1
            continue
        predicted = None if planned.predicted is None else dict(planned.predicted)
        run_id = f"run-{len(state.asks):04d}"
        if state.ledger.append("ask", run_id, {"version": version, "shares": shares, "predicted": predicted}):
            return Trial(run_id, planned.mixture)
        state = state.again()


def write_tell(state: State, told: MeasuredRun, *, mixture_given: bool) -> None:
    """Append a measured run, or what is new of a run told before.

    Args:
        mixture_given: whether the shares come from the caller, and must agree with those told before.

    Raises:
        ObservationError: if the run was told otherwise, or on a branch that was undone.
    """
    while True:
        known = state.measured_anywhere.get(told.run_id)
        if known is None:
            if state.ledger.append("tell", told.run_id, told.as_dict):
                return
        else:
            if mixture_given:
                _check_mixture(state, known, told)
            known.merged(told)
            news = _news(state, known, told)
            if news is None:
                return
            number = sum(e.kind == "retell" and e.payload["run_id"] == told.run_id for e in state.entries) + 1
            if state.ledger.append("retell", f"{told.run_id}/{number}", news):
                return
        state = state.again()


def write_change(state: State, what: str, record: Mapping[str, Any]) -> State:
    """Append an update, a recomputation or an undo; the state after it.

    Raises:
        ProjectError: if another process has changed the domains meanwhile.
    """
    if not state.ledger.append("change", f"{state.versions.n_changes + 1:04d}", {"what": what, **record}):
        raise _changed_meanwhile(state)
    return state.again()


def write_proposal(state: State, proposed: AssessedProposal) -> None:
    """Append a proposal with the runs and the recipe that it rests on, unless the last one is the very same."""
    version = state.version.number
    record: dict[str, Any] = {
        "version": version,
        "mixture": dict(proposed.mixture.as_dict),
        "runs": list(proposed.fitted.observations.run_ids or ()),
        "recipe": proposed.recipe.model_dump(mode="json", exclude_unset=True),
        "kl": proposed.kl.relative,
    }
    while True:
        before = state.proposals(version)
        if before and before[-1].payload == record:
            return
        if state.ledger.append("proposal", f"{version}-{len(before):04d}", record):
            return
        state = state.again()


def _news(state: State, known: MeasuredRun, told: MeasuredRun) -> dict[str, Any] | None:
    """The part of `told` that does not count in the current version yet; None if all of it does."""
    visible = state.measured.get(told.run_id)
    if visible is None:
        raise ObservationError(
            f"run '{told.run_id}' was told in version {known.version}, which was undone or is on another branch",
            hint="tell it under another name, with its mixture",
        )
    metrics = {name: value for name, value in told.metrics.items() if name not in visible.metrics}
    errors = {name: value for name, value in told.standard_errors.items() if name not in visible.standard_errors}
    n_tokens = told.n_tokens if visible.n_tokens is None else None
    n_parameters = told.n_parameters if visible.n_parameters is None else None
    if not metrics and not errors and n_tokens is None and n_parameters is None:
        return None
    return {
        "run_id": told.run_id,
        "version": state.version.number,
        "metrics": metrics,
        "standard_errors": errors,
        "n_tokens": n_tokens,
        "n_parameters": n_parameters,
    }


def _check_mixture(state: State, known: MeasuredRun, told: MeasuredRun) -> None:
    """The mixture told before, over today's domains where the run is older than they are."""
    before: Mapping[str, float] = known.shares
    if known.version != told.version:
        rows = carry_runs([known], state.versions.path()).rows if known.version in state.versions.line else ()
        before = rows[0][1] if rows else {}
    names = {*before, *told.shares}
    if any(abs(before.get(name, 0.0) - told.shares.get(name, 0.0)) > _SAME for name in names):
        raise ObservationError(
            f"run '{told.run_id}' was told already, with another mixture, and a ledger is never changed",
            received=dict(told.shares),
            hint="tell a repeated run under a name of its own, or leave the mixture out to add metrics",
        )


def _changed_meanwhile(state: State) -> ProjectError:
    return ProjectError(
        f"{state.ledger.path}: another process has changed the domains of this study", hint="look at it first"
    )
