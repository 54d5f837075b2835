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

__all__ = ["MODES", "DecisionMode", "ModeOutcome", "Problem"]
