"""A law over more domains than its runs have seen: the unseen ("dead") ones keep a fixed share, the law sees the rest.

Nothing is known of a domain that no run was trained on, so no coefficient is made up for it. With d the share that the
dead domains keep, f(p) = inner(p_live / (1 - d)): linear in p, so a convex law stays convex.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.errors import ObservationError
from evermix.laws.base import Bools, Floats, MixingLaw
from evermix.observations.runs import Runs


class LiveLaw(MixingLaw):
    """`inner` on the live domains.

    Args:
        inner: an unfitted law.
        live: shape (domains,), the domains that some run was trained on.
        dead_share: d, what the others keep; `predict` renormalises whatever mixture it gets.

    Attributes after fit:
        inner_: the fitted law over live domains.
    """

    name = "live"
    formula = "inner(p_live / (1 - dead share))"
    source = "METHODS 1.3: reinsert dead domains at their prior mass"

    inner_: MixingLaw

    def __init__(self, inner: MixingLaw, live: tuple[bool, ...], dead_share: float) -> None:
        self.inner = inner
        self.live = live
        self.dead_share = dead_share

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
    def parameter_count(self) -> int:
        """Those of the inner law, over live domains."""
        return self._fitted.parameter_count

    def fit(self, runs: Runs) -> Self:
        """Fit the inner law; ObservationError too if a run was trained on a dead domain."""
        return self._adopt(self.inner.clone().fit(self._live_part(runs)))

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit."""
        self._check_fitted()
        return self.clone()._adopt(self.inner_.refit(self._live_part(runs)))

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at mixtures over all domains, (..., domains) -> (..., metrics)."""
        return self._fitted.predict(self._renormalised(P))

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.predict_with_std."""
        return self._fitted.predict_with_std(self._renormalised(P))

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d f_i / d p_j, 0 for dead domains, (domains,) -> (metrics, domains)."""
        return self._spread_out(self._fitted.gradient(self._renormalised(p)) / (1 - self.dead_share))

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.curvature; the rank-one factor is the inner law's, for the gradient carries the scale."""
        diagonal, factor = self._fitted.curvature(self._renormalised(p))
        return self._spread_out(diagonal / (1 - self.dead_share) ** 2), factor

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """See MixingLaw.weighted_curvature."""
        diagonal, rows = self._fitted.weighted_curvature(self._renormalised(p), weights)
        share = 1 - self.dead_share
        return self._spread_out(diagonal[None] / share**2)[0], self._spread_out(rows / share)

    def settled(self) -> MixingLaw:
        """See MixingLaw.settled."""
        self._check_fitted()
        return LiveLaw(self.inner_.settled(), self.live, self.dead_share)

    def expressions(self, variable: Any) -> list[Any]:
        """The inner law's expressions of the live shares."""
        self._check_fitted()
        return self.inner_.expressions(variable[np.flatnonzero(self._mask)] / (1 - self.dead_share))

    @property
    def _mask(self) -> Bools:
        return np.array(self.live, dtype=bool)

    @property
    def _fitted(self) -> MixingLaw:
        self._check_fitted()
        return self.inner_

    @property
    def _law(self) -> MixingLaw:
        return getattr(self, "inner_", self.inner)

    def _adopt(self, fitted: MixingLaw) -> Self:
        self.inner_ = fitted
        self.n_domains_, self.n_metrics_ = len(self.live), fitted.n_metrics_
        self.objective_, self.converged_, self.noise_ = fitted.objective_, fitted.converged_, fitted.noise_
        return self

    def _live_part(self, runs: Runs) -> Runs:
        mixtures = runs.mixtures
        if mixtures.shape[1] != len(self.live):
            raise ObservationError(f"runs must have shares of {len(self.live)} domains", received=mixtures.shape)
        dead = mixtures[:, ~self._mask]
        if dead.any():
            raise ObservationError("no run may be trained on a dead domain", received=float(dead.max()))
        return replace(runs, mixtures=mixtures[:, self._mask])

    def _renormalised(self, P: npt.ArrayLike) -> Floats:
        live = self._mixtures(P)[..., self._mask]
        total = live.sum(axis=-1, keepdims=True)
        if (total <= 0).any():
            raise ObservationError("a mixture must have mass on a domain that some run was trained on")
        result: Floats = live / total
        return result

    def _spread_out(self, columns: Floats) -> Floats:
        whole = np.zeros((len(columns), len(self.live)))
        whole[:, self._mask] = columns
        return whole
