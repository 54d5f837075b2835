"""Study: a decision that grows with runs from anyone's trainer: ask, tell, propose, update; all in one ledger."""

from evermix.study.history import History
from evermix.study.partial_reuse import Diagnosis, DiagnosisOptions
from evermix.study.planning import StrategyPlan, UpdatePlan
from evermix.study.records import Trial
from evermix.study.study import Study
from evermix.study.versions import STRATEGIES, DomainVersion, Strategy
from evermix.study.view import StudyView

__all__ = [
    "STRATEGIES",
    "Diagnosis",
    "DiagnosisOptions",
    "DomainVersion",
    "History",
    "Strategy",
    "StrategyPlan",
    "Study",
    "StudyView",
    "Trial",
    "UpdatePlan",
]
