"""Dirichlet design: mixtures scattered around a prior, from nearly one-domain to nearly the prior itself.

    p ~ Dirichlet(A q),  q_j = prior_j^T / sum prior^T,  A log-uniform between two concentrations per run

The mean of p is q whatever A. A is given per domain (A = s m: s = 1 around a uniform prior is the flat Dirichlet) or in
total (the Olmix reference spreads A itself over 0.1 to 5, METHODS 1.1): the second is far sparser for many domains.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from evermix.designs.feasible import SwarmRules, assemble, default_minimum
from evermix.errors import MixtureError
from evermix.mixture import Mixture

Floats = npt.NDArray[np.float64]
WIDER = 1.5  # what is drawn anew, because two mixtures were equal (often vertices), gets a greater strength


@dataclass(frozen=True)
class DirichletOptions:
    """How far mixtures scatter around the prior.

    Attributes:
        strength: least and greatest concentration, both > 0, spread log-uniformly.
        per_domain: whether the strength is s = A / m, mean concentration per sampled domain, or A itself.
        temperature: T of q = prior^T renormalised; 1 is the prior, 0 uniform over the domains it holds.
        minimum_weight: weights under it become exact zeros; None for 0.002, or a tenth of the uniform share where
            that is less.
    """

    strength: tuple[float, float] = (0.1, 5.0)
    per_domain: bool = True
    temperature: float = 1.0
    minimum_weight: float | None = None

    def __post_init__(self) -> None:
        check_strength(self.strength)
        if not 0 <= self.temperature < np.inf:
            raise MixtureError("the temperature of a prior must be a number >= 0", received=self.temperature)

    @classmethod
    def sparse(cls) -> DirichletOptions:
        """Many exact zeros, so that a law can learn to leave a domain out: for domains that partition by topic."""
        return cls(per_domain=False)

    @classmethod
    def dense(cls) -> DirichletOptions:
        """Every domain in every run: for curated sources."""
        return cls(strength=(0.5, 5.0), minimum_weight=0.0)

    def minimum(self, n_sampled: int) -> float:
        """The minimum weight among `n_sampled` domains."""
        return default_minimum(n_sampled) if self.minimum_weight is None else self.minimum_weight


def dirichlet_design(
    prior: Mixture,
    n: int,
    rng: np.random.Generator,
    options: DirichletOptions | None = None,
    rules: SwarmRules | None = None,
) -> list[Mixture]:
    """n mixtures around the prior, under the rules: each within bounds, all domains of the prior covered, distinct.

    Args:
        options: scatter; None for the defaults, a middle way. See `sparse` and `dense`.
        rules: None for no bounds, no grid, and every sampled domain in at least one run.

    Raises:
        MixtureError: on options or n out of range.
        ConstraintError: if a grid is too coarse for the bounds.
    """
    options, rules = options or DirichletOptions(), rules or SwarmRules()
    base = tempered(prior.weights, options.temperature)
    n_sampled = int((base > 0).sum())

    def draw(k: int, attempt: int) -> Floats:
        totals = concentrations(options.strength, options.per_domain, n_sampled, k, rng) * WIDER**attempt
        return dirichlet_draws(base, totals, rng)

    weights = assemble(draw, n, rules, options.minimum(n_sampled), rng)
    return [Mixture.normalised(prior.domains, row) for row in weights]


def dirichlet_candidates(
    prior: Mixture,
    n: int,
    rng: np.random.Generator,
    strength: tuple[float, float] = (0.1, 5.0),
    minimum_weight: float = 0.002,
) -> list[Mixture]:
    """n independent draws p ~ Dirichlet(alpha), alpha_j = s m prior_j, s log-uniform between the two strengths.

    No rules but the minimum weight, which moves the mean by no more than about that much per domain; here m counts
    all domains, also those without prior. See `dirichlet_design` for swarms.

    Args:
        n: number of mixtures.
        strength: least and greatest s, both > 0.
        minimum_weight: in [0, 1); weights under it become zero and the rest is renormalised.

    Raises:
        MixtureError: on strengths, a count or a minimum weight out of range.
    """
    check_strength(strength)
    if n < 0:
        raise MixtureError("the number of candidates must be >= 0", received=n)
    if not 0 <= minimum_weight < 1:
        raise MixtureError("the minimum weight must be in [0, 1)", received=minimum_weight)
    drawn = []
    for total in concentrations(strength, True, len(prior.domains), n, rng):
        weights = dirichlet_draws(prior.weights, np.array([total]), rng)[0]
        weights /= weights.sum()
        kept = weights >= minimum_weight
        kept[weights.argmax()] = True
        drawn.append(Mixture.normalised(prior.domains, np.where(kept, weights, 0.0)))
    return drawn


def check_strength(strength: tuple[float, float]) -> None:
    """MixtureError unless 0 < least <= greatest."""
    low, high = strength
    if not (0 < low <= high < np.inf):
        raise MixtureError("Dirichlet strengths must satisfy 0 < least <= greatest", received=strength)


def tempered(prior: Floats, temperature: float) -> Floats:
    """prior^T renormalised over the domains it holds, shape (domains,)."""
    sampled = prior > 0
    powers = np.zeros_like(prior)
    powers[sampled] = np.exp(temperature * (np.log(prior[sampled]) - np.log(prior[sampled]).max()))
    result: Floats = powers / powers.sum()
    return result


def concentrations(
    strength: tuple[float, float], per_domain: bool, n_sampled: int, n: int, rng: np.random.Generator
) -> Floats:
    """Sum of alpha of n runs, log-uniform, shape (n,)."""
    low, high = strength
    totals: Floats = np.exp(rng.uniform(np.log(low), np.log(high), n)) * (n_sampled if per_domain else 1)
    return totals


def dirichlet_draws(base: Floats, totals: Floats, rng: np.random.Generator) -> Floats:
    """Draws of Dirichlet(total * base), shape (totals, domains), largest weight 1; in logarithms against underflow.

    What would underflow keeps its order between e^-500 and e^-600: a projection onto caps then lifts the next domains
    in the order of the draw. Domains without base weight are exact zeros.
    """
    sampled = np.flatnonzero(base > 0)
    alpha = totals[:, None] * base[sampled]
    # Gamma(alpha) = Gamma(alpha + 1) * U^(1 / alpha)
    logs = np.log(rng.gamma(alpha + 1)) + np.log1p(-rng.uniform(size=alpha.shape)) / alpha
    logs -= logs.max(axis=1, keepdims=True)
    if logs.min(initial=0.0) < -500:
        rank = np.argsort(np.argsort(-logs, axis=1), axis=1)
        logs = np.where(logs < -500, -500 - 100 * rank / len(sampled), logs)
    weights = np.zeros((len(totals), len(base)))
    weights[:, sampled] = np.exp(logs)
    return weights
