"""Trust: how far a proposal can be relied on. Resampled runs, held-out calibration, comparison, warnings, screening."""

from evermix.trust.assessment import (
    Assessment,
    AssessmentOptions,
    ProposalFacts,
    ProposalWarning,
    WarningThresholds,
    assess,
    find_warnings,
)
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, bootstrap
from evermix.trust.calibration import Calibration, HeldOut, Screened, ScreeningOptions, calibrate, screen
from evermix.trust.comparison import ComparedRow, Comparison, compare
from evermix.trust.references import Gain, Interval, Request

__all__ = [
    "Assessment",
    "AssessmentOptions",
    "Bootstrap",
    "BootstrapOptions",
    "Calibration",
    "ComparedRow",
    "Comparison",
    "Gain",
    "HeldOut",
    "Interval",
    "ProposalFacts",
    "ProposalWarning",
    "Request",
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
