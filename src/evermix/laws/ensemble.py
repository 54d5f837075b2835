"""Stacking (Wolpert 1992, Breiman 1996): f_i = sum_e v_ie f_ie over member laws e, v_ie >= 0, sum_e v_ie = 1.

With E_i the members' held-out errors of metric i, (runs, members), G_i = E_i' W_i E_i, d_i = trace(G_i) / members,

    v_i = argmin  v' G_i v + (shrinkage / sqrt K) d_i |v - v0|^2   over the simplex,

where v0 solves the same problem for the mean of G_i / d_i over metrics, shrunk towards equal weights: few runs say
little about one metric, more about all together. Convex if every member with weight is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.optimize import nnls

from evermix.errors import ObservationError
from evermix.laws.base import Floats, MixingLaw, weighted
from evermix.laws.cross_validation import fold_labels, held_out
from evermix.laws.gaussian_process import GaussianProcessLaw
from evermix.laws.power_link import PooledPowerLinkLaw
from evermix.observations.runs import Runs

_LEAST_WEIGHT = 1e-3


class EnsembleLaw(MixingLaw):
    """Average of laws with weights per metric that held-out predictions decide.

    Args:
        members: unfitted laws; None for pooled power-link at g = 0.5, 0.7 and 1 and Gaussian processes at 0.5 and 1.
        n_folds, seed: of the held-out predictions.
        shrinkage: pull towards the weights of all metrics together, and of those towards equal weights.

    Attributes after fit:
        members_: the fitted members. weights_: (metrics, members), rows sum to 1.
        left_out_: (name, reason) of members that the runs are too few for.
    """

    name = "ensemble"
    formula = "sum_e v_e f_e(p)"
    source = "Wolpert 1992; Breiman 1996"

    members_: list[MixingLaw]
    weights_: Floats
    left_out_: list[tuple[str, str]]

    def __init__(
        self, members: Sequence[MixingLaw] | None = None, n_folds: int = 5, seed: int = 0, shrinkage: float = 1.0
    ) -> None:
        self.members = members
        self.n_folds = n_folds
        self.seed = seed
        self.shrinkage = shrinkage

    @property
    def pools_metrics(self) -> bool:
        """Always."""
        return True

    @property
    def is_convex(self) -> bool:
        """After fit: whether every member with weight is convex."""
        return hasattr(self, "members_") and all(law.is_convex for law in self._weighty())

    @property
    def has_gradient(self) -> bool:
        """After fit: whether every member with weight has one."""
        return hasattr(self, "members_") and all(law.has_gradient for law in self._weighty())

    @property
    def has_std(self) -> bool:
        """After fit: whether every member with weight has one."""
        return hasattr(self, "members_") and all(law.has_std for law in self._weighty())

    def fit(self, runs: Runs) -> Self:
        """Fit; see MixingLaw.fit. Members that the runs are too few for are left out, and listed in `left_out_`."""
        weighted(runs)
        data = runs if runs.counts is None else runs.take(runs.counts > 0)
        labels = fold_labels(data.mixtures, self.n_folds, self.seed)
        members, predictions, left_out = [], [], []
        for law in default_members() if self.members is None else self.members:
            try:
                predictions.append(held_out(law, data, labels)[0])
                members.append(law)
            except ObservationError as error:
                left_out.append((law.name, str(error)))
        if not members:
            raise ObservationError("an ensemble needs a member that the runs suffice for", received=left_out)
        self.left_out_ = left_out
        return self._weigh(members, data, predictions)

    def fit_weighted(self, data: Runs, predictions: Sequence[Floats]) -> Self:
        """Fit with the members' held-out predictions, each (runs, metrics), already at hand; counts must be > 0."""
        self.left_out_ = []
        return self._weigh(list(default_members() if self.members is None else self.members), data, predictions)

    def refit(self, runs: Runs) -> Self:
        """See MixingLaw.refit: the members are refitted, their weights and the noise stay."""
        self._check_fitted()
        law = self.clone()
        law.weights_, law.left_out_, law.noise_ = self.weights_, self.left_out_, self.noise_
        law.objective_ = self.objective_
        law._adopt([member.refit(runs) for member in self.members_])
        return law

    def predict(self, P: npt.ArrayLike) -> Floats:
        """The weighted average, shape (..., domains) -> (..., metrics)."""
        self._mixtures(P)
        return self._average([law.predict(P) for law in self.members_])

    def predict_with_std(self, P: npt.ArrayLike) -> tuple[Floats, Floats]:
        """Average, and sqrt(sum_e v_e (std_e^2 + (f_e - f)^2)), both (..., metrics)."""
        self._mixtures(P)
        pairs = [law.predict_with_std(P) if law.has_std else (law.predict(P), np.zeros(())) for law in self.members_]
        mean = self._average([value for value, _ in pairs])
        return mean, np.sqrt(self._average([std**2 + (value - mean) ** 2 for value, std in pairs]))

    def gradient(self, p: npt.ArrayLike) -> Floats:
        """sum_e v_ie grad f_ie, (domains,) -> (metrics, domains)."""
        self._mixtures(p)
        if not self.has_gradient:
            raise self._lacks("a gradient", "use the sampling search")
        slope = np.zeros((self.n_metrics_, self.n_domains_))
        for column, law in zip(self.weights_.T, self.members_, strict=True):
            if column.any():
                used = column > 0
                slope[used] += column[used, None] * law.gradient(p)[used]
        return slope

    def weighted_curvature(self, p: npt.ArrayLike, weights: Floats) -> tuple[Floats, Floats]:
        """That of the members, each with its share of the weights; see MixingLaw.weighted_curvature."""
        self._mixtures(p)
        parts = [law.weighted_curvature(p, weights * column) for column, law in self._columns() if column.any()]
        return sum((d for d, _ in parts), np.zeros(self.n_domains_)), np.vstack([rows for _, rows in parts])

    def with_fixed_choices(self) -> MixingLaw:
        """The same members with the same weights; see MixingLaw.with_fixed_choices."""
        self._check_fitted()
        return FixedEnsembleLaw(self)

    def expressions(self, variable: Any) -> list[Any]:
        """sum_e v_ie of the members' expressions, those of no weight left out."""
        self._mixtures(np.zeros(variable.shape))
        if not self.is_convex:
            raise self._lacks("convex expressions", "use the sampling search")
        parts = [law.expressions(variable) if column.any() else [] for column, law in self._columns()]
        return [
            sum(float(v) * part[i] for v, part in zip(row, parts, strict=True) if v > 0)
            for i, row in enumerate(self.weights_)
        ]

    def _columns(self) -> list[tuple[Floats, MixingLaw]]:
        return list(zip(self.weights_.T, self.members_, strict=True))

    def _weighty(self) -> list[MixingLaw]:
        return [law for column, law in self._columns() if column.any()]

    def _average(self, tables: list[Floats]) -> Floats:
        result: Floats = sum(v * np.asarray(table) for v, table in zip(self.weights_.T, tables, strict=True))
        return result

    def _weigh(self, members: list[MixingLaw], data: Runs, predictions: Sequence[Floats]) -> Self:
        """Weights from held-out predictions, then the members that have any, fitted to all runs."""
        table = weighted(data)
        errors = (np.stack(predictions, axis=2) - table.values[:, :, None]) * table.weights[:, :, None]
        weights = stacking_weights(errors, table.n_effective, self.shrinkage)
        used = np.flatnonzero(weights.any(axis=0))
        self.weights_ = weights[:, used]
        together = np.einsum("kie,ie->ki", errors, weights)
        self.objective_ = (together**2).sum(axis=0)
        self.noise_ = np.sqrt(self.objective_ / table.n_effective)
        self._adopt([members[e].clone().fit(data) for e in used])
        return self

    def _adopt(self, members: list[MixingLaw]) -> None:
        self.members_ = members
        self.n_domains_, self.n_metrics_ = members[0].n_domains_, members[0].n_metrics_
        used = self.weights_.T > 0
        converged = np.stack([law.converged_ for law in members])
        self.converged_ = np.asarray((converged | ~used).all(axis=0), dtype=np.bool_)


def default_members() -> list[MixingLaw]:
    """What an ensemble averages unless told otherwise."""
    links: list[MixingLaw] = [PooledPowerLinkLaw(g=g) for g in (0.5, 0.7, 1.0)]
    return [*links, GaussianProcessLaw(g=0.5), GaussianProcessLaw(g=1.0)]


class FixedEnsembleLaw(EnsembleLaw):
    """An ensemble whose weights are those of another, fitted to all runs.

    Args:
        chosen: the fitted ensemble.
    """

    def __init__(self, chosen: EnsembleLaw) -> None:
        self.chosen = chosen

    def fit(self, runs: Runs) -> Self:
        """Fit the members anew; weights and noise stay."""
        self.weights_, self.left_out_, self.noise_ = self.chosen.weights_, self.chosen.left_out_, self.chosen.noise_
        self.objective_ = self.chosen.objective_
        self._adopt([member.with_fixed_choices().fit(runs) for member in self.chosen.members_])
        return self


def stacking_weights(errors: Floats, n_effective: Floats, shrinkage: float) -> Floats:
    """Weights (metrics, members) of held-out errors (runs, metrics, members); the formula is the module's."""
    gram = np.einsum("kie,kif->ief", errors, errors)
    level = np.maximum(np.einsum("iee->i", gram) / gram.shape[1], 1e-300)
    pull = shrinkage / np.sqrt(n_effective)
    relative = gram / level[:, None, None]
    equal = np.full(gram.shape[1], 1 / gram.shape[1])
    common = _simplex_minimum(relative.mean(axis=0), float(pull.mean()), equal)
    return np.stack([_simplex_minimum(G, float(w), common) for G, w in zip(relative, pull, strict=True)])


def _simplex_minimum(gram: Floats, pull: float, target: Floats) -> Floats:
    """argmin v' G v + pull |v - target|^2 over the simplex: non-negative least squares, a heavy row for sum v = 1."""
    n = len(gram)
    lower = np.linalg.cholesky(gram + 1e-10 * np.trace(gram) / n * np.eye(n) + 1e-14 * np.eye(n))
    rows = np.vstack([lower.T, np.sqrt(pull) * np.eye(n), np.full((1, n), 1e3)])
    right = np.concatenate([np.zeros(n), np.sqrt(pull) * target, [1e3]])
    v, _ = nnls(rows, right)
    v[v < _LEAST_WEIGHT] = 0.0
    result: Floats = v / v.sum()
    return result
