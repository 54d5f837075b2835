"""The view of an assessed proposal: everything that tables, pages and results show of it, as plain frozen values."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from evermix.deciding.fitting import FittedLaw
from evermix.deciding.metric_changes import CostChange, ObjectiveScale, metric_changes
from evermix.laws.base import MixingLaw
from evermix.observations import Observations
from evermix.recipe import StudyRecipe
from evermix.results.proposal import ObjectiveScaleInfo, ProposalView, RunsInfo
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.trust.bootstrap import Bootstrap
from evermix.trust.comparison import Comparison
from evermix.trust.references import NATURAL, PRIOR, UNIFORM


class Assessed(Protocol):
    """What an assessed proposal must tell of itself."""

    @property
    def fitted(self) -> FittedLaw: ...
    @property
    def recipe(self) -> StudyRecipe: ...
    @property
    def problem(self) -> MixtureProblem: ...
    @property
    def proposal(self) -> Proposal: ...
    @property
    def comparison(self) -> Comparison: ...
    @property
    def bootstrap(self) -> Bootstrap | None: ...
    @property
    def as_dict(self) -> dict[str, Any]: ...


def proposal_view(found: Assessed) -> ProposalView:
    """Everything that is shown of a proposal; what is not finite becomes None."""
    fitted, content = found.fitted, found.as_dict
    over = reference(found)
    change = CostChange.of_proposal(fitted, found.proposal, over, found.bootstrap)
    path = [
        {key: point[key] for key in ("kl", "n_effective", "mixture", "objective_value", "kl_weight")}
        for point in content["kl"]["path"]
    ]
    return ProposalView.model_validate(
        {
            **{name: value for name, value in content.items() if name in ProposalView.model_fields},
            "kl": {**content["kl"], "path": path},
            "domain_tokens": {domain.name: domain.n_tokens for domain in found.problem.prior.domains},
            "families": family_counts(fitted.law),
            "runs": runs_info(fitted.observations),
            "objective": objective_info(fitted, found.recipe),
            "held": _held_by(found),
            "changes_over": over,
            "changes": metric_changes(fitted, change),
            "guarded": _guarded(found),
        }
    )


def reference(found: Assessed) -> str:
    """What the proposal is first compared with: natural, else the prior, else uniform."""
    if found.bootstrap is None:
        return NATURAL if found.fitted.prior.source.startswith(NATURAL) else PRIOR
    return next(name for name in (NATURAL, PRIOR, UNIFORM) if name in found.comparison)


def runs_info(observations: Observations) -> RunsInfo:
    """What a law was fitted to."""
    return RunsInfo(
        n_runs=observations.n_runs,
        domains=observations.domains.names,
        metrics=observations.metrics,
        maximised=tuple(sorted(observations.maximised)),
        missing=int(np.isnan(observations.values).sum()),
    )


def objective_info(fitted: FittedLaw, recipe: StudyRecipe) -> ObjectiveScaleInfo:
    """The objective's scale in the metrics' own terms."""
    return ObjectiveScale.of(fitted.observations, fitted.objective).info(recipe.objective.aggregate)


def inner_law(law: MixingLaw) -> MixingLaw:
    """The law itself, without the wrapper that holds unseen domains at their share."""
    inner: MixingLaw = getattr(law, "inner_", law)
    return inner


def chosen_families(law: MixingLaw) -> tuple[str, ...] | None:
    """The family chosen for each metric, (metrics,); None if the law is one family."""
    choice: Sequence[str] | None = getattr(inner_law(law), "choice_", None)
    return None if choice is None else tuple(str(name) for name in choice)


def family_counts(law: MixingLaw) -> dict[str, int]:
    """Family -> metrics that chose it, most frequent first; empty where the law is one family."""
    return dict(Counter(chosen_families(law) or ()).most_common())


def _held_by(found: Assessed) -> dict[str, str]:
    """domain -> the rule that it touches; shares of zero that nobody asked for are left out."""
    lower = dict(zip(found.proposal.mixture.domains.names, found.problem.bounds.lower, strict=True))
    held = {}
    for text in found.proposal.binding:
        name, _, reason = text.rpartition(": ")
        if reason != "lower" or lower[name] > 0:
            held[name] = "floor" if reason == "lower" else reason.removeprefix("upper (").removesuffix(")")
    given = found.recipe.constraints.fixed
    few = {
        name: f"in {n} run{'s' * (n > 1)} only" for name, n in found.fitted.scarce_domains.items() if name not in given
    }
    return {**held, **few, **dict.fromkeys(found.fitted.unsampled_domains, "never sampled")}


def _guarded(found: Assessed) -> dict[str, float]:
    """Dual's name -> the ceiling of its guarded metric, in the metric's own unit."""
    observations = found.fitted.observations
    orientation = observations.orientation
    values = {}
    for dual in found.proposal.duals:
        kind, _, metric = dual.constraint.partition(":")
        if kind == "guard":
            i = observations.metrics.index(metric)
            values[dual.constraint] = float(orientation.sign[i] * (dual.bound - orientation.shift[i]))
    return values
