"""Linear algebra of the structured Newton step: H = diag(D) + C' C with few rows C, and a few equalities E dx = 0.

The step is the solution of  H dx + E' nu = r,  E dx = 0.  With fewer rows than coordinates H^-1 is applied by the
Woodbury identity, D^-1 - D^-1 C' (I + C D^-1 C')^-1 C D^-1, at O(rows^2 domains); else H is formed. One step of
iterative refinement each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from evermix.errors import ConvergenceError

Floats = npt.NDArray[np.float64]


class StructuredHessian:
    """diag(diagonal) + rows' rows, factored.

    Args:
        diagonal: shape (k,), > 0.
        rows: shape (r, k).
    """

    def __init__(self, diagonal: Floats, rows: Floats) -> None:
        self.diagonal, self.rows = diagonal, rows
        self.dense = len(rows) >= len(diagonal)
        # scaled by D^-1/2 on both sides: I + S' S or I + S S', whatever is smaller
        self.root = np.sqrt(diagonal)
        self.scaled = rows / self.root
        small = self.scaled.T @ self.scaled if self.dense else self.scaled @ self.scaled.T
        small[np.diag_indices(len(small))] += 1.0
        self.factor = _cholesky(small)

    def solve(self, right: Floats) -> Floats:
        """H^-1 right, shape (k, columns) -> (k, columns)."""
        solution = self._apply(right)
        residual = right - self.diagonal[:, None] * solution - self.rows.T @ (self.rows @ solution)
        refined: Floats = solution + self._apply(residual)
        return refined

    def _apply(self, right: Floats) -> Floats:
        scaled = right / self.root[:, None]
        if self.dense:
            return _cholesky_solve(self.factor, scaled) / self.root[:, None]
        inner = _cholesky_solve(self.factor, self.scaled @ scaled)
        result: Floats = (scaled - self.scaled.T @ inner) / self.root[:, None]
        return result

    def solve_with_equalities(self, right: Floats, equalities: Floats) -> tuple[Floats, Floats]:
        """dx and nu of H dx + E' nu = right, E dx = 0, shapes (k, columns) and (equalities, columns)."""
        both = self.solve(np.hstack([right, equalities.T]))
        if not np.isfinite(both).all():
            raise ConvergenceError("the Newton step must be finite")
        free, pulls = both[:, : right.shape[1]], both[:, right.shape[1] :]
        nu: Floats = np.linalg.lstsq(equalities @ pulls, equalities @ free, rcond=None)[0].astype(np.float64)
        dx = free - pulls @ nu
        # the equalities to the last digit: along pulls again
        dx -= pulls @ np.linalg.lstsq(equalities @ pulls, equalities @ dx, rcond=None)[0]
        return dx, nu


def _cholesky(matrix: Floats) -> Any:
    from scipy.linalg import LinAlgError, cho_factor  # scipy takes a moment: only those who solve wait for it

    try:
        return cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
    except LinAlgError as error:
        raise ConvergenceError("the Newton system must stay positive definite to working precision") from error


def _cholesky_solve(factor: Any, right: Floats) -> Floats:
    from scipy.linalg import cho_solve

    solution: Floats = cho_solve(factor, right, check_finite=False)
    return solution
