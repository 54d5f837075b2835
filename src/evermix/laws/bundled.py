"""A law that sees only the totals of a collapsed space's components: f(q) = inner(collapse q).

Fitted to runs that keep the frozen proportions, it needs as few runs as there are components, and it is a law over
leaves, so solver, caps and reports need not know of bundles. Its optimum keeps the proportions: any feasible q and
its projection q' (same totals, proportions ptilde) have f(q) = f(q'), and KL(q || p0) = KL(q' || p0)
+ q_v KL(q_fix / q_v || ptilde) for the prior p0 = `space.prior(...)`, so with lambda > 0 q is optimal only if q = q';
q' is feasible under `space.tighten(bounds)`. With lambda = 0 the proportions are free: project the solution.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ConstraintError
from evermix.laws.base import Floats, MixingLaw
from evermix.observations.runs import Runs
from evermix.reuse.space import CollapsedSpace

_NEGLIGIBLE = 1e-12


class BundledLaw(MixingLaw):
    """`inner` on the components of `space`; a convex inner law stays convex, for collapse is linear.

    Args:
        inner: an unfitted law.
        space: leaves and bundle.

    Attributes after fit:
        inner_: the fitted law over components.
    """

    name = "bundled"
    formula = "inner(collapse p)"
    source = "Olmix, arXiv 2602.12237: mixture reuse"

    inner_: MixingLaw

    def __init__(self, inner: MixingLaw, space: CollapsedSpace) -> None:
        self.inner = inner
        self.space = space

    @property
    def is_convex(self) -> bool:
        """Where the inner law is."""
        return self._law.is_convex

    @property
    def has_gradient(self) -> bool:
        """Where the inner law has one."""
        return self._law.has_gradient

    @property
    def has_std(self) -> bool:
        """Where the inner law has one."""
        return self._law.has_std

    @property
    def pools_metrics(self) -> bool:
        """Where the inner law does."""
        return self._law.pools_metrics

    @property
    def parameter_count(self) -> int:
        """Those of the inner law, over components."""
        return self._fitted.parameter_count

    def fit(self, runs: Runs) -> Self:
        """Fit the inner law to the totals of the runs; that runs keep the proportions is the caller's duty."""
        return self._adopt(self.inner.clone().fit(self._collapsed(runs)))

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit."""
        return self.clone()._adopt(self._fitted.refit(self._collapsed(runs)))

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at mixtures over all leaves, (..., leaves) -> (..., metrics)."""
        return self._fitted.predict(self._totals(P))

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.predict_with_std."""
        return self._fitted.predict_with_std(self._totals(P))

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d f_i / d p_j, that of j's component, (leaves,) -> (metrics, leaves)."""
        return self._to_leaves(self._fitted.gradient(self._totals(p)))

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.curvature; only where the inner law does not bend along the bundle by itself.

        Raises:
            ConstraintError: where it does: the bundle's block is then full, see `weighted_curvature`.
        """
        diagonal, factor = self._fitted.curvature(self._totals(p))
        if (diagonal[:, 0] > _NEGLIGIBLE * np.abs(diagonal).max(initial=1.0)).any():
            raise ConstraintError(
                "the curvature of a bundle must be taken of the whole objective", hint="call weighted_curvature"
            )
        return self._to_leaves(diagonal) * ~self.space.bundled, factor

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """See MixingLaw.weighted_curvature; the bundle's own curvature d_v 1 1^T is one more row, sqrt(d_v) 1."""
        diagonal, rows = self._fitted.weighted_curvature(self._totals(p), weights)
        bundle = np.sqrt(diagonal[0]) * self.space.bundled
        spread = self._to_leaves(diagonal[None])[0] * ~self.space.bundled
        return spread, np.vstack([self._to_leaves(rows), bundle[None]])

    def settled(self) -> MixingLaw:
        """See MixingLaw.settled."""
        return BundledLaw(self._fitted.settled(), self.space)

    def expressions(self, variable: Any) -> list[Any]:
        """The inner law's expressions of the totals."""
        return self._fitted.expressions(self.space.totals.T @ variable)

    @property
    def _fitted(self) -> MixingLaw:
        self._check_fitted()
        return self.inner_

    @property
    def _law(self) -> MixingLaw:
        return getattr(self, "inner_", self.inner)

    def _adopt(self, fitted: MixingLaw) -> Self:
        self.inner_ = fitted
        self.n_domains_, self.n_metrics_ = len(self.space.leaves), fitted.n_metrics_
        self.objective_, self.converged_, self.noise_ = fitted.objective_, fitted.converged_, fitted.noise_
        return self

    def _collapsed(self, runs: Runs) -> Runs:
        return replace(runs, mixtures=self.space.collapse(runs.mixtures))

    def _totals(self, P: npt.ArrayLike) -> Floats:
        return self.space.collapse(self._mixtures(P))

    def _to_leaves(self, columns: Floats) -> Floats:
        """(..., components) -> (..., leaves): each leaf gets its component's number."""
        result: Floats = columns @ self.space.totals.T
        return result
