"""Deciding: from a request and runs, whoever made them, to a law, a problem, and a mixture with what it is worth."""

from evermix.deciding.by_law import AssessedRuns, KlStrength, LawDecision, LawProblem, decide_by_law, resampled_laws
from evermix.deciding.fitting import FittedLaw, Prior, choose_prior, chosen_law, fit
from evermix.deciding.next_runs import (
    Designed,
    DesignRequest,
    design,
    first_design,
    next_mixtures,
    prior_before_runs,
    runs_for,
    runs_per_domain,
    settled,
)
from evermix.deciding.proposing import AssessedProposal, best_mixture, law_problem, named_mixture, propose
from evermix.deciding.what_if import WhatIf, check_measured, moved, predicted_change, what_if

__all__ = [
    "AssessedProposal",
    "AssessedRuns",
    "DesignRequest",
    "Designed",
    "FittedLaw",
    "KlStrength",
    "LawDecision",
    "LawProblem",
    "Prior",
    "WhatIf",
    "best_mixture",
    "check_measured",
    "choose_prior",
    "chosen_law",
    "decide_by_law",
    "design",
    "first_design",
    "fit",
    "law_problem",
    "moved",
    "named_mixture",
    "next_mixtures",
    "predicted_change",
    "prior_before_runs",
    "propose",
    "resampled_laws",
    "runs_for",
    "runs_per_domain",
    "settled",
    "what_if",
]
