"""Decision modes: three ways from the same probes to a mixture, behind one interface."""

from evermix.lifecycle.decision.gradient import decide_by_gradient
from evermix.lifecycle.decision.interpolation import decide_by_interpolation
from evermix.lifecycle.decision.probe_law import decide_by_probe_law
from evermix.lifecycle.decision.problem import DecisionMode, ModeOutcome, Problem

MODES: dict[str, DecisionMode] = {
    "probe-law": decide_by_probe_law,
    "interpolation": decide_by_interpolation,
    "gradient": decide_by_gradient,
}

# In spreads of the predicted objective. The published lambda of 0.05 per nat is about five spreads of an interpolated
# objective, whose candidates differ by a hundredth of a nat; the log-linear law runs to a corner with less.
DEFAULT_KL = {"probe-law": 0.5, "interpolation": 5.0, "gradient": 2.0}

__all__ = ["DEFAULT_KL", "MODES", "DecisionMode", "ModeOutcome", "Problem"]
