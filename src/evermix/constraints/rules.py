"""Rules on shares: repetition caps, floors, caps, fixed shares, totals of groups; and guards on metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from evermix.constraints.bounds import Bounds, GroupBound, total_violation, what_would_do
from evermix.domains import DomainSet
from evermix.errors import ConstraintError, known_names
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
_SLACK = 1e-9


@dataclass(frozen=True)
class GroupTotal:
    """least <= total share of the members <= greatest.

    Attributes:
        members: domain names; "code:" stands for every domain whose name starts so.
        least, greatest: shares in [0, 1].
    """

    members: tuple[str, ...]
    least: float = 0.0
    greatest: float = 1.0

    def __post_init__(self) -> None:
        members = (self.members,) if isinstance(self.members, str) else tuple(self.members)
        object.__setattr__(self, "members", members)
        for key, share in (("least", self.least), ("greatest", self.greatest)):
            if not np.isfinite(share) or not 0 <= share <= 1:
                raise ConstraintError(f"the {key} total of a group must be a share between 0 and 1", received=share)
        if self.least > self.greatest:
            raise ConstraintError(
                f"the least total of a group must not exceed its greatest of {self.greatest:g}", received=self.least
            )

    def mask(self, name: str, domains: DomainSet) -> npt.NDArray[np.bool_]:
        """Who is a member, shape (domains,); ConstraintError if a member is no domain."""
        inside = np.zeros(len(domains), dtype=bool)
        for member in self.members:
            if member.endswith(":"):
                nested = np.array([d.startswith(member) for d in domains.names])
            else:
                nested = np.array([d == member for d in domains.names])
            if not nested.any():
                raise ConstraintError(
                    f"members of group '{name}' must be domains, or a prefix such as 'code:' of some",
                    received=member,
                    hint=f"known: {', '.join(domains.names)}",
                )
            inside |= nested
        if not inside.any():
            raise ConstraintError(f"group '{name}' must have members", received=list(self.members))
        return inside


@dataclass(frozen=True)
class NoRegression:
    """No metric worse than under a reference mixture by more than a tolerance.

    Attributes:
        reference: the mixture to compare with, judged by the same law.
        tolerance: as a fraction of each metric's cost at the reference, or in the metric's own unit if `absolute`.
        metrics: names of the metrics guarded; None for all.
    """

    reference: Mixture
    tolerance: float = 0.0
    metrics: tuple[str, ...] | None = None
    absolute: bool = False

    def __post_init__(self) -> None:
        if not (np.isfinite(self.tolerance) and self.tolerance >= 0):
            raise ConstraintError(
                "the tolerance of a no-regression guard must be a number >= 0", received=self.tolerance
            )

    def ceilings(self, costs: Floats, metrics: Sequence[str], sizes: Floats | None = None) -> Floats:
        """Greatest cost allowed per metric, shape (metrics,), inf where none.

        Args:
            costs: shape (metrics,), the law's prediction at the reference.
            metrics: names in the law's order.
            sizes: shape (metrics,), what a relative tolerance is a fraction of; |costs| if None.
        """
        named = tuple(metrics) if self.metrics is None else self.metrics
        unknown = [name for name in named if name not in metrics]
        if unknown:
            raise ConstraintError(
                "a no-regression guard must name a metric", received=unknown[0], hint=known_names(unknown[0], metrics)
            )
        guarded = np.array([name in set(named) for name in metrics])
        allowed = self.tolerance * (1.0 if self.absolute else np.abs(costs) if sizes is None else sizes)
        return np.where(guarded, costs + allowed, np.inf)


@dataclass(frozen=True)
class Constraints:
    """Rules on shares; combine into `Bounds` for one request of tokens, or of rows where the domain set counts rows.

    Attributes:
        max_epochs: k of the repetition cap p_j <= k N_j / R; None for no cap.
        floor: least share of every domain.
        floors, caps, fixed: domain -> least, greatest, exact share.
        groups: name -> least and greatest total of some domains; groups may overlap.
    """

    max_epochs: float | None = None
    floor: float = 0.0
    floors: Mapping[str, float] = field(default_factory=dict)
    caps: Mapping[str, float] = field(default_factory=dict)
    fixed: Mapping[str, float] = field(default_factory=dict)
    groups: Mapping[str, GroupTotal] = field(default_factory=dict)

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

    def bounds(self, domains: DomainSet, n_drawn: float, spent: Floats | None = None) -> Bounds:
        """The box for a request of `n_drawn` (R), after `spent` of each domain.

        Args:
            n_drawn: tokens, or rows, the unit of the domains' sizes.
            spent: shape (domains,), in the same unit.

        Raises:
            ConstraintError: if no mixture satisfies everything; the message says by how much.
        """
        lower = np.full(len(domains), self.floor)
        upper = np.ones(len(domains))
        reasons = [""] * len(domains)
        one_epoch = None
        if self.max_epochs is not None:
            used = np.zeros(len(domains)) if spent is None else spent
            left = np.maximum(self.max_epochs * domains.sizes - used, 0.0)
            self._check_budget(left.sum(), n_drawn, domains)
            one_epoch = domains.sizes / n_drawn
            upper = np.minimum(left / n_drawn, 1.0)
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
        groups = tuple(
            GroupBound(name, total.mask(name, domains), total.least, total.greatest)
            for name, total in self.groups.items()
        )
        box = Bounds(lower, upper, tuple(reasons), groups, one_epoch, self.max_epochs)
        _check_box(domains, box, n_drawn)
        if groups:
            _check_groups(domains, box, n_drawn)
        return box

    def _check_budget(self, left: float, requested: float, domains: DomainSet) -> None:
        """Feasible only if sum_j (k N_j - spent_j) >= R."""
        if left < requested * (1 - _SLACK):
            needed = (self.max_epochs or 0) + (requested - left) / float(domains.sizes.sum())
            unit = domains.unit
            raise ConstraintError(
                f"the budget of {requested:,.0f} {unit} must fit within max_epochs={self.max_epochs:g} of the corpus, "
                f"which allows {left:,.0f} ({requested - left:,.0f} too few)",
                hint=f"ask for at most {left:,.0f} {unit}, or set max_epochs to {needed:.2f} or more",
            )


def _check_box(domains: DomainSet, box: Bounds, n_drawn: float) -> None:
    lower, upper = box.lower, box.upper
    for j, name in enumerate(domains.names):
        if lower[j] > upper[j] + _SLACK:
            raise ConstraintError(
                f"the floor of '{name}' must not exceed its {box.reasons[j] or 'upper'} bound of {upper[j]:.4f}",
                received=float(lower[j]),
                hint=what_would_do(box, n_drawn, domains.unit) or "lower the floor, or raise the cap",
            )
    if lower.sum() > 1 + _SLACK:
        raise ConstraintError(
            "floors and fixed shares must sum to at most 1",
            received=float(lower.sum()),
            hint=f"lower them by {lower.sum() - 1:.4f} in total",
        )
    if upper.sum() < 1 - _SLACK:
        ways = what_would_do(box, n_drawn, domains.unit)
        raise ConstraintError(
            "caps and fixed shares must leave room for a sum of 1",
            received=float(upper.sum()),
            hint=f"raise them by {1 - upper.sum():.4f} in total" + (f", or {ways}" if ways else ""),
        )


def _check_groups(domains: DomainSet, box: Bounds, n_drawn: float) -> None:
    """Each group by itself, for a plain message, then all together by the least total relaxation."""
    ways = what_would_do(box, n_drawn, domains.unit)
    for group in box.groups:
        least, greatest = float(box.lower[group.members].sum()), float(box.upper[group.members].sum())
        if greatest < group.lower - _SLACK:
            caps = _listed(domains, box.upper, group.members)
            raise ConstraintError(
                f"group '{group.name}' must total at least {group.lower:g}, but the caps of its members ({caps}) "
                f"allow {greatest:.4f} ({group.lower - greatest:.4f} too few)",
                hint="lower the total, or raise the caps" + (f": {ways}" if ways else ""),
            )
        if least > group.upper + _SLACK:
            floors = _listed(domains, box.lower, group.members)
            raise ConstraintError(
                f"group '{group.name}' must total at most {group.upper:g}, but the floors of its members ({floors}) "
                f"sum to {least:.4f} ({least - group.upper:.4f} too many)",
                hint="raise the total, or lower the floors",
            )
    total, below, above, least_totals, greatest_totals = total_violation(box)
    if total <= 1e-8:
        return
    changes = [f"the floor of '{n}' is {v:.4f} too high" for n, v in zip(domains.names, below, strict=True) if v > 1e-9]
    changes += [
        f"the {reason or 'upper'} bound of '{n}' is {v:.4f} too low"
        for n, v, reason in zip(domains.names, above, box.reasons, strict=True)
        if v > 1e-9
    ]
    for group, low, high in zip(box.groups, least_totals, greatest_totals, strict=True):
        changes += [f"the least total of group '{group.name}' is {low:.4f} too high"] if low > 1e-9 else []
        changes += [f"the greatest total of group '{group.name}' is {high:.4f} too low"] if high > 1e-9 else []
    raise ConstraintError(
        f"groups, floors and caps must allow one mixture; they contradict each other by {total:.4f} in total: the "
        "smallest change that would do: " + "; ".join(changes[:6]) + ("; ..." if len(changes) > 6 else ""),
        hint=("also: " + ways) if ways else "relax those, or others that meet them",
    )


def _listed(domains: DomainSet, shares: Floats, members: npt.NDArray[np.bool_]) -> str:
    rows = [f"{n} {s:.4f}" for n, s, inside in zip(domains.names, shares, members, strict=True) if inside]
    return ", ".join(rows[:5]) + (f" and {len(rows) - 5} more" if len(rows) > 5 else "")
