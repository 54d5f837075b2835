"""Dirichlet design: mixtures scattered around a prior, from nearly one-domain to nearly the prior itself."""

from __future__ import annotations

import numpy as np

from evermix.errors import MixtureError
from evermix.mixture import Mixture


def dirichlet_candidates(
    prior: Mixture,
    n: int,
    rng: np.random.Generator,
    strength: tuple[float, float] = (0.1, 5.0),
    minimum_weight: float = 0.002,
) -> list[Mixture]:
    """n draws p ~ Dirichlet(alpha), alpha_j = s * m * prior_j, with s log-uniform between the two strengths.

    The mean is the prior for every s. s is the mean concentration per domain, whatever the number m of domains: s = 1
    around a uniform prior is the flat Dirichlet. (The Olmix reference, METHODS 1, spreads the *sum* of alpha over 0.1
    to 5: pass strength=(0.1 / m, 5 / m) for its very sparse swarms.) Weights under `minimum_weight` become zero and
    the rest is renormalised, which moves the mean by no more than about that much per domain.

    Args:
        n: number of mixtures.
        strength: least and greatest s, both > 0.
        minimum_weight: in [0, 1).

    Raises:
        MixtureError: on strengths, a count or a minimum weight out of range.
    """
    low, high = strength
    if not (0 < low <= high < np.inf):
        raise MixtureError("Dirichlet strengths must satisfy 0 < least <= greatest", received=strength)
    if n < 0:
        raise MixtureError("the number of candidates must be >= 0", received=n)
    if not 0 <= minimum_weight < 1:
        raise MixtureError("the minimum weight must be in [0, 1)", received=minimum_weight)
    strengths = np.exp(rng.uniform(np.log(low), np.log(high), n))
    return [_draw(prior, s * len(prior.domains), rng, minimum_weight) for s in strengths]


def _draw(prior: Mixture, concentration: float, rng: np.random.Generator, minimum_weight: float) -> Mixture:
    """One draw on the domains where the prior has mass, in logarithms, so that tiny alphas cannot all underflow."""
    live = np.flatnonzero(prior.weights > 0)
    alpha = concentration * prior.weights[live]
    # Gamma(alpha) = Gamma(alpha + 1) * U^(1 / alpha)
    logs = np.log(rng.gamma(alpha + 1)) + np.log1p(-rng.uniform(size=len(live))) / alpha
    weights = np.zeros(len(prior.domains))
    weights[live] = np.exp(logs - logs.max())
    weights /= weights.sum()
    largest = int(weights.argmax())
    kept = weights >= minimum_weight
    kept[largest] = True
    return Mixture.normalised(prior.domains, np.where(kept, weights, 0.0))
