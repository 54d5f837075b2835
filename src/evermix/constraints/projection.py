"""KL projection onto a box, the simplex and totals of groups: min KL(q || exp(logs)).

The solution is q_j = clip(exp(logs_j + nu + sum of mu_g over j's groups), lower_j, upper_j). Where groups are nested
or disjoint they are a tree under the whole simplex: the total of a node is clip(sum of its children's totals, L, U)
as a function of the multiplier above it, so each level is one monotone root search for all its nodes at once, exact.
Overlapping groups: projected Newton on the dual, concave and once differentiable in the multipliers.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int_]
_TINY = 1e-300
_ITERATIONS = 400
_STEPS = 500
_CLOSE = 1e-13


class Projection:
    """The projection for one set of bounds; call it with log weights, shape (domains,).

    Args:
        lower, upper: shape (domains,).
        members: shape (groups, domains), bool.
        group_lower, group_upper: shape (groups,).
    """

    def __init__(self, lower: Floats, upper: Floats, members: Bools, group_lower: Floats, group_upper: Floats) -> None:
        self.lower, self.upper = lower, upper
        self.log_upper = np.log(np.maximum(upper, _TINY))
        self.log_lower = np.log(np.maximum(lower, _TINY))
        rows = np.vstack([np.ones((1, len(lower)), dtype=bool), members])
        self.rows, self.least, self.greatest = rows, np.append(1.0, group_lower), np.append(1.0, group_upper)
        self.numbers = rows.astype(np.float64)
        self.tree = _Tree.of(rows)

    def __call__(self, logs: Floats) -> Floats:
        """The projection of exp(logs), shape (domains,); sums to 1 exactly."""
        shifted = np.maximum(logs - logs.max(), -1e12)
        q = self._on_tree(shifted) if self.tree is not None else self._overlapping(shifted)
        total: Floats = q / q.sum()
        return total

    def _shares(self, exponents: Floats) -> Floats:
        """clip(exp(exponents), lower, upper), without overflow."""
        return np.maximum(np.exp(np.minimum(exponents, self.log_upper)), self.lower) * (self.upper > 0)

    def _free(self, exponents: Floats) -> Bools:
        result: Bools = (exponents < self.log_upper) & (exponents > self.log_lower)
        return result

    def _on_tree(self, logs: Floats) -> Floats:
        tree = self.tree
        assert tree is not None
        nu = np.zeros(len(tree.parent))
        shift = np.zeros(len(logs))
        for depth, nodes in enumerate(tree.levels):
            inherited = nu[tree.parent[nodes]] if depth else np.zeros(1)
            inside = tree.ancestor[depth] >= 0
            nu[nodes] = self._solve_level(logs, depth, inherited)
            shift[inside] = nu[tree.ancestor[depth][inside]]
        return self._corrected(logs + shift, logs)

    def _solve_level(self, logs: Floats, depth: int, inherited: Floats) -> Floats:
        """Multipliers of the nodes at `depth` that bring their totals within bounds: safeguarded Newton, vectorised."""
        tree = self.tree
        assert tree is not None
        nodes, where = tree.levels[depth], tree.ancestor[depth]
        leaves = np.flatnonzero(where >= 0)
        place = tree.position[where[leaves]]
        target = np.clip(self._totals(logs, depth, inherited)[0], self.least[nodes], self.greatest[nodes])
        if depth == 0:
            target = np.ones(1)
        low, high = np.full(len(nodes), np.inf), np.full(len(nodes), -np.inf)
        np.minimum.at(low, place, self.log_lower[leaves] - logs[leaves])
        np.maximum.at(high, place, self.log_upper[leaves] - logs[leaves])
        guess = np.clip(inherited, low, high) if depth else (low + high) / 2
        totals, slopes = self._totals(logs, depth, guess)
        for _ in range(_ITERATIONS):
            error = totals - target
            done = (np.abs(error) <= 1e-15 * np.maximum(target, 1e-3)) | (high - low <= 4e-16 * (np.abs(guess) + 1e-3))
            if done.all():
                break
            low, high = np.where(error < 0, guess, low), np.where(error > 0, guess, high)
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                newton = guess - error / slopes
            usable = np.isfinite(newton) & (newton > low) & (newton < high)
            guess = np.where(done, guess, np.where(usable, newton, (low + high) / 2))
            totals, slopes = self._totals(logs, depth, guess)
        return guess

    def _totals(self, logs: Floats, depth: int, nu: Floats) -> tuple[Floats, Floats]:
        """Totals of the nodes at `depth` under their multipliers `nu`, groups below clipped; and their slopes."""
        tree = self.tree
        assert tree is not None
        nodes, where = tree.levels[depth], tree.ancestor[depth]
        inside = where >= 0
        exponents = np.where(inside, logs + nu[tree.position[np.maximum(where, 0)]], -1e12)
        shares = self._shares(exponents)
        size = len(tree.parent)
        totals: Floats = np.bincount(tree.owner[inside], shares[inside], size).astype(np.float64)
        free_shares = np.where(self._free(exponents), shares, 0.0)
        slopes: Floats = np.bincount(tree.owner[inside], free_shares[inside], size).astype(np.float64)
        for deeper in range(len(tree.levels) - 1, depth, -1):
            below = tree.levels[deeper]
            free = (totals[below] > self.least[below]) & (totals[below] < self.greatest[below])
            clipped = np.clip(totals[below], self.least[below], self.greatest[below])
            np.add.at(totals, tree.parent[below], clipped)
            np.add.at(slopes, tree.parent[below], np.where(free, slopes[below], 0.0))
        return totals[nodes], slopes[nodes]

    def _corrected(self, exponents: Floats, logs: Floats) -> Floats:
        """Shares, the free ones scaled so that the sum is 1 to the last digit (multipliers of great size lose some)."""
        shares = self._shares(exponents)
        if len(self.rows) > 1:
            return shares
        free = self._free(exponents)
        missing = 1 - shares.sum()
        if abs(missing) > 1e-15 and free.any():
            shares[free] = np.clip(
                shares[free] * max(1 + missing / shares[free].sum(), 0.0), self.lower[free], self.upper[free]
            )
        return shares

    def _overlapping(self, logs: Floats) -> Floats:
        """Projected Newton on the dual, a sweep of coordinate ascent wherever Newton stalls."""
        mu = np.zeros(len(self.rows))
        mu[0] = self._row_multiplier(logs, 0)
        for _ in range(_STEPS):
            if self._residual(logs, mu).max() < _CLOSE:
                break
            newer = self._newton_step(logs, mu)
            if newer is None:
                newer = mu.copy()
                for g in range(len(mu)):
                    newer[g] = self._row_multiplier(logs + newer @ self.numbers - newer[g] * self.numbers[g], g)
            mu = newer
        return self._shares(logs + mu @ self.numbers)

    def _dual(self, logs: Floats, mu: Floats) -> float:
        """sum mu_g (least_g if mu_g > 0 else greatest_g) - sum_j Phi_j, to be maximised; Phi' = clip(exp, l, u)."""
        theta = logs + mu @ self.numbers
        inner = np.exp(np.clip(theta, self.log_lower, self.log_upper))
        below = self.lower * np.minimum(theta - self.log_lower, 0.0)
        above = self.upper * np.maximum(theta - self.log_upper, 0.0)
        phi = (inner + below + above) * (self.upper > 0)
        return float(np.where(mu > 0, self.least, self.greatest) @ mu - phi.sum())

    def _newton_step(self, logs: Floats, mu: Floats) -> Floats | None:
        """A damped Newton step on the rows that bind or are broken, signs kept; None if the dual does not rise."""
        exponents = logs + mu @ self.numbers
        shares = self._shares(exponents)
        totals = self.numbers @ shares
        ascent = np.where(mu > 0, self.least, self.greatest) - totals
        idle = mu == 0
        ascent[idle] = (np.maximum(self.least - totals, 0.0) - np.maximum(totals - self.greatest, 0.0))[idle]
        ascent[0] = 1 - totals[0]
        active = ~idle | (np.abs(ascent) > 0)
        active[0] = True
        rows = self.numbers[active]
        curvature = (rows * np.where(self._free(exponents), shares, 0.0)) @ rows.T
        curvature[np.diag_indices(len(rows))] += 1e-12 * (1 + np.trace(curvature))
        step = np.zeros(len(mu))
        step[active] = np.linalg.solve(curvature, ascent[active])
        step *= min(1.0, 30.0 / max(float(np.abs(step).max()), 1e-300))
        sign = np.where(mu != 0, np.sign(mu), np.sign(ascent))
        now = self._dual(logs, mu)
        for _ in range(30):
            newer = mu + step
            crossed = newer * sign < 0
            crossed[0] = False
            newer[crossed] = 0.0
            if self._dual(logs, newer) > now or np.abs(step).max() < 1e-9:
                return None if np.array_equal(newer, mu) else newer
            step /= 2
        return None

    def _residual(self, logs: Floats, mu: Floats) -> Floats:
        """By how much each row breaks its bounds, or leaves the bound that its multiplier says it is at."""
        totals = self.numbers @ self._shares(logs + mu @ self.numbers)
        beyond = np.maximum(self.least - totals, totals - self.greatest)
        away = np.where(mu > 0, totals - self.least, self.greatest - totals)
        away[mu == 0] = 0.0
        result: Floats = np.maximum(np.maximum(beyond, away), 0.0)
        result[0] = abs(totals[0] - 1)
        return result

    def _row_multiplier(self, exponents: Floats, g: int) -> float:
        """mu_g that brings the total of row g within its bounds, 0 if it is; the rest as in `exponents`."""
        inside = self.rows[g]
        part, ceiling, floor = exponents[inside], self.log_upper[inside], self.lower[inside]
        usable = self.upper[inside] > 0

        def total(mu: float) -> float:
            return float((np.maximum(np.exp(np.minimum(part + mu, ceiling)), floor) * usable).sum())

        now = total(0.0)
        target = min(max(now, self.least[g]), self.greatest[g])
        if now == target:
            return 0.0
        low = float((self.log_lower[inside] - part).min())
        high = float((ceiling - part).max())
        for _ in range(100):
            middle = (low + high) / 2
            low, high = (middle, high) if total(middle) < target else (low, middle)
        return (low + high) / 2


class _Tree:
    """Rows as a tree under the whole simplex (row 0).

    Attributes:
        parent: (rows,), the smallest row that contains it.
        levels: rows at each depth.
        position: (rows,), place of a row within its level.
        owner: (domains,), the deepest row that holds the domain.
        ancestor: per depth, (domains,): the row at that depth that holds the domain, or -1.
    """

    parent: Ints
    levels: list[Ints]
    position: Ints
    owner: Ints
    ancestor: list[Ints]

    @classmethod
    def of(cls, rows: Bools) -> _Tree | None:
        """The tree, or None if two rows overlap without one containing the other."""
        tree = cls()
        tree.parent = np.zeros(len(rows), dtype=np.int_)
        sizes = rows.sum(axis=1)
        if rows[1:].sum(axis=0).max(initial=0) > 1 and not tree._find_parents(rows.astype(np.float64), sizes):
            return None
        depth = np.zeros(len(rows), dtype=np.int_)
        for g in np.argsort(-sizes, kind="stable"):
            depth[g] = 0 if g == 0 else depth[tree.parent[g]] + 1
        tree.levels = [np.flatnonzero(depth == d) for d in range(int(depth.max()) + 1)]
        tree.position = np.zeros(len(rows), dtype=np.int_)
        tree.ancestor = []
        tree.owner = np.zeros(rows.shape[1], dtype=np.int_)
        for level in tree.levels:
            tree.position[level] = np.arange(len(level))
            inside = rows[level].any(axis=0)
            row = np.where(inside, level[rows[level].argmax(axis=0)], -1)
            tree.ancestor.append(row)
            tree.owner[inside] = row[inside]
        return tree

    def _find_parents(self, rows: Floats, sizes: Ints) -> bool:
        """Set `parent`; False if two rows overlap without one containing the other."""
        common = rows @ rows.T
        if not ((common == 0) | (common == np.minimum(sizes[:, None], sizes[None, :]))).all():
            return False
        order = np.arange(len(rows))
        for g in range(1, len(rows)):
            # a row that holds g: bigger, or as big and before it
            above = np.flatnonzero((common[g] == sizes[g]) & ((sizes > sizes[g]) | ((sizes == sizes[g]) & (order < g))))
            self.parent[g] = above[np.lexsort((-above, sizes[above]))[0]]
        return True
