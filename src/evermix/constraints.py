"""Constraints: what a mixture may not do, whatever the law says (repetition caps, floors, caps, fixed shares)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.errors import ConstraintError

Floats = npt.NDArray[np.float64]
_SLACK = 1e-9


@dataclass(frozen=True)
class Bounds:
    """lower_j <= p_j <= upper_j, a box that holds at least one mixture.

    Attributes:
        lower, upper: shape (domains,), shares in [0, 1].
        reasons: shape (domains,), why `upper` is what it is ("epochs", "cap", "fixed", "").
    """

    lower: Floats
    upper: Floats
    reasons: tuple[str, ...]

    def clip(self, weights: Floats) -> Floats:
        """KL projection of positive `weights`, shape (domains,), onto the box and the simplex.

        min KL(q || weights): q = clip(s * weights, lower, upper) with the one scale s that makes the sum 1.
        """
        positive = np.maximum(weights, 1e-300)
        low, high = -800.0, 800.0
        for _ in range(200):
            middle = (low + high) / 2
            total = np.clip(positive * np.exp(np.minimum(middle, 700.0)), self.lower, self.upper).sum()
            low, high = (middle, high) if total < 1 else (low, middle)
        projected = np.clip(positive * np.exp(np.minimum(high, 700.0)), self.lower, self.upper)
        return projected / projected.sum()


@dataclass(frozen=True)
class Constraints:
    """Rules on shares; combine into `Bounds` for one request of tokens.

    Attributes:
        max_epochs: k of the repetition cap p_j <= k N_j / R; None for no cap.
        floor: least share of every domain.
        floors, caps, fixed: domain -> least, greatest, exact share.
    """

    max_epochs: float | None = None
    floor: float = 0.0
    floors: Mapping[str, float] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shares = {"floor": self.floor}
        for kind in ("floors", "caps", "fixed"):
            shares |= {f"{kind}.{name}": share for name, share in getattr(self, kind).items()}
        for key, share in shares.items():
            if not np.isfinite(share) or not 0 <= share <= 1:
                raise ConstraintError(f"constraint {key} must be a share between 0 and 1", received=share)
        if self.max_epochs is not None and not self.max_epochs > 0:
            raise ConstraintError("max_epochs must be positive", received=self.max_epochs)
        for name, share in self.fixed.items():
            if self.floors.get(name, 0.0) > share + _SLACK:
                raise ConstraintError(
                    f"the fixed share of '{name}' must not be below its floor of {self.floors[name]:g}",
                    received=share,
                    hint="leave out one of the two",
                )
        if sum(self.fixed.values()) > 1 + _SLACK:
            raise ConstraintError(
                "fixed shares must sum to at most 1",
                received=sum(self.fixed.values()),
                hint="lower one of: " + ", ".join(self.fixed),
            )

    def bounds(self, domains: DomainSet, n_tokens: float, spent: Floats | None = None) -> Bounds:
        """The box for a request of `n_tokens` (R), after `spent` tokens per domain, shape (domains,).

        Raises:
            ConstraintError: if no mixture satisfies everything; the message says by how much.
        """
        lower = np.full(len(domains), self.floor)
        upper = np.ones(len(domains))
        reasons = [""] * len(domains)
        if self.max_epochs is not None:
            used = np.zeros(len(domains)) if spent is None else spent
            left = np.maximum(self.max_epochs * domains.n_tokens - used, 0.0)
            self._check_budget(left.sum(), n_tokens, float(domains.n_tokens.sum()))
            upper = np.minimum(left / n_tokens, 1.0)
            reasons = ["epochs" if u < 1 else "" for u in upper]
            lower = np.minimum(lower, upper)
        for name, share in self.floors.items():
            lower[domains.index(name)] = share
        for name, share in self.caps.items():
            j = domains.index(name)
            if share < upper[j]:
                upper[j], reasons[j] = share, "cap"
                lower[j] = lower[j] if name in self.floors else min(lower[j], share)
        for name, share in self.fixed.items():
            j = domains.index(name)
            if share > upper[j] + _SLACK:
                raise ConstraintError(
                    f"the fixed share of '{name}' must not exceed its {reasons[j]} bound of {upper[j]:.4f}",
                    received=share,
                    hint="lower the share, or raise max_epochs or the cap",
                )
            lower[j] = upper[j] = share
            reasons[j] = "fixed"
        _check_box(domains, lower, upper, reasons)
        return Bounds(lower, upper, tuple(reasons))

    def _check_budget(self, tokens_left: float, requested: float, available: float) -> None:
        """Feasible only if sum_j (k N_j - spent_j) >= R."""
        if tokens_left < requested * (1 - _SLACK):
            needed = (self.max_epochs or 0) + (requested - tokens_left) / available
            raise ConstraintError(
                f"the budget of {requested:,.0f} tokens must fit within max_epochs={self.max_epochs:g} of the corpus, "
                f"which allows {tokens_left:,.0f} ({requested - tokens_left:,.0f} too few)",
                hint=f"ask for at most {tokens_left:,.0f} tokens, or set max_epochs to {needed:.2f} or more",
            )


def _check_box(domains: DomainSet, lower: Floats, upper: Floats, reasons: list[str]) -> None:
    for j, name in enumerate(domains.names):
        if lower[j] > upper[j] + _SLACK:
            raise ConstraintError(
                f"the floor of '{name}' must not exceed its {reasons[j] or 'upper'} bound of {upper[j]:.4f}",
                received=float(lower[j]),
                hint="lower the floor, or raise max_epochs or the cap",
            )
    if lower.sum() > 1 + _SLACK:
        raise ConstraintError(
            "floors and fixed shares must sum to at most 1",
            received=float(lower.sum()),
            hint=f"lower them by {lower.sum() - 1:.4f} in total",
        )
    if upper.sum() < 1 - _SLACK:
        raise ConstraintError(
            "caps and fixed shares must leave room for a sum of 1",
            received=float(upper.sum()),
            hint=f"raise them by {1 - upper.sum():.4f} in total",
        )
