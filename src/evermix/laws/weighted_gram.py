"""Many weighted Gram matrices of one table: X' diag(w_b) X for each weighting w_b, as a single matrix product.

The products x_kj x_kl of the pairs j <= l are laid out once, as a table (runs, pairs); then w (batch, runs) times that
table is every Gram matrix at once. Where the table would be large, one product per weighting does the same.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_LARGEST_TABLE = 2**24  # numbers, 128 MiB


class WeightedGram:
    """w, shape (batch, runs), -> sum_k w_bk x_k x_k', shape (batch, columns, columns), for one X (runs, columns)."""

    def __init__(self, X: Floats) -> None:
        self.X = X
        n_runs, n_columns = X.shape
        self._products: Floats | None = None
        if n_runs * n_columns * (n_columns + 1) // 2 <= _LARGEST_TABLE:
            rows, columns = np.triu_indices(n_columns)
            self._products = X[:, rows] * X[:, columns]
            self._place = np.empty((n_columns, n_columns), dtype=np.intp)
            self._place[rows, columns] = self._place[columns, rows] = np.arange(len(rows))

    def __call__(self, w: Floats) -> Floats:
        if self._products is not None:
            return np.take(w @ self._products, self._place, axis=1)
        return np.stack([(self.X.T * row) @ self.X for row in w])
