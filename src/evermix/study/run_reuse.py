"""What of earlier versions of the domain set holds for a later one: runs (Olmix, swarm reuse) and the recipe's rules.

Rules name domains. After an update, a rule on a removed domain has no object and is left out, by name; one on a renamed
domain follows it; one on a partitioned domain holds for its parts together (a floor, cap or fixed share becomes the
total of a group; a share of a mixture is split by tokens). Objective weights on metrics that only an undone branch
measured are left out too. What was never a domain or a metric of the study stays, for the later checks to refuse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.deciding.next_runs import prior_before_runs
from evermix.domain_updates import CollapsedSpace
from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.mixture import Mixture
from evermix.observations import LeftOut, Observations
from evermix.recipe.decision import StudyRecipe
from evermix.study.records import MeasuredRun
from evermix.study.versions import DomainVersion, Versions

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class CarriedRuns:
    """Runs over one set of domains.

    Attributes:
        rows: each run with its shares there, in an order that what was told decides, not when.
        left_out: runs that have no counterpart there, and why.
    """

    rows: tuple[tuple[MeasuredRun, dict[str, float]], ...]
    left_out: tuple[LeftOut, ...]

    def within(self, space: CollapsedSpace | None) -> CarriedRuns:
        """Only the runs that keep a space's fixed proportions; all of them where there is none."""
        if space is None or not self.rows:
            return self
        held = space.holds(self.weights(space.leaves))
        kept = tuple(row for row, good in zip(self.rows, held, strict=True) if good)
        reason = "does not keep the fixed proportions"
        lost = (
            LeftOut("run", told.run_id, reason) for (told, _), good in zip(self.rows, held, strict=True) if not good
        )
        return CarriedRuns(kept, (*self.left_out, *lost))

    def weights(self, domains: DomainSet) -> Floats:
        """Shape (runs, domains)."""
        rows = [[shares.get(name, 0.0) for name in domains.names] for _, shares in self.rows]
        return np.array(rows).reshape(len(rows), len(domains))

    def retired(self, domains: DomainSet) -> tuple[str, ...]:
        """Names with mass in some run that are no domains any more."""
        return tuple(sorted({name for _, shares in self.rows for name in shares if name not in domains}))

    def observations(self, domains: DomainSet, recipe: StudyRecipe) -> Observations:
        """The runs as a table; metrics that are called as domains come first, in their order, then others by name.

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
        place = {name: number for number, name in enumerate(domains.names)}
        told_of = {name for run in told for name in run.metrics}
        metrics = tuple(sorted(told_of, key=lambda name: (place.get(name, len(place)), name)))
        values = np.array([[run.metrics.get(name, np.nan) for name in metrics] for run in told])
        errors = np.array([[run.standard_errors.get(name, np.nan) for name in metrics] for run in told])
        known = np.isfinite(values)
        return Observations(
            domains,
            self.weights(domains),
            metrics,
            values,
            np.where(known, errors, np.nan) if np.isfinite(errors[known]).all() else None,
            tuple(run.run_id for run in told),
            _known_of_all([run.n_tokens for run in told]),
            _known_of_all([run.n_parameters for run in told]),
            maximised=recipe.objective.maximised(metrics),
        )


def _known_of_all(amounts: Sequence[int | None]) -> Floats | None:
    """Shape (runs,); None where one run does not tell."""
    known = [float(amount) for amount in amounts if amount is not None]
    return np.array(known) if len(known) == len(amounts) else None


def carry_runs(told: Iterable[MeasuredRun], path: Sequence[DomainVersion], keep_retired: bool = False) -> CarriedRuns:
    """Runs of the versions of `path`, first to last, over the domains of its last version.

    Args:
        keep_retired: whether a share of what was removed or revised stays, under a name that is no domain, instead of
            stranding its run.
    """
    rows: list[tuple[MeasuredRun, dict[str, float]]] = []
    stranded: list[LeftOut] = []
    for run in told:
        carried = _carry(run, path, keep_retired)
        if isinstance(carried, str):
            stranded.append(LeftOut("run", run.run_id, carried))
        else:
            rows.append((run, carried))
    rows.sort(key=lambda row: (sorted(row[1].items()), sorted(row[0].metrics.items()), row[0].run_id))
    stranded.sort(key=lambda item: item.name)
    return CarriedRuns(tuple(rows), tuple(stranded))


def _carry(run: MeasuredRun, path: Sequence[DomainVersion], keep_retired: bool) -> dict[str, float] | str:
    carried: dict[str, float] | str = dict(run.shares)
    for before, version in pairwise(path):
        if isinstance(carried, str):
            return carried
        if version.number > run.version and version.update is not None:
            carried = version.update.carry(carried, keep_retired, domains=before.domains, version=version.number)
    return carried


_SHARES = {"floors": ("least",), "caps": ("greatest",), "fixed": ("least", "greatest")}


def recipe_of_today(
    recipe: StudyRecipe, versions: Versions, written_in: int = 0, elsewhere: Collection[str] = ()
) -> tuple[StudyRecipe, tuple[LeftOut, ...]]:
    """The recipe over the domains of the current version, and the rules whose object is gone.

    Args:
        written_in: version whose domains a given prior is over. A domain that came later gets its natural share in it
            (an even one where token counts are unknown), and the others are scaled.
        elsewhere: metrics that other branches of the study know, and this version does not.
    """
    moving = _Moving(versions)
    data = recipe.model_dump(exclude_unset=True)
    if "constraints" in data:
        data["constraints"] = moving.constraints(data["constraints"])
    if isinstance(recipe.prior, dict):
        data["prior"] = _with_newcomers(moving.mixture("prior", recipe.prior), versions, written_in)
    if recipe.compare:
        moved = {name: moving.mixture(f"compare {name}", shares) for name, shares in recipe.compare.items()}
        data["compare"] = {name: shares for name, shares in moved.items() if shares}
    for guard in data.get("guards", ()):
        if isinstance(guard.get("reference"), dict):
            guard["reference"] = moving.mixture("guard", guard["reference"])
    if elsewhere and "objective" in data:
        data["objective"] = moving.objective(data["objective"], elsewhere)
    return StudyRecipe.model_validate(data), tuple(moving.left_out)


@dataclass
class _Moving:
    """Names of earlier versions on their way to today's; collects the rules that are given up."""

    versions: Versions
    left_out: list[LeftOut] = field(default_factory=list)

    def heirs(self, name: str) -> tuple[str, ...]:
        """Today's names of what was once called `name`; itself if it is a domain today, or never was one."""
        today = self.versions.version.domains
        if name in today or not self.versions.ever_had(name):
            return (name,)
        path = self.versions.path()
        start = max((k for k, version in enumerate(path) if name in version.domains), default=len(path))
        names: tuple[str, ...] = (name,) if start < len(path) else ()
        for before, version in pairwise(path[start:]):
            names = tuple(new for old in names for new in _after(old, before, version))
        return names

    def constraints(self, rules: dict[str, Any]) -> dict[str, Any]:
        """floors, caps, fixed and groups over today's names."""
        groups = {name: dict(group) for name, group in rules.get("groups", {}).items()}
        moved: dict[str, Any] = {}
        for name in list(groups):
            groups[name]["members"] = self._members(groups[name]["members"])
            if not groups[name]["members"]:
                self._give_up(f"group {name}")
                del groups[name]
        for kind, ends in _SHARES.items():
            moved[kind] = {}
            for name, share in rules.get(kind, {}).items():
                heirs = self.heirs(name)
                if not heirs:
                    self._give_up(f"{kind} {name}")
                elif len(heirs) == 1:
                    moved[kind][heirs[0]] = share
                else:
                    total = groups.setdefault(f"parts of {name}", {"members": heirs})
                    total |= dict.fromkeys(ends, share)
        kept = {kind: shares for kind, shares in moved.items() if kind in rules}
        return {**rules, **kept, **({"groups": groups} if groups or "groups" in rules else {})}

    def mixture(self, what: str, shares: Mapping[str, float]) -> dict[str, float]:
        """Shares over today's names, split by tokens among parts; renormalised if some are gone."""
        today = self.versions.version.domains
        moved: dict[str, float] = {}
        lost = False
        for name, share in shares.items():
            heirs = self.heirs(name)
            if not heirs:
                lost = lost or share > 0
                self._give_up(f"share of {name} in {what}")
            for heir, part in zip(heirs, _by_tokens(heirs, today), strict=True):
                moved[heir] = moved.get(heir, 0.0) + share * part
        total = sum(moved.values())
        return {name: share / total for name, share in moved.items()} if lost and total > 0 else moved

    def objective(self, asked: dict[str, Any], elsewhere: Collection[str]) -> dict[str, Any]:
        """weights and groups without metrics that only other branches know."""
        found = dict(asked)
        if found.get("weights"):
            self._name_lost(found["weights"], elsewhere)
            found["weights"] = {name: weight for name, weight in found["weights"].items() if name not in elsewhere}
        if found.get("groups"):
            found["groups"] = self._groups(found["groups"], elsewhere)
        return found

    def _groups(self, groups: Mapping[str, Any], elsewhere: Collection[str]) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for name, members in groups.items():
            if isinstance(members, Mapping):
                kept[name] = self._groups(members, elsewhere)
            else:
                self._name_lost(members, elsewhere)
                kept[name] = tuple(metric for metric in members if metric not in elsewhere)
        return {name: members for name, members in kept.items() if members}

    def _members(self, members: Collection[str]) -> tuple[str, ...]:
        found: list[str] = []
        for member in members:
            if not member.endswith(":"):
                found += self.heirs(member)
            elif any(name.startswith(member) for name in self.versions.version.domains.names):
                found.append(member)
            else:
                nested = {
                    n for version in self.versions.versions for n in version.domains.names if n.startswith(member)
                }
                found += [heir for name in sorted(nested) for heir in self.heirs(name)] if nested else [member]
        return tuple(dict.fromkeys(found))

    def _name_lost(self, metrics: Collection[str], elsewhere: Collection[str]) -> None:
        for name in metrics:
            if name in elsewhere:
                self.left_out.append(LeftOut("rule", f"objective {name}", "only an undone branch measured it"))

    def _give_up(self, what: str) -> None:
        self.left_out.append(LeftOut("rule", what, "its domain is no longer in the study"))


def _after(name: str, before: DomainVersion, version: DomainVersion) -> tuple[str, ...]:
    """Names in a version of a domain of the version before."""
    if version.update is None:
        return (name,)
    heirs = tuple(each.name for each in version.update.lineage(before.domains) if each.source == name)
    return heirs or ((name,) if name in version.domains else ())


def _by_tokens(names: tuple[str, ...], domains: DomainSet) -> list[float]:
    """Shares of the heirs of one domain, in proportion to their sizes; even where those are unknown."""
    if not all(name in domains for name in names):
        return [1.0] * len(names)
    counts = np.array([domains.domains[domains.index(name)].size or 0 for name in names], dtype=np.float64)
    if not len(names):
        return []
    shares = counts / counts.sum() if counts.sum() > 0 else np.full(len(names), 1 / len(names))
    return [float(share) for share in shares]


def _with_newcomers(prior: dict[str, float], versions: Versions, written_in: int) -> dict[str, float]:
    """A given prior with the natural share of every domain that came after the version it was written in."""
    domains = versions.version.domains
    known = set(versions.versions[written_in].domains.names)
    for before, version in pairwise(versions.path()):
        if before.number >= written_in:
            known = {new for old in known for new in _after(old, before, version)}
    new = [name for name in domains.names if name not in known and name not in prior]
    if not new:
        return prior
    natural = prior_before_runs(domains, StudyRecipe())
    share = Mixture(domains, natural.weights).as_dict
    left = 1 - sum(share[name] for name in new)
    return {**{name: value * left for name, value in prior.items()}, **{name: share[name] for name in new}}
