"""Study: the whole decision without any trainer: observations -> law -> proposal, and ask / tell / propose / update."""

from evermix.study.fitting import FittedLaw, fit
from evermix.study.proposing import Recommendation, propose
from evermix.study.request import named_mixture
from evermix.study.study import Asked, Study
from evermix.study.what_if import WhatIf, moved, try_moves, what_if

__all__ = [
    "Asked",
    "FittedLaw",
    "Recommendation",
    "Study",
    "WhatIf",
    "fit",
    "moved",
    "named_mixture",
    "propose",
    "try_moves",
    "what_if",
]
