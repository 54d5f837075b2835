"""Results: what came of a recipe, as frozen values that console, report, comparison and benchmarks read."""

from evermix.results.compute import APART, Compute, ComputePart
from evermix.results.plan import Expectation
from evermix.results.proposal import ProposalView
from evermix.results.run_result import (
    ArmResult,
    CurvePoint,
    Decision,
    DomainInfo,
    DomainScore,
    ErrorRates,
    Means,
    Measurement,
    ModelInfo,
    ModeRecord,
    ObjectiveInfo,
    PairedComparison,
    PhaseResult,
    ProbeRecord,
    ResponseRecord,
    RunResult,
    ScheduledMixture,
    SegmentRecord,
    TaskScore,
    TaskScores,
)
from evermix.results.swarm import SwarmRecord

__all__ = [
    "APART",
    "ArmResult",
    "Compute",
    "ComputePart",
    "CurvePoint",
    "Decision",
    "DomainInfo",
    "DomainScore",
    "ErrorRates",
    "Expectation",
    "Means",
    "Measurement",
    "ModeRecord",
    "ModelInfo",
    "ObjectiveInfo",
    "PairedComparison",
    "PhaseResult",
    "ProbeRecord",
    "ProposalView",
    "ResponseRecord",
    "RunResult",
    "ScheduledMixture",
    "SegmentRecord",
    "SwarmRecord",
    "TaskScore",
    "TaskScores",
]
