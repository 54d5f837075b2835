"""Study: the whole decision without any trainer: observations -> law -> proposal, and ask / tell / propose / update."""

from evermix.study.fitting import FittedLaw, fit
from evermix.study.moving import WhatIf, moved, predicted_change, what_if
from evermix.study.next_runs import first_design, next_mixtures
from evermix.study.proposing import Recommendation, best_mixture, propose
from evermix.study.request import named_mixture
from evermix.study.study import Asked, Study

__all__ = [
    "Asked",
    "FittedLaw",
    "Recommendation",
    "Study",
    "WhatIf",
    "best_mixture",
    "first_design",
    "fit",
    "moved",
    "named_mixture",
    "next_mixtures",
    "predicted_change",
    "propose",
    "what_if",
]
