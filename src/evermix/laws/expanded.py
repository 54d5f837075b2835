"""A fitted law over leaves, asked about component mixtures: g(r) = f(expand r).

The other direction of `bundled`: there a law is fitted to totals; here one that was fitted to all leaves says what a
collapsed space would lose. Linear in r, and each leaf belongs to one component, so a convex law stays convex and its
curvature stays diagonal plus few rows: d_v = sum_j ptilde_j^2 d_j.
"""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw
from evermix.observations.runs import Runs
from evermix.reuse.space import CollapsedSpace

_SMALLEST_SHARE = 1e-12


class ExpandedLaw(MixingLaw):
    """`law` on the mixtures of `space`, by their components.

    Args:
        law: fitted, over the leaves.
        space: leaves and bundle.
    """

    name = "expanded"
    formula = "law(expand r)"
    source = "Olmix, arXiv 2602.12237: mixture reuse"

    def __init__(self, law: MixingLaw, space: CollapsedSpace) -> None:
        self.law = law
        self.space = space
        self.n_domains_, self.n_metrics_ = len(space.components), law.n_metrics_
        self.objective_, self.converged_, self.noise_ = law.objective_, law.converged_, law.noise_

    @property
    def is_convex(self) -> bool:
        """Where the law is."""
        return self.law.is_convex

    @property
    def has_gradient(self) -> bool:
        """Where the law has one."""
        return self.law.has_gradient

    @property
    def has_std(self) -> bool:
        """Where the law has one."""
        return self.law.has_std

    @property
    def parameter_count(self) -> int:
        """Those of the law over leaves."""
        return self.law.parameter_count

    def fit(self, runs: Runs) -> NoReturn:
        """Refused: it is a view of a law that is fitted over leaves."""
        raise ObservationError("a view of a fitted law cannot be fitted", hint="fit the law over leaves, or BundledLaw")

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at component mixtures, (..., components) -> (..., metrics)."""
        return self.law.predict(self.space.expand(P))

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.predict_with_std."""
        return self.law.predict_with_std(self.space.expand(P))

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d g_i / d r_c, (components,) -> (metrics, components)."""
        slopes: Floats = self.law.gradient(self._inside(p)) @ self.space.spread.T
        return slopes

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.curvature."""
        diagonal, factor = self.law.curvature(self._inside(p))
        return diagonal @ (self.space.spread**2).T, factor

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """See MixingLaw.weighted_curvature."""
        diagonal, rows = self.law.weighted_curvature(self._inside(p), weights)
        return np.asarray(diagonal @ (self.space.spread**2).T), np.asarray(rows @ self.space.spread.T)

    def expressions(self, variable: Any) -> list[Any]:
        """The law's expressions of the expanded mixture."""
        return self.law.expressions(self.space.spread.T @ variable)

    def _inside(self, p: npt.ArrayLike) -> Floats:
        """The leaf mixture, no share at zero: a slope may be infinite there, and no component may inherit that."""
        return np.maximum(self.space.expand(p), _SMALLEST_SHARE)
