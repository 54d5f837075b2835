"""Study: the whole decision without any trainer: observations -> law -> proposal, and ask / tell / propose / update."""

from evermix.study.diagnosis import Diagnosis
from evermix.study.eras import STRATEGIES, Era, Strategy
from evermix.study.fitting import FittedLaw, fit
from evermix.study.history import History
from evermix.study.moving import WhatIf, check_measured, moved, predicted_change, what_if
from evermix.study.next_runs import DesignRequest, first_design, next_mixtures
from evermix.study.planning import StrategyPlan, UpdatePlan
from evermix.study.proposing import Recommendation, best_mixture, propose
from evermix.study.records import Asked
from evermix.study.releasing import DiagnosisOptions
from evermix.study.request import named_mixture
from evermix.study.study import Study
from evermix.study.view import StudyView

__all__ = [
    "STRATEGIES",
    "Asked",
    "DesignRequest",
    "Diagnosis",
    "DiagnosisOptions",
    "Era",
    "FittedLaw",
    "History",
    "Recommendation",
    "Strategy",
    "StrategyPlan",
    "Study",
    "StudyView",
    "UpdatePlan",
    "WhatIf",
    "best_mixture",
    "check_measured",
    "first_design",
    "fit",
    "moved",
    "named_mixture",
    "next_mixtures",
    "predicted_change",
    "propose",
    "what_if",
]
