"""A law behind a linear map of the mixture: f(p) = inner(A p); and the three maps that are used.

`on_sampled`: runs have seen some domains only, the law is one of those. `on_totals`: some domains keep fixed
proportions, the law is one of the components' totals. `on_expanded`: a fitted law over leaves, asked about component
mixtures. A map of non-negative entries that keeps mixtures mixtures leaves a convex law convex.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from evermix.domain_updates.fixed_ratio import CollapsedSpace
from evermix.errors import ConstraintError, ObservationError
from evermix.laws.base import Bools, Floats, MixingLaw
from evermix.observations.runs import Runs

_NEGLIGIBLE = 1e-12
_SMALLEST_SHARE = 1e-12


class LinearlyMappedLaw(MixingLaw):
    """f(p) = inner(q) with q = A p, or, where a `total` is given, q = A p / sum(A p).

    With J = A (or A / total) the gradient is g J, and the Hessian J' diag(d) J + s (g J)' (g J) for the inner law's
    gradient g and curvature d, s: a row of J with one entry adds to the diagonal, a row with several is one more row
    beside the rank-one part.

    Args:
        inner: an unfitted law.
        A: shape (inner domains, domains), >= 0.
        total: what A p sums to in every mixture that is asked about, where that is not 1 because the other domains keep
            a fixed share. `predict` brings whatever mixture it gets to sum 1, derivatives are those at that total.
            Domains that A leaves out must have no share in the runs. None where A p sums to 1.
        floor: derivatives are taken with no share of q below it.

    Attributes after fit:
        inner_: the fitted law of q.
    """

    name = "linearly-mapped"
    formula = "inner(A p)"
    source = "Olmix, arXiv 2602.12237: mixture reuse"

    inner_: MixingLaw

    def __init__(self, inner: MixingLaw, A: Floats, total: float | None = None, floor: float = 0.0) -> None:
        self.inner = inner
        self.A = A
        self.total = total
        self.floor = floor

    @classmethod
    def of_fitted(cls, inner: MixingLaw, A: Floats, floor: float = 0.0) -> LinearlyMappedLaw:
        """A view of a law that is fitted."""
        return cls(inner, A, floor=floor)._adopt(inner)

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
        """Those of the inner law, over its domains."""
        return self._fitted.parameter_count

    def fit(self, runs: Runs) -> Self:
        """Fit the inner law to the mapped runs; ObservationError too if a run was trained on what A leaves out."""
        return self._adopt(self.inner.clone().fit(self._mapped_runs(runs)))

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit."""
        return self.clone()._adopt(self._fitted.refit(self._mapped_runs(runs)))

    def predict(self, P: npt.ArrayLike) -> Floats:
        """Metrics at mixtures, (..., domains) -> (..., metrics)."""
        return self._fitted.predict(self._mapped(P))

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.predict_with_std."""
        return self._fitted.predict_with_std(self._mapped(P))

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """d f_i / d p_j, 0 for domains that A leaves out, (domains,) -> (metrics, domains)."""
        return self._back(self._fitted.gradient(self._inside(p)))

    def curvature(self, p: npt.ArrayLike) -> tuple[Floats, Floats]:
        """See MixingLaw.curvature; only where the inner law does not bend by itself along what A sums.

        Raises:
            ConstraintError: where it does: a block is then full, see `weighted_curvature`.
        """
        diagonal, factor = self._fitted.curvature(self._inside(p))
        if (diagonal[:, self._summed] > _NEGLIGIBLE * np.abs(diagonal).max(initial=1.0)).any():
            raise ConstraintError(
                "the curvature of domains that are summed must be taken of the whole objective",
                hint="call weighted_curvature",
            )
        return self._diagonal_back(diagonal), factor

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """See MixingLaw.weighted_curvature; what A sums bends with d_j J_j' J_j, one more row each, sqrt(d_j) J_j."""
        diagonal, rows = self._fitted.weighted_curvature(self._inside(p), weights)
        summed = np.sqrt(diagonal[self._summed])[:, None] * self.A[self._summed] / self._total
        return self._diagonal_back(diagonal), np.vstack([self._back(rows), summed])

    def with_fixed_choices(self) -> MixingLaw:
        """See MixingLaw.with_fixed_choices."""
        return LinearlyMappedLaw(self._fitted.with_fixed_choices(), self.A, self.total, self.floor)

    def expressions(self, variable: Any) -> list[Any]:
        """The inner law's expressions of A p."""
        return self._fitted.expressions((self.A @ variable) / self._total)

    @property
    def _fitted(self) -> MixingLaw:
        self._check_fitted()
        return self.inner_

    @property
    def _law(self) -> MixingLaw:
        return getattr(self, "inner_", self.inner)

    @property
    def _total(self) -> float:
        return 1.0 if self.total is None else self.total

    @property
    def _summed(self) -> Bools:
        """Rows of A with several entries, shape (inner domains,)."""
        several: Bools = (self.A != 0).sum(axis=1) > 1
        return several

    def _adopt(self, fitted: MixingLaw) -> Self:
        self.inner_ = fitted
        self.n_domains_, self.n_metrics_ = self.A.shape[1], fitted.n_metrics_
        self.objective_, self.converged_, self.noise_ = fitted.objective_, fitted.converged_, fitted.noise_
        return self

    def _mapped_runs(self, runs: Runs) -> Runs:
        if runs.n_domains != self.A.shape[1]:
            raise ObservationError(f"runs must have shares of {self.A.shape[1]} domains", received=runs.mixtures.shape)
        outside = runs.mixtures[:, ~self.A.any(axis=0)]
        if outside.any():
            raise ObservationError("no run may be trained on an unsampled domain", received=float(outside.max()))
        return replace(runs, mixtures=runs.mixtures @ self.A.T)

    def _mapped(self, P: npt.ArrayLike) -> Floats:
        q: Floats = self._mixtures(P) @ self.A.T
        if self.total is None:
            return q
        sums = q.sum(axis=-1, keepdims=True)
        if (sums <= 0).any():
            raise ObservationError("a mixture must have mass on a domain that some run was trained on")
        scaled: Floats = q / sums
        return scaled

    def _inside(self, p: npt.ArrayLike) -> Floats:
        return np.maximum(self._mapped(p), self.floor)

    def _back(self, columns: Floats) -> Floats:
        """columns J, (..., inner domains) -> (..., domains)."""
        return _product(columns / self._total, self.A)

    def _diagonal_back(self, diagonal: Floats) -> Floats:
        """What rows of J with one entry make of d, (..., inner domains) -> (..., domains)."""
        return _product(np.where(self._summed, 0.0, diagonal / self._total**2), self.A**2)


def _product(columns: Floats, A: Floats) -> Floats:
    """columns A; a slope that is infinite at a share of zero counts only where A has an entry."""
    if np.isfinite(columns).all():
        result: Floats = columns @ A
        return result
    with np.errstate(invalid="ignore"):
        terms = np.where(A != 0, columns[..., None] * A, 0.0)
    total: Floats = terms.sum(axis=-2)
    return total


def on_sampled(inner: MixingLaw, sampled: npt.ArrayLike, unsampled_share: float) -> LinearlyMappedLaw:
    """`inner` of the domains that some run was trained on; the others keep a fixed share d.

    Nothing is known of a domain that no run was trained on, so no coefficient is made up for it (METHODS 1.3: reinsert
    such domains at their prior mass): f(p) = inner(p_sampled / (1 - d)).

    Args:
        sampled: shape (domains,), the domains that some run was trained on.
        unsampled_share: d.
    """
    seen = np.asarray(sampled, dtype=np.bool_)
    return LinearlyMappedLaw(inner, np.eye(len(seen))[seen], 1 - unsampled_share)


def on_totals(inner: MixingLaw, space: CollapsedSpace) -> LinearlyMappedLaw:
    """`inner` of the totals of a collapsed space's components: f(q) = inner(collapse q).

    Fitted to runs that keep the fixed ratio (the caller's duty), it needs as few runs as there are components,
    and it is a law over leaves, so solver, caps and reports need not know of bundles. Its optimum keeps the
    proportions: any feasible q and its projection q' (same totals, proportions ptilde) have f(q) = f(q'), and
    KL(q || p0) = KL(q' || p0) + q_v KL(q_fix / q_v || ptilde) for the prior p0 = `space.prior(...)`, so with lambda > 0
    q is optimal only if q = q'; q' is feasible under `space.tighten(bounds)`. With lambda = 0 the proportions are free:
    project the solution.
    """
    return LinearlyMappedLaw(inner, space.totals.T)


def on_expanded(fitted: MixingLaw, space: CollapsedSpace) -> LinearlyMappedLaw:
    """A fitted law over leaves, asked about component mixtures: g(r) = fitted(expand r).

    The other direction of `on_totals`: what a collapsed space would lose, by a law of all leaves. Each leaf belongs to
    one component, so the curvature stays diagonal plus few rows: d_v = sum_j ptilde_j^2 d_j. Slopes are taken with no
    leaf's share at zero: one may be infinite there, and no component may inherit that.
    """
    return LinearlyMappedLaw.of_fitted(fitted, space.spread.T, _SMALLEST_SHARE)
