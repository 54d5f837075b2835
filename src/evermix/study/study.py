"""Study: ask for mixtures to measure, tell what was measured, propose a mixture, update the domain set.

The whole decision for people with their own trainer. All state is in the ledger of a project folder, append-only: a
study can be closed, killed and opened again, and several processes may ask and tell at once.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from evermix.deciding.by_law import Progress
from evermix.deciding.fitting import FittedLaw
from evermix.deciding.next_runs import DesignRequest, first_design, next_mixtures
from evermix.deciding.proposing import AssessedProposal
from evermix.designs.settled import Settledness
from evermix.domain_updates import CollapsedSpace
from evermix.domains import Domain, DomainSet
from evermix.errors import ObservationError, ProjectError
from evermix.ledger import Project
from evermix.mixture import Mixture
from evermix.observations import LeftOut, Observations
from evermix.recipe.decision import StudyRecipe
from evermix.study.history import History
from evermix.study.partial_reuse import Diagnosis, DiagnosisOptions
from evermix.study.planning import StrategyPlan, UpdatePlan, plan_recomputation
from evermix.study.records import MeasuredRun, PlannedTrial, Prediction, Trial, check_shapes
from evermix.study.state import State, positive_shares, write_ask, write_change, write_proposal, write_tell
from evermix.study.versions import DomainVersion, Strategy
from evermix.study.view import StudyView, Update

_FEWEST_TOLD = 4  # runs that an adaptive design must know
_SPARE = 3  # runs chosen beyond those asked for
Domains = DomainSet | Mapping[str, int | None] | Sequence[str | Domain]


class Study:
    """A decision that grows with its runs.

    Args:
        folder: the project folder; made if it is not there.
        domains: names, or name -> tokens available, or `Domain`s, or a DomainSet. Needed the first time only.
        recipe: what is asked of the runs; the first one given is kept in the folder, a later one holds for this object.
        n_runs: of the first design; None for as many as the law needs.
        read_only: whether it is only looked at, as in a folder that may not be written.
        where: which told runs count for this object, `{"model_size": "60M", "n_tokens": "1B"}`; see
            `Observations.where`.

    Raises:
        ProjectError: if the folder holds a study over other domains, or none while `domains` is not given.
        ObservationError: if n_runs < 1.
    """

    def __init__(
        self,
        folder: str | Path,
        domains: Domains | None = None,
        recipe: StudyRecipe | None = None,
        n_runs: int | None = None,
        *,
        read_only: bool = False,
        where: Mapping[str, str | float] | None = None,
    ) -> None:
        self.where = dict(where or {})
        path = Path(folder)
        if n_runs is not None and n_runs < 1:
            raise ObservationError("the number of runs of the first swarm must be at least 1", received=n_runs)
        if domains is None and not (path / "ledger.sqlite").exists():
            raise ProjectError(
                f"{path}: a new study must be given its domains", hint="Study(folder, {'web': 10**12, ...})"
            )
        self.project = Project(path, read_only=read_only)
        stored = State.load(self.project.ledger)
        check_shapes(() if stored is None else stored.entries)
        self._written_in = 0 if stored is None or recipe is None else stored.version.number
        if stored is None:
            if domains is None:
                raise ProjectError(f"{path}: the project must hold a study", hint="give its domains to begin one")
            stored = State.begin(self.project.ledger, _domain_set(domains), recipe or StudyRecipe(), n_runs)
        elif domains is not None and not stored.known_as(_domain_set(domains)):
            raise ProjectError(
                f"{path}: the study must be over the domains it began with or was updated to",
                received=", ".join(_domain_set(domains).names),
                hint="leave `domains` out, and change them with update()",
            )
        self.recipe = recipe or stored.recipe

    def now(self) -> StudyView:
        """The study as its ledger is at this moment, read once: for several questions about one state."""
        return StudyView(self._state(), self.recipe, self._written_in, self.where)

    def at(self, number: int) -> StudyView:
        """The study as it was after ledger entry `number`; any past state can be looked at, and nothing written.

        Raises:
            ProjectError: if the study had not begun by then, or the ledger has no such entry.
        """
        return StudyView(self._state().at(number), self.recipe, self._written_in, self.where)

    @property
    def domains(self) -> DomainSet:
        """The domains after all updates."""
        return self.now().domains

    @property
    def version(self) -> DomainVersion:
        """The current version: its domains, its strategy and what is at a fixed ratio in it."""
        return self.now().version

    @property
    def space(self) -> CollapsedSpace | None:
        """The mixtures that the current version considers; None for all."""
        return self.now().space

    @property
    def mixture(self) -> Mixture | None:
        """The mixture over today's domains: proposed in this version, or carried into it; None where runs decide."""
        return self.now().mixture

    @property
    def remaining(self) -> int:
        """Runs of the current version's design that nobody has asked for yet."""
        view = self.now()
        return max(len(_design(view)) - len(view.state.asked_in_version), 0)

    def ask(self, n: int = 1) -> list[Trial]:
        """The next mixtures to measure: first the version's design, then those worth most.

        The first version's design is a Dirichlet swarm around the prior. Every call gives new runs, also in several
        processes; what was asked and never told stays in `pending`.

        Raises:
            ObservationError: if n < 1, or the design is used up and fewer than 4 runs are told that count.
            ProjectError: if another process updates the domains meanwhile.
        """
        if n < 1:
            raise ObservationError("the number of runs to ask for must be at least 1", received=n)
        view = self.now()
        design = _design(view)
        worth_most = self._worth_most(view, n - max(len(design) - len(view.state.asked_in_version), 0))
        asked: list[Trial] = []
        while len(asked) < n:
            given = write_ask(self._same_version(view.version), functools.partial(_planned, design, worth_most))
            if given is None:  # other processes took what was left of the design
                worth_most = self._worth_most(self.now(), n - len(asked))
                continue
            asked.append(given)
        return asked

    def tell(
        self,
        run_id: str,
        metrics: Mapping[str, float],
        mixture: Mixture | Mapping[str, float] | None = None,
        standard_errors: Mapping[str, float] | None = None,
        n_tokens: int | None = None,
        n_parameters: int | None = None,
    ) -> None:
        """Record a measured run. Telling the same twice is harmless, and metrics may be added later.

        Args:
            run_id: of an asked run, or any new name together with `mixture`.
            metrics: metric -> value; a metric may be missing in some runs.
            mixture: what the run was really trained on, over today's domains, if it was not asked for or came out
                otherwise.
            standard_errors: metric -> standard error, in the metric's unit.
            n_tokens: the run's token budget.
            n_parameters: of the run's model.

        Raises:
            ObservationError: if a value is not a finite number, the mixture is unknown, or differs from what was told.
        """
        state = self._state()
        version, shares = state.version.number, None if mixture is None else self._shares(mixture)
        if shares is None:
            known = state.measured_anywhere.get(run_id)
            version, shares = state.asked(run_id) if known is None else (known.version, dict(known.shares))
        errors = _numbers(run_id, standard_errors or {})
        told = MeasuredRun(run_id, version, shares, _numbers(run_id, metrics), errors, n_tokens, n_parameters)
        write_tell(state, told, mixture_given=mixture is not None)

    def pending(self) -> list[Trial]:
        """Runs that were asked for and not told yet."""
        return self.now().pending()

    def observations(self) -> tuple[Observations, tuple[LeftOut, ...]]:
        """The told runs that count in the current version, over its domains, and those that do not, with the reason."""
        return self.now().observations()

    def fit(self) -> FittedLaw:
        """The law of the runs that count, within the version's space."""
        return self.now().fit()

    def fit_all_runs(self) -> FittedLaw:
        """A law over all leaves from every run of the version's line; see `StudyView.fit_all_runs`."""
        return self.now().fit_all_runs()

    def propose(self, progress: Progress | None = None) -> AssessedProposal:
        """The mixture to train on, with its evidence; the ledger keeps it, once per state of knowledge."""
        view = self.now()
        proposed = view.recommend(progress)
        write_proposal(view.state, proposed)
        return proposed

    def predictions(self) -> list[Prediction]:
        """What the law said of runs before they were made, beside what was measured: an honest record."""
        return self.now().predictions()

    def settled(self, n_resamples: int = 30) -> Settledness:
        """How much more runs could still change the mixture; see designs.StoppingRule."""
        return self.now().settled(n_resamples)

    def diagnose(self, options: DiagnosisOptions | None = None) -> Diagnosis:
        """What keeping the fixed proportions costs, and what is worth recomputing; see `StudyView.diagnose`."""
        return self.now().diagnose(options)

    def history(self) -> History:
        """Domain sets and mixtures, and how one led to another, as one graph."""
        return self.now().history()

    def plan(self, update: Update, strategy: Strategy = "auto", recompute: Sequence[str] = ()) -> UpdatePlan:
        """What an update would cost under each strategy; nothing is written. See `StudyView.plan`."""
        return self.now().plan(update, strategy, recompute)

    def update(
        self,
        update: Update,
        strategy: Strategy = "auto",
        recompute: Sequence[str] = (),
        n_runs: int | None = None,
    ) -> UpdatePlan:
        """Change the domain set, and begin a version whose mixture is found by a strategy.

        Args:
            update: one change or several that are made at once: Add, Remove, Revise, Partition.
            strategy: full (a new swarm over all domains), swarm (what can be carried over, and new runs about the new
                domains), mixture (the unaffected domains keep their proportions), partial (all but the recomputed ones
                do), auto (as mixture; `recompute()` then frees what is worth its runs).
            recompute: unaffected domains to be measured anew, for strategy partial.
            n_runs: of the version's design; None for as many as the plan says.

        Raises:
            DomainError: if a name is unknown, taken or touched twice.
            ProjectError: if the strategy cannot be had: proportions are fixed from a proposal of the version before.
        """
        view = self.now()
        plan = view.plan(update, strategy, recompute)
        chosen = plan.chosen
        if n_runs is not None and n_runs < 0:
            raise ObservationError("the number of runs of an update must be at least 0", received=n_runs)
        fixed_from = view.state.mixture_with_key[1] if chosen.space is not None or chosen.carried is not None else None
        record = _change_record(view.version, chosen, fixed_from, n_runs)
        write_change(view.state, "update", {**record, "update": plan.update.as_dict})
        return plan

    def recompute(self, *names: str, n_runs: int | None = None) -> tuple[str, ...]:
        """Take domains at a fixed ratio out of the bundle; the next `ask` goes on in the wider space.

        Args:
            names: which; without any, those that `diagnose` advises, which may be none.
            n_runs: new runs of the design; None for as many as the law still needs.

        Returns:
            the recomputed names.

        Raises:
            ProjectError: if nothing is at a fixed ratio. DomainError: if one of the names is not.
        """
        view = self.now()
        if not names:
            names = tuple(each.domain for each in view.diagnose().recompute)
            if not names:
                return ()
        recipe, _ = view.recipe_today
        chosen = plan_recomputation(view.state, recipe, names)
        record = _change_record(view.version, chosen, view.version.fixed_from, n_runs)
        write_change(view.state, "recompute", {**record, "update": None, "recomputed": list(dict.fromkeys(names))})
        return tuple(dict.fromkeys(names))

    def undo(self) -> DomainSet:
        """Back to the version before the last update, with its runs and its mixture; the domains there.

        Nothing is forgotten: the update stays in the ledger as a branch, and another update begins another branch.

        Raises:
            ProjectError: if there is no update to take back.
        """
        state = self._state()
        return write_change(state, "undo", {"to": state.versions.before_update.number}).domains

    def _worth_most(self, view: StudyView, n: int) -> Iterator[PlannedTrial]:
        """The next n runs by the law of the told ones, and some for where another process is faster; none if n < 1."""
        if n < 1:
            return iter(())
        usable = len(view.state.carried.rows)
        if usable < _FEWEST_TOLD:
            raise ObservationError(
                f"runs beyond the first swarm can be asked for once at least {_FEWEST_TOLD} are told",
                received=f"{usable} told, {len(view.pending())} pending",
                hint=f"ask for {n} less, or tell what is measured",
            )
        fitted = view.fit()
        pending = [run.mixture for run in view.pending()]
        mixtures = next_mixtures(fitted, n + _SPARE, pending, seed=len(view.state.asks))
        metrics = fitted.observations.metrics
        return iter([PlannedTrial(m, dict(zip(metrics, fitted.predict(m).tolist(), strict=True))) for m in mixtures])

    def _state(self) -> State:
        state = State.load(self.project.ledger)
        if state is None:
            raise ProjectError(f"{self.project.folder}: the study must be in the ledger", hint="begin it anew")
        return state

    def _same_version(self, version: DomainVersion) -> State:
        state = self._state()
        if state.version.number != version.number:
            raise ProjectError(
                f"{self.project.folder}: another process has changed the domains of this study", hint="ask again"
            )
        return state

    def _shares(self, mixture: Mixture | Mapping[str, float]) -> dict[str, float]:
        given = mixture if isinstance(mixture, Mixture) else Mixture.from_dict(self.domains, mixture)
        return positive_shares(given)


def _design(view: StudyView) -> list[Mixture]:
    """The swarm of the current version, the same at every call: it depends on what was known when the version began."""
    version = view.version
    known = view.state.at(version.entry).carried if version.measured else None
    in_hand = known.weights(version.domains) if known is not None and known.rows else None
    asked = DesignRequest(version.domains, version.n_runs, version.number, version.space, version.measured, in_hand)
    return first_design(asked, view.recipe_today[0])


def _planned(design: Sequence[Mixture], worth_most: Iterator[PlannedTrial], position: int) -> PlannedTrial | None:
    """The run at a position of a version: of its design, and past its end one of those worth most."""
    return PlannedTrial(design[position]) if position < len(design) else next(worth_most, None)


def _change_record(
    before: DomainVersion, chosen: StrategyPlan, fixed_from: str | None, n_runs: int | None
) -> dict[str, object]:
    """What the ledger keeps of a plan: all that the version's runs and mixture follow from."""
    space = chosen.space
    return {
        "parent": before.number,
        "strategy": chosen.strategy,
        "fixed_ratio": None if space is None else {"name": space.name, "shares": chosen.fixed_ratio},
        "fixed_from": fixed_from,
        "measured": list(chosen.measured),
        "recomputed": list(chosen.recomputed),
        "n_runs": chosen.n_runs if n_runs is None else n_runs,
        "carried": None if chosen.carried is None else dict(chosen.carried.as_dict),
    }


def _domain_set(domains: Domains) -> DomainSet:
    if isinstance(domains, DomainSet):
        return domains
    if isinstance(domains, Mapping):
        return DomainSet(Domain(name, n_tokens) for name, n_tokens in domains.items())
    return DomainSet(domains)


def _numbers(run_id: str, values: Mapping[str, float]) -> dict[str, float]:
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ObservationError(
                f"'{name}' of run '{run_id}' must be a finite number", received=value, hint="leave a missing metric out"
            )
    return {name: float(value) for name, value in values.items()}
