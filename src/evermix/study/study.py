"""Study: ask for mixtures to measure, tell what was measured, propose a mixture, update the domain set.

The whole decision for people with their own trainer. All state is in the ledger of a project folder, append-only: a
study can be closed, killed and opened again, and several processes may ask and tell at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evermix.designs.settled import Settledness
from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError, ProjectError
from evermix.ledger import Project
from evermix.mixture import Mixture
from evermix.observations import LeftOut, Observations
from evermix.recipe.study import StudyRecipe
from evermix.study.domain_update import DomainUpdate
from evermix.study.fitting import FittedLaw, fit
from evermix.study.next_runs import first_design, next_mixtures, settled
from evermix.study.proposing import Progress, Recommendation, propose
from evermix.study.state import Foretold, Planned, State, Told

_FEWEST_TOLD = 4  # runs that an adaptive design must know
Domains = DomainSet | Mapping[str, int | None] | Sequence[str]


@dataclass(frozen=True)
class Asked:
    """A run to be made: train a model on `mixture`, measure it, and `tell` under `run_id`."""

    run_id: str
    mixture: Mixture


class Study:
    """A decision that grows with its runs.

    Args:
        folder: the project folder; made if it is not there.
        domains: names, or name -> tokens available, or a DomainSet. Needed the first time only.
        recipe: what is asked of the runs; the first one given is kept in the folder, a later one holds for this object.

    Raises:
        ProjectError: if the folder holds a study over other domains, or none while `domains` is not given.
    """

    def __init__(self, folder: str | Path, domains: Domains | None = None, recipe: StudyRecipe | None = None) -> None:
        path = Path(folder)
        if domains is None and not (path / "ledger.sqlite").exists():
            raise ProjectError(
                f"{path}: a new study must be given its domains", hint="Study(folder, {'web': 10**12, ...})"
            )
        self.project = Project(path)
        stored = State.load(self.project.ledger)
        if stored is None:
            if domains is None:
                raise ProjectError(f"{path}: the project must hold a study", hint="give its domains to begin one")
            stored = State.begin(self.project.ledger, _domain_set(domains), recipe or StudyRecipe())
        elif domains is not None and not stored.known_as(_domain_set(domains)):
            raise ProjectError(
                f"{path}: the study must be over the domains it began with or was updated to",
                received=", ".join(_domain_set(domains).names),
                hint="leave `domains` out, and change them with update()",
            )
        self.recipe = recipe or stored.recipe

    @property
    def domains(self) -> DomainSet:
        """The domains after all updates."""
        return self._state().domains

    def ask(self, n: int = 1) -> list[Asked]:
        """The next mixtures to measure: first a Dirichlet swarm around the prior, then those worth most.

        Every call gives new runs, also in several processes; what was asked and never told stays in `pending`.

        Raises:
            ObservationError: if n < 1, or the first swarm is used up and fewer than 4 of its runs are told.
        """
        if n < 1:
            raise ObservationError("the number of runs to ask for must be at least 1", received=n)
        state = self._state()
        design = first_design(state.domains, self.recipe, era=state.era)
        worth_most = self._worth_most(state, n - max(len(design) - state.n_asked, 0))
        asked: list[Asked] = []
        while len(asked) < n:
            given = self._state().write_ask(functools.partial(_planned, design, worth_most))
            if given is None:  # other processes took what was left of the design
                worth_most = self._worth_most(self._state(), n - len(asked))
                continue
            asked.append(Asked(*given))
        return asked

    def _worth_most(self, state: State, n: int) -> Iterator[Planned]:
        """The next n runs by the law of the told ones; none if n < 1."""
        if n < 1:
            return iter(())
        if state.n_told < _FEWEST_TOLD:
            raise ObservationError(
                f"runs beyond the first swarm can be asked for once at least {_FEWEST_TOLD} are told",
                received=f"{state.n_told} told, {len(state.pending())} pending",
                hint=f"ask for {n} less, or tell what is measured",
            )
        fitted = self.fit()
        pending = [mixture for _, mixture in state.pending()]
        mixtures = next_mixtures(fitted, n, pending, seed=state.n_asked)
        metrics = fitted.observations.metrics
        return iter([Planned(m, dict(zip(metrics, fitted.predict(m).tolist(), strict=True))) for m in mixtures])

    def tell(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        mixture: Mixture | Mapping[str, float] | None = None,
        standard_errors: Mapping[str, float] | None = None,
        n_tokens: int | None = None,
    ) -> None:
        """Record a measured run. Telling the same twice is harmless; telling something else is an error.

        Args:
            run_id: of an asked run, or any new name together with `mixture`.
            metrics: metric -> value; a metric may be missing in some runs.
            mixture: what the run was really trained on, if it was not asked for or came out otherwise.
            standard_errors: metric -> standard error, in the metric's unit.
            n_tokens: the run's token budget.

        Raises:
            ObservationError: if a value is not a finite number, the mixture is unknown, or the run was told otherwise.
        """
        state = self._state()
        shares = state.asked_shares(run_id) if mixture is None else self._shares(mixture)
        if shares is None:
            raise ObservationError(
                "a told run must have been asked for, or come with its mixture",
                received=run_id,
                hint=f"pending: {', '.join(a.run_id for a in self.pending()) or 'none'}",
            )
        told = Told(run_id, shares, _numbers(run_id, metrics), _numbers(run_id, standard_errors or {}), n_tokens)
        state.write_tell(told)

    def pending(self) -> list[Asked]:
        """Runs that were asked for and not told yet."""
        return [Asked(run_id, mixture) for run_id, mixture in self._state().pending()]

    def observations(self) -> tuple[Observations, tuple[LeftOut, ...]]:
        """All told runs over the domains of today, and those that an update has stranded."""
        return self._state().observations(self.recipe)

    def fit(self) -> FittedLaw:
        """The law of all told runs."""
        observations, stranded = self.observations()
        return fit(observations, self.recipe, stranded)

    def propose(self, progress: Progress | None = None) -> Recommendation:
        """The mixture to train on, with its evidence; the ledger keeps it, once per state of knowledge."""
        recommendation = propose(self.fit(), progress=progress)
        self._state().write_proposal(recommendation.mixture.as_dict, recommendation.recipe)
        return recommendation

    def foretold(self) -> list[Foretold]:
        """What the law said of runs before they were made, beside what was measured: an honest record."""
        return self._state().foretold()

    def settled(self, n_resamples: int = 30) -> Settledness:
        """How much more runs could still change the mixture; see designs.StoppingRule."""
        return settled(self.fit(), n_resamples)

    def update(
        self,
        add: Mapping[str, int | None] | Sequence[str] = (),
        remove: Sequence[str] = (),
        revise: Mapping[str, int | None] | Sequence[str] = (),
        partition: Mapping[str, Mapping[str, int | None]] | None = None,
    ) -> DomainSet:
        """Change the domain set; runs that still say something are carried over, the others are listed as left out.

        Args:
            add: new domains, with their tokens if known.
            remove: domains that are gone.
            revise: domains whose content changed, with their tokens now.
            partition: domain -> its parts with their tokens.

        Raises:
            DomainError: if a name is unknown, taken or touched twice.
        """
        change = DomainUpdate(_counts(add), tuple(remove), _counts(revise), dict(partition or {}))
        return self._state().write_update(change)

    def _state(self) -> State:
        state = State.load(self.project.ledger)
        if state is None:
            raise ProjectError(f"{self.project.folder}: the study must be in the ledger", hint="begin it anew")
        return state

    def _shares(self, mixture: Mixture | Mapping[str, float]) -> dict[str, float]:
        given = mixture if isinstance(mixture, Mixture) else Mixture.from_dict(self.domains, mixture)
        return {name: share for name, share in given.as_dict.items() if share > 0}


def _planned(design: Sequence[Mixture], worth_most: Iterator[Planned], position: int) -> Planned | None:
    """The run at a position of an era: of the first swarm, and past its end one of those worth most."""
    return Planned(design[position]) if position < len(design) else next(worth_most, None)


def _domain_set(domains: Domains) -> DomainSet:
    if isinstance(domains, DomainSet):
        return domains
    return DomainSet(Domain(name, n_tokens) for name, n_tokens in _counts(domains).items())


def _counts(domains: Mapping[str, int | None] | Sequence[str]) -> dict[str, int | None]:
    return dict(domains) if isinstance(domains, Mapping) else dict.fromkeys(domains)


def _numbers(run_id: str, values: Mapping[str, float]) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ObservationError(
                f"'{name}' of run '{run_id}' must be a finite number", received=value, hint="leave a missing metric out"
            )
    return {name: float(value) for name, value in values.items()}
