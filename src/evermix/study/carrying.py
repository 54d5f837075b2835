"""Runs of earlier eras as runs over the domains of a later one (Olmix, swarm reuse)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from evermix.domain_updates import CollapsedSpace
from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.observations import LeftOut, Observations
from evermix.recipe.decision import StudyRecipe
from evermix.study.eras import Era
from evermix.study.records import Told

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Carried:
    """Runs over one set of domains.

    Attributes:
        rows: each run with its shares there.
        left_out: runs that have no counterpart there, and why.
    """

    rows: tuple[tuple[Told, dict[str, float]], ...]
    left_out: tuple[LeftOut, ...]

    def within(self, space: CollapsedSpace | None) -> Carried:
        """Only the runs that keep a space's frozen proportions; all of them where there is none."""
        if space is None or not self.rows:
            return self
        held = space.holds(self.weights(space.leaves))
        kept = tuple(row for row, good in zip(self.rows, held, strict=True) if good)
        reason = "does not keep the frozen proportions"
        lost = (
            LeftOut("run", told.run_id, reason) for (told, _), good in zip(self.rows, held, strict=True) if not good
        )
        return Carried(kept, (*self.left_out, *lost))

    def weights(self, domains: DomainSet) -> Floats:
        """Shape (runs, domains)."""
        rows = [[shares.get(name, 0.0) for name in domains.names] for _, shares in self.rows]
        return np.array(rows).reshape(len(rows), len(domains))

    def ghosts(self, domains: DomainSet) -> tuple[str, ...]:
        """Names with mass in some run that are no domains any more, in order of appearance."""
        return tuple(dict.fromkeys(name for _, shares in self.rows for name in shares if name not in domains))

    def observations(self, domains: DomainSet, recipe: StudyRecipe) -> Observations:
        """The runs as a table.

        Raises:
            ObservationError: if there are none.
        """
        if not self.rows:
            lost = len(self.left_out)
            raise ObservationError(
                "a study must have runs to learn from",
                received=f"none told that counts ({lost} left out: {self.left_out[0].reason})" if lost else "0 told",
                hint="ask() and tell()",
            )
        told = [run for run, _ in self.rows]
        metrics = tuple(dict.fromkeys(name for run in told for name in run.metrics))
        values = np.array([[run.metrics.get(name, np.nan) for name in metrics] for run in told])
        errors = np.array([[run.standard_errors.get(name, np.nan) for name in metrics] for run in told])
        tokens = np.array([np.nan if run.n_tokens is None else float(run.n_tokens) for run in told])
        known = np.isfinite(values)
        return Observations(
            domains,
            self.weights(domains),
            metrics,
            values,
            np.where(known, errors, np.nan) if np.isfinite(errors[known]).all() else None,
            tuple(run.run_id for run in told),
            tokens if np.isfinite(tokens).all() else None,
            maximised=recipe.objective.maximised(metrics),
        )


def carry_runs(told: Iterable[Told], path: Sequence[Era], keep_ghosts: bool = False) -> Carried:
    """Runs of the eras of `path`, first to last, over the domains of its last era.

    Args:
        keep_ghosts: whether a share of what was removed or revised stays, under a name that is no domain, instead of
            stranding its run.
    """
    rows: list[tuple[Told, dict[str, float]]] = []
    stranded: list[LeftOut] = []
    for run in told:
        carried = _carry(run, path, keep_ghosts)
        if isinstance(carried, str):
            stranded.append(LeftOut("run", run.run_id, carried))
        else:
            rows.append((run, carried))
    return Carried(tuple(rows), tuple(stranded))


def _carry(run: Told, path: Sequence[Era], keep_ghosts: bool) -> dict[str, float] | str:
    carried: dict[str, float] | str = dict(run.shares)
    for before, era in pairwise(path):
        if isinstance(carried, str):
            return carried
        if era.number > run.era and era.update is not None:
            carried = era.update.carry(carried, keep_ghosts, domains=before.domains, era=era.number)
    return carried
