"""Study: a decision that grows with runs from anyone's trainer: ask, tell, propose, update; all in one ledger."""

from evermix.study.diagnosis import Diagnosis
from evermix.study.eras import STRATEGIES, Era, Strategy
from evermix.study.history import History
from evermix.study.planning import StrategyPlan, UpdatePlan
from evermix.study.records import Asked
from evermix.study.releasing import DiagnosisOptions
from evermix.study.study import Study
from evermix.study.view import StudyView

__all__ = [
    "STRATEGIES",
    "Asked",
    "Diagnosis",
    "DiagnosisOptions",
    "Era",
    "History",
    "Strategy",
    "StrategyPlan",
    "Study",
    "StudyView",
    "UpdatePlan",
]
