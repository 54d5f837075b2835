"""The law refitted to resampled runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import numpy as np

from evermix.errors import ConvergenceError, ObservationError
from evermix.laws.base import MixingLaw
from evermix.study.fitting import FittedLaw
from evermix.trust.resampling import choose, resamples


def resampled_laws(fitted: FittedLaw, n: int, progress: Callable[[int, int], None] | None = None) -> list[MixingLaw]:
    """`n` refits, at least 2; resamples that the law cannot be fitted to are left out.

    Raises:
        ConvergenceError: if fewer than two resamples can be fitted.
    """
    observations, law = fitted.observations, fitted.law
    n = max(n, 2)
    kind = choose(observations, law).kind
    laws: list[MixingLaw] = []
    draws = resamples(kind, observations, law, n, np.random.default_rng(fitted.recipe.seed))
    for done, draw in enumerate(draws, start=1):
        with contextlib.suppress(ConvergenceError, ObservationError):
            laws.append(law.refit(observations.weights, draw.costs, observations.sigma, draw.counts))
        if progress is not None:
            progress(done, n)
    if len(laws) < 2:
        raise ConvergenceError("at least two resamples must be fitted", received=len(laws), hint="measure more runs")
    return laws
