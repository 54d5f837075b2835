"""Coupling: how far the best proportions among some domains depend on what happens to the others.

Coefficients A, shape (metrics, domains): A_ij is the change of the log of metric i's reducible part per unit of domain
j's share. For the log-linear law f_i = exp(c_i) + exp(t_i . p) that is t (Olmix, arXiv 2602.12237); any other law has
tangent coefficients at a mixture. D_fix are the domains whose proportions are kept, D_comp those that are computed.

Why kappa matters: let u~ be the best inner proportions without D_comp (q~ = u~), u* those of the new optimum
q* = (rho u*, (1 - rho) s*), and F = sum_i w_i f_i, with or without lambda KL(q || p0). Convexity and the optimality of
u~ give, with e_i the greatest exp(t_i . p) between the mixtures concerned and C = |(w_i e_i)_i|,

    gap of full reuse <= C rho (1 - rho) |(a_fix + a_comp) * a_fix| |u~ - u*| <= C rho (1 - rho) kappa |u~ - u*|,
    |u~ - u*|         <= (C / mu) (1 - rho) kappa,

with mu the strong convexity of F along D_fix (at least lambda). KL drops out of the first: given rho, its part along
u is the same in the old problem and in the new one. docs/domain-updates.md has the steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def centred(A: Floats, members: Bools) -> Floats:
    """A less the median over `members`, per metric: what a domain does beyond the usual one. Only differences count.

    A number added to a row of the log-linear law's t multiplies that metric's reducible part by a constant, which a
    change of the metric's unit does too; centring takes it out. Most domains do nothing particular for a metric, so
    the median is the zero of one that does not act on it. Shapes (metrics, domains), (domains,).
    """
    result: Floats = A - np.median(A[:, members], axis=1)[:, None]
    return result


def kappa(A: Floats, fixed: Bools, computed: Bools) -> float:
    """|| (1 + a_fix + a_comp) * a_fix ||, a_fix and a_comp the norms of each metric's row on the two sets (Olmix).

    Args:
        A: shape (metrics, domains).
        fixed, computed: members of D_fix and D_comp, shape (domains,).
    """
    on_fixed, on_computed = _norms(A, fixed), _norms(A, computed)
    return float(np.linalg.norm((1 + on_fixed + on_computed) * on_fixed))


def interaction(A: Floats, fixed: Bools, computed: Bools) -> float:
    """|| (a_fix + a_comp) * a_fix ||, the part of kappa that the bound rests on."""
    on_fixed, on_computed = _norms(A, fixed), _norms(A, computed)
    return float(np.linalg.norm((on_fixed + on_computed) * on_fixed))


def domain_coupling(A: Floats, computed: Bools) -> Floats:
    """Of each domain with D_comp over shared metrics, shape (domains,): || A_ij a_comp,i || over metrics i.

    Zero for a domain that acts on no metric that D_comp acts on.
    """
    result: Floats = np.linalg.norm(A * _norms(A, computed)[:, None], axis=0)
    return result


@dataclass(frozen=True)
class ReuseGap:
    """How far kept proportions are from the best ones.

    Attributes:
        total_variation: half the L1 distance, the share of the bundle's tokens that goes elsewhere, in [0, 1].
        euclidean: the L2 distance, the one in the bound.
    """

    total_variation: float
    euclidean: float


def reuse_gap(kept: Floats, best: Floats) -> ReuseGap:
    """Between inner proportions on D_fix, both shape (domains,), of any positive sums; 0 if one has no mass."""
    if kept.sum() <= 0 or best.sum() <= 0:
        return ReuseGap(0.0, 0.0)
    difference = kept / kept.sum() - best / best.sum()
    return ReuseGap(float(np.abs(difference).sum() / 2), float(np.linalg.norm(difference)))


def mask(names: Sequence[str], members: Sequence[str]) -> Bools:
    """Which of `names` are `members`, shape (names,)."""
    wanted = set(members)
    return np.array([name in wanted for name in names], dtype=bool)


def _norms(A: Floats, members: Bools) -> Floats:
    result: Floats = np.linalg.norm(A[:, members], axis=1)
    return result
