"""What can be read and computed from a study without writing into it; also of a past state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from evermix.deciding.by_law import Progress
from evermix.deciding.fitting import FittedLaw, fit, not_chosen
from evermix.deciding.next_runs import runs_per_domain, settled
from evermix.deciding.proposing import AssessedProposal, propose
from evermix.designs.settled import Settledness
from evermix.domain_updates import Change, CollapsedSpace, DomainUpdate
from evermix.domains import Domain, DomainSet
from evermix.errors import ProjectError
from evermix.mixture import Mixture
from evermix.observations import LeftOut, Observations
from evermix.recipe.decision import StudyRecipe
from evermix.study.history import History, history
from evermix.study.partial_reuse import Diagnosis, DiagnosisOptions, diagnose
from evermix.study.planning import UpdatePlan, plan_update
from evermix.study.records import Prediction, Trial
from evermix.study.run_reuse import carry_runs, recipe_of_today
from evermix.study.state import State
from evermix.study.versions import DomainVersion, Strategy

FEWEST_KNOWN = 4  # runs that must know a metric before a law is fitted to it
Update = DomainUpdate | Change | Sequence[Change]


@dataclass(frozen=True, eq=False)
class StudyView:
    """A study as one reading of its ledger shows it.

    Attributes:
        state: the reading.
        recipe: what is asked of the runs, as it was written.
        written_in: version whose domains the recipe's shares are over.
        where: which runs count, by their token budget or model size; empty for all.
    """

    state: State
    recipe: StudyRecipe
    written_in: int = 0
    where: Mapping[str, str | float] = field(default_factory=dict)

    @property
    def domains(self) -> DomainSet:
        """The domains after all updates."""
        return self.state.domains

    @property
    def version(self) -> DomainVersion:
        """The current version: its domains, its strategy and what is at a fixed ratio in it."""
        return self.state.version

    @property
    def space(self) -> CollapsedSpace | None:
        """The mixtures that the current version considers; None for all."""
        return self.version.space

    @property
    def mixture(self) -> Mixture | None:
        """The mixture over today's domains: proposed in this version, or carried into it; None where runs decide."""
        return self.state.mixture

    @cached_property
    def recipe_today(self) -> tuple[StudyRecipe, tuple[LeftOut, ...]]:
        """The recipe over today's domains, and the rules that are left out because their domain is gone."""
        here = {name for run in self.state.measured.values() for name in run.metrics}
        anywhere = {name for run in self.state.measured_anywhere.values() for name in run.metrics}
        return recipe_of_today(self.recipe, self.state.versions, self._written_in, anywhere - here)

    def pending(self) -> list[Trial]:
        """Runs that were asked for and not told yet."""
        return self.state.pending()

    def predictions(self) -> list[Prediction]:
        """What the law said of runs before they were made, beside what was measured: an honest record."""
        return self.state.predictions()

    def history(self) -> History:
        """Domain sets and mixtures, and how one led to another, as one graph."""
        return history(self.state)

    def observations(self) -> tuple[Observations, tuple[LeftOut, ...]]:
        """The told runs that count in the current version, over its domains, and those that do not, with the reason.

        Raises:
            ObservationError: if there are none.
        """
        carried = self.state.carried
        told = carried.observations(self.domains, self.recipe)
        chosen = told.where(self.where)
        return chosen, (*carried.left_out, *not_chosen(told, chosen, self.where))

    def fit(self) -> FittedLaw:
        """The law of the runs that count, within the version's space.

        A metric that fewer than 4 of them know is left out: after an update, tell it of earlier runs too.
        """
        recipe, rules = self.recipe_today
        observations, left_out = self.observations()
        known, scarce = _well_known(observations)
        return fit(known, recipe, left_out + scarce + rules, self.space)

    def fit_all_runs(self) -> FittedLaw:
        """A law over all leaves from every run of the version's line, fixed proportions or not.

        A run on a removed or revised domain counts too: its old content is a column of its own ("retired"), which the
        law knows and no mixture may hold.
        """
        recipe, rules = self.recipe_today
        carried = carry_runs(self.state.measured.values(), self.state.versions.path(), keep_retired=True)
        retired = carried.retired(self.domains)
        counted = self.domains.sizes_known
        empty = (Domain(name).resized(0 if counted else None, self.domains.unit) for name in retired)
        over = DomainSet([*self.domains, *empty])
        known, scarce = _well_known(carried.observations(over, recipe))
        return fit(known, recipe, carried.left_out + scarce + rules, retired=retired, where=self.where)

    def recommend(self, progress: Progress | None = None) -> AssessedProposal:
        """The mixture to train on, with its evidence; nothing is recorded.

        Where kl is auto and the version has too few runs to choose it, the strength of the last mixture proposed holds.
        """
        return propose(self.fit(), progress=progress, kl_before=self.state.kl_before)

    def settled(self, n_resamples: int = 30) -> Settledness:
        """How much more runs could still change the mixture; see designs.StoppingRule."""
        return settled(self.fit(), n_resamples)

    def diagnose(self, options: DiagnosisOptions | None = None) -> Diagnosis:
        """What keeping the fixed proportions costs, and which domains are worth measuring anew, by all runs.

        Raises:
            ProjectError: if nothing is at a fixed ratio.
        """
        if self.space is None:
            raise ProjectError(
                "a version must have domains at a fixed ratio to be diagnosed",
                received=f"strategy {self.version.strategy}, none at a fixed ratio",
                hint="update() with strategy mixture, partial or auto keeps the ratio of what it leaves alone",
            )
        fitted = self.fit_all_runs()
        if options is None:
            options = DiagnosisOptions(runs_per_component=runs_per_domain(self.recipe))
        return diagnose(fitted, self.space, fitted.recipe, options)

    def plan(self, update: Update, strategy: Strategy = "auto", recompute: Sequence[str] = ()) -> UpdatePlan:
        """What an update would cost under each strategy; nothing is written.

        Args:
            strategy: the one that `chosen` shows.
            recompute: unaffected domains to be measured anew, for strategy partial.

        Raises:
            DomainError: if the update does not fit the domains, or `recompute` names none that it leaves alone.
            ProjectError: if the strategy is unknown, or `recompute` is given for another one.
        """
        change = as_update(update)
        after = self.state.versions.then(change)
        recipe, _ = recipe_of_today(self.recipe, after, self._written_in)
        return plan_update(self.state, recipe, change, strategy, recompute)

    @property
    def _written_in(self) -> int:
        return min(self.written_in, len(self.state.versions.versions) - 1)


def as_update(update: Update) -> DomainUpdate:
    """One change or several as an update."""
    if isinstance(update, DomainUpdate):
        return update
    return DomainUpdate(tuple(update) if isinstance(update, Sequence) else (update,))


def _well_known(observations: Observations) -> tuple[Observations, tuple[LeftOut, ...]]:
    """Without the metrics that too few runs know, unless there are too few runs anyway."""
    counts = np.isfinite(observations.values).sum(axis=0)
    good = counts >= min(FEWEST_KNOWN, counts.max(initial=0))
    if good.all():
        return observations, ()
    kept = tuple(name for name, known in zip(observations.metrics, good, strict=True) if known)
    scarce = tuple(
        LeftOut("metric", name, f"only {count} of {observations.n_runs} runs know it: tell it of earlier runs too")
        for name, count, known in zip(observations.metrics, counts.tolist(), good, strict=True)
        if not known
    )
    return observations.subset(metrics=kept), scarce
