"""Trust: how far a proposal can be relied on. Resampled runs, held-out calibration, comparison, warnings, screening."""

from evermix.trust.assessment import Assessment, AssessmentOptions, assess
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, bootstrap
from evermix.trust.calibration import Calibration, HeldOut, calibrate
from evermix.trust.comparison import Comparison, Row, compare
from evermix.trust.interval import Gain, Interval
from evermix.trust.proposal_warnings import ProposalFacts, ProposalWarning, WarningThresholds, find_warnings
from evermix.trust.references import Request
from evermix.trust.screening import Screened, ScreeningOptions, screen

__all__ = [
    "Assessment",
    "AssessmentOptions",
    "Bootstrap",
    "BootstrapOptions",
    "Calibration",
    "Comparison",
    "Gain",
    "HeldOut",
    "Interval",
    "ProposalFacts",
    "ProposalWarning",
    "Request",
    "Row",
    "Screened",
    "ScreeningOptions",
    "WarningThresholds",
    "assess",
    "bootstrap",
    "calibrate",
    "compare",
    "find_warnings",
    "screen",
]
