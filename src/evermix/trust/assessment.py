"""Assessment: everything that is said with a proposal: calibration, bootstrap, comparison, warnings."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.observations import Observations
from evermix.solvers.problem import MixtureProblem
from evermix.solvers.proposal import Proposal
from evermix.trust.bootstrap import Bootstrap, BootstrapOptions, Progress, bootstrap
from evermix.trust.calibration import Calibration, calibrate
from evermix.trust.comparison import Comparison, compare
from evermix.trust.proposal_warnings import ProposalFacts, ProposalWarning, WarningThresholds, find_warnings
from evermix.trust.references import Request


@dataclass(frozen=True, eq=False)
class Assessment:
    """How far a proposal can be trusted."""

    calibration: Calibration
    bootstrap: Bootstrap
    comparison: Comparison
    warnings: tuple[ProposalWarning, ...]

    @property
    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "calibration": self.calibration.as_dict,
            "bootstrap": self.bootstrap.as_dict,
            "comparison": self.comparison.as_dict,
            "warnings": [warning.as_dict for warning in self.warnings],
        }


@dataclass(frozen=True)
class AssessmentOptions:
    """How to assess.

    Attributes:
        bootstrap: its references are taken from the request unless given.
        calibration: of the law on these runs; None cross-validates it here, in n_folds.
        n_folds: of the cross-validation.
        thresholds: of the warnings.
        bundled: shape (domains,), domains that are mixed as one, at a fixed ratio; None for none.
    """

    bootstrap: BootstrapOptions = field(default_factory=BootstrapOptions)
    calibration: Calibration | None = None
    n_folds: int = 5
    thresholds: WarningThresholds = field(default_factory=WarningThresholds)
    bundled: npt.NDArray[np.bool_] | None = None


def assess(
    problem: MixtureProblem,
    proposal: Proposal,
    observations: Observations,
    request: Request | None = None,
    options: AssessmentOptions | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Cross-validate the law (if that is still to be done), resample the runs, compare, and say what to doubt.

    Args:
        problem: with the law fitted to all of `observations`.
        proposal: its solution.
        request: what the mixture is for; gives epochs, UniMax and named references.
    """
    request, options = request or Request(), options or AssessmentOptions()
    calibration = options.calibration
    if calibration is None:
        calibration = calibrate(problem.law, observations, problem.objective, options.n_folds, options.bootstrap.seed)
    settings = options.bootstrap
    if settings.references is None:
        settings = replace(settings, references=request.references(observations.domains, problem.prior))
    resampled = bootstrap(problem, observations, settings, proposal, calibration.objective.rmse, progress)
    comparison = compare(problem, proposal, observations, request, resampled)
    facts = ProposalFacts(problem, proposal, observations, calibration, resampled, comparison, options.bundled)
    return Assessment(calibration, resampled, comparison, find_warnings(facts, options.thresholds))
