"""Certificate of optimality for a convex objective plus KL: how far above the optimum a mixture can be at most.

For convex F(x) = h(x) + lambda KL(x || p0), the linearisation of h at x bounds F from below, so
F(x) - F* <= max_q <grad h(x), x - q> + lambda (KL(x || p0) - KL(q || p0)), over the bounds. The best q is the KL
projection of p0 exp(-grad h / lambda) onto them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from evermix.constraints import Bounds

Floats = npt.NDArray[np.float64]
_SMALLEST_WEIGHT = 1e-9  # of KL, relative to the gradient's range: makes the linear case smooth


def optimality_gap(x: Floats, gradient: Floats, bounds: Bounds, prior: Floats, kl_weight: float) -> float:
    """Upper bound of F(x) - F*, in the objective's unit; infinite where the gradient is not finite.

    Args:
        x, gradient, prior: shape (domains,); `gradient` of the objective without its KL term, at x.
    """
    if not np.isfinite(gradient).all():
        return float("inf")
    if kl_weight > 0:
        weight, base = kl_weight, prior
    else:
        weight, base = _SMALLEST_WEIGHT * max(float(np.ptp(gradient)), 1e-300), np.full(len(x), 1 / len(x))
    q = bounds.project(np.log(np.maximum(base, 1e-300)) - (gradient - gradient.min()) / weight)
    gap = float(gradient @ (x - q)) + kl_weight * (_kl(x, prior) - _kl(q, prior))
    return max(gap, 0.0)


def _kl(p: Floats, q: Floats) -> float:
    live = p > 0
    return float(np.sum(p[live] * (np.log(p[live]) - np.log(np.maximum(q[live], 1e-300)))))
