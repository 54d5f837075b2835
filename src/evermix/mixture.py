"""Mixture: a point on the simplex of a domain set, and the priors that need no measurement."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evermix.domains import DomainSet
from evermix.errors import MixtureError
from evermix.notebook import html_table

Floats = npt.NDArray[np.float64]
_SUM_TOLERANCE = 1e-6
_ROUNDING = 1e-12


class Mixture:
    """Shares of what a model is trained on over a domain set; non-negative and summing to one.

    Args:
        domains: the set whose order the weights follow.
        weights: shape (domains,), shares of the tokens drawn, or of the rows where the set counts rows (no unit).

    Raises:
        MixtureError: on a wrong length, NaN, a negative weight, or a sum other than one (within 1e-6).
    """

    def __init__(self, domains: DomainSet, weights: npt.ArrayLike) -> None:
        array = np.array(weights, dtype=np.float64)
        _check_weights(domains, array)
        total = float(array.sum())
        if abs(total - 1) > _ROUNDING:  # else as it is: a mixture that is written and read again must be the same
            array = array / total
        array.flags.writeable = False
        self.domains = domains
        self.weights: Floats = array

    @classmethod
    def from_dict(cls, domains: DomainSet, weights: Mapping[str, float]) -> Mixture:
        """Mixture from name -> share; a domain left out has share zero, an unknown one is an error."""
        array = np.zeros(len(domains))
        for name, weight in weights.items():
            array[domains.index(name)] = weight
        return cls(domains, array)

    @classmethod
    def normalised(cls, domains: DomainSet, amounts: npt.ArrayLike) -> Mixture:
        """Mixture proportional to non-negative amounts, shape (domains,), of any positive sum."""
        array = np.asarray(amounts, dtype=np.float64)
        total = float(array.sum())
        if not np.isfinite(total) or total <= 0:
            raise MixtureError("amounts must have a positive finite sum", received=total)
        return cls(domains, array / total)

    @classmethod
    def natural(cls, domains: DomainSet) -> Mixture:
        """Proportional to what is available, tokens or rows: p_j = N_j / sum N."""
        return cls.normalised(domains, domains.sizes)

    @classmethod
    def uniform(cls, domains: DomainSet) -> Mixture:
        """The same share for every domain."""
        return cls(domains, np.full(len(domains), 1 / len(domains)))

    @classmethod
    def unimax(cls, domains: DomainSet, n_drawn: float, max_epochs: float) -> Mixture:
        """As uniform as `max_epochs` allows (UniMax, arXiv 2304.09151, algorithm 1).

        Args:
            n_drawn: tokens that are drawn in all, or rows where the set counts rows.
        """
        available = domains.sizes * max_epochs
        shares = np.zeros(len(domains))
        left = float(n_drawn)
        order = np.argsort(available, kind="stable")
        for rank, j in enumerate(order):
            shares[j] = min(left / (len(order) - rank), available[j])
            left -= shares[j]
        return cls.normalised(domains, shares)

    @cached_property
    def as_dict(self) -> dict[str, float]:
        """name -> share, in domain order."""
        return {name: float(w) for name, w in zip(self.domains.names, self.weights, strict=True)}

    def __getitem__(self, name: str) -> float:
        return float(self.weights[self.domains.index(name)])

    def kl(self, prior: Mixture) -> float:
        """KL(self || prior) in nats; infinite where the prior has no mass and self does."""
        p, q = self.weights, self._same_domains(prior).weights
        used = p > 0
        if np.any(q[used] == 0):
            return float("inf")
        return float(np.sum(p[used] * np.log(p[used] / q[used])))

    def total_variation(self, other: Mixture) -> float:
        """Half the L1 distance: the share of what is drawn that differs, in [0, 1]."""
        return float(np.abs(self.weights - self._same_domains(other).weights).sum() / 2)

    def epochs(self, n_drawn: float) -> Floats:
        """Passes over each domain when `n_drawn` tokens (or rows, the set's unit) are drawn: n p_j / N_j.

        Returns:
            Shape (domains,); 0/0 counts as 0.
        """
        drawn = n_drawn * self.weights
        available = self.domains.sizes
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(drawn > 0, drawn / available, 0.0)

    def blend(self, other: Mixture, share: float) -> Mixture:
        """(1 - share) * self + share * other."""
        return Mixture(self.domains, (1 - share) * self.weights + share * self._same_domains(other).weights)

    def _same_domains(self, other: Mixture) -> Mixture:
        if other.domains.names != self.domains.names:
            raise MixtureError(
                "two mixtures must be over the same domains in the same order",
                received=f"{self.domains!r} and {other.domains!r}",
            )
        return other

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Mixture)
            and self.domains.names == other.domains.names
            and np.array_equal(self.weights, other.weights)
        )

    def __hash__(self) -> int:
        return hash((self.domains.names, self.weights.tobytes()))

    def __repr__(self) -> str:
        return "Mixture(" + ", ".join(f"{n}={w:.4f}" for n, w in self.as_dict.items()) + ")"

    def _repr_html_(self) -> str:
        sizes = ["" if domain.size is None else f"{domain.size:,}" for domain in self.domains]
        shares = [f"{share:.2%}" for share in self.weights]
        rows = list(zip(self.domains.names, shares, sizes, strict=True))
        return html_table(f"Mixture over {len(rows)} domains", ["domain", "share", self.domains.unit], rows)


def _check_weights(domains: DomainSet, array: Floats) -> None:
    if array.shape != (len(domains),):
        raise MixtureError(f"a mixture over {len(domains)} domains must have as many weights", received=array.shape)
    wrong = np.flatnonzero(~(np.isfinite(array) & (array >= 0)))
    if len(wrong):
        j = int(wrong[0])
        raise MixtureError(f"weight of domain '{domains.names[j]}' must be a number >= 0", received=float(array[j]))
    if abs(array.sum() - 1) > _SUM_TOLERANCE:
        raise MixtureError(
            "weights of a mixture must sum to 1", received=float(array.sum()), hint="use Mixture.normalised"
        )
