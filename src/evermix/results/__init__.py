"""Results: what came of a recipe, as frozen values that console, report, comparison and benchmarks read."""

from evermix.results.run_result import (
    ArmResult,
    Compute,
    ComputePart,
    CurvePoint,
    Decision,
    DomainInfo,
    DomainScore,
    Means,
    ModelInfo,
    ObjectiveInfo,
    PairedComparison,
    PhaseResult,
    ProbeRecord,
    RunResult,
    ScheduledMixture,
    TaskScore,
)

__all__ = [
    "ArmResult",
    "Compute",
    "ComputePart",
    "CurvePoint",
    "Decision",
    "DomainInfo",
    "DomainScore",
    "Means",
    "ModelInfo",
    "ObjectiveInfo",
    "PairedComparison",
    "PhaseResult",
    "ProbeRecord",
    "RunResult",
    "ScheduledMixture",
    "TaskScore",
]
