"""The KL weight in the objective's own scale: lambda = kl * spread of the objective over mixtures near the prior."""

from __future__ import annotations

import numpy as np

from evermix.designs.dirichlet import dirichlet_candidates
from evermix.errors import ObservationError
from evermix.laws.base import MixingLaw
from evermix.mixture import Mixture
from evermix.objective import Objective


def scaled_kl_weight(
    law: MixingLaw,
    objective: Objective,
    prior: Mixture,
    rng: np.random.Generator,
    kl: float = 0.05,
    n_references: int = 256,
) -> float:
    """lambda = kl * spread of the objective over Dirichlet(m prior) reference mixtures, blended half with the prior.

    The spread is half the distance between the 16th and the 84th percentile: a standard deviation that a law's
    explosion at the edge of what it has seen cannot inflate.


    A fixed lambda means something else for every objective: perplexities differ by tens where losses differ by
    tenths, and a simulator that compresses the true spread four or five times makes a lambda of 0.05 act like 0.2,
    which drowns the signal. Dimensionless `kl` times the *predicted* spread does the same to all of them. The
    references keep half the prior, so that the explosion of a loss at a zero share does not set the scale.

    Returns:
        lambda >= 0, in the objective's quantity per nat.
    """
    if not (np.isfinite(kl) and kl >= 0):
        raise ObservationError("the dimensionless KL weight must be a number >= 0", received=kl)
    references = dirichlet_candidates(prior, n_references, rng, strength=(1.0, 1.0), minimum_weight=0.0)
    mixtures = np.array([prior.blend(reference, 0.5).weights for reference in references])
    low, high = np.percentile(objective.value(law.predict(mixtures)), [16, 84])
    return kl * float(high - low) / 2
