"""Trust: how far a proposal can be relied on. Resampled runs, held-out calibration, comparison, cautions, screening."""

from evermix.trust.assessment import Assessment, AssessmentOptions, assess
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, bootstrap
from evermix.trust.calibration import Calibration, HeldOut, calibrate
from evermix.trust.cautions import Caution, CautionThresholds, Evidence, cautions
from evermix.trust.comparison import Comparison, Row, compare
from evermix.trust.interval import Gain, Interval
from evermix.trust.references import Request
from evermix.trust.screening import Screened, ScreeningOptions, screen

__all__ = [
    "Assessment",
    "AssessmentOptions",
    "Bootstrap",
    "BootstrapOptions",
    "Calibration",
    "Caution",
    "CautionThresholds",
    "Comparison",
    "Evidence",
    "Gain",
    "HeldOut",
    "Interval",
    "Request",
    "Row",
    "Screened",
    "ScreeningOptions",
    "assess",
    "bootstrap",
    "calibrate",
    "cautions",
    "compare",
    "screen",
]
