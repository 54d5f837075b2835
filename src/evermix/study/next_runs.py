"""Which runs a study asks for: a swarm around the prior first, then, given what is known, those worth most."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from evermix.designs import SwarmRules, dirichlet_design, nested_design
from evermix.designs.adaptive import adaptive_design, candidate_pool
from evermix.designs.belief import Evidence
from evermix.designs.settled import Settledness, how_settled
from evermix.designs.size import recommended_runs
from evermix.domains import DomainSet
from evermix.errors import ObservationError
from evermix.mixture import Mixture
from evermix.recipe.study import StudyRecipe
from evermix.study.fitting import FittedLaw
from evermix.study.proposing import best_mixture
from evermix.study.resampled import resampled_laws

_N_OPTIMA = 6  # resampled laws whose optima seed the candidates
_PATIENCE = 50  # fresh draws before a design is called exhausted


def prior_before_runs(domains: DomainSet, recipe: StudyRecipe) -> Mixture:
    """The recipe's prior while no swarm has a mean: natural where token counts are known, else uniform."""
    asked = recipe.prior
    if isinstance(asked, dict):
        return Mixture.from_dict(domains, asked)
    known = all(d.n_tokens is not None for d in domains)
    return Mixture.natural(domains) if known and asked != "uniform" else Mixture.uniform(domains)


def first_design(domains: DomainSet, recipe: StudyRecipe, n: int | None = None, era: int = 0) -> list[Mixture]:
    """The swarm to begin with, by levels where names are nested; as many runs as the law needs if n is None.

    Args:
        era: number of updates of the domain set; each has a swarm of its own.
    """
    prior = prior_before_runs(domains, recipe)
    rng = np.random.default_rng([recipe.seed, era])
    wanted = n or recommended_runs(int((prior.weights > 0).sum()), "power-link" if recipe.law == "auto" else recipe.law)
    if any(":" in name for name in domains.names):
        return nested_design(prior, wanted, rng)
    return dirichlet_design(prior, wanted, rng)


def next_mixtures(fitted: FittedLaw, n: int, pending: Sequence[Mixture] = (), seed: int = 0) -> list[Mixture]:
    """The n mixtures worth most beside the runs made and those still pending, most valuable first.

    A pending run counts as made, with the value that the law foretells: asking twice is asking for other mixtures.

    Raises:
        ObservationError: if fewer than 4 runs are known.
    """
    observations, law = fitted.observations, fitted.law
    mixtures, costs, sigma = observations.weights, observations.costs, observations.sigma
    if pending:
        waiting = np.array([mixture.weights for mixture in pending])
        mixtures, costs = np.vstack([mixtures, waiting]), np.vstack([costs, law.predict(waiting)])
        sigma = None
    rng = np.random.default_rng([fitted.recipe.seed, seed])
    laws = [law, *resampled_laws(fitted, _N_OPTIMA)]
    optima = [best_mixture(fitted, one) for one in laws]
    pool = candidate_pool(fitted.prior.mixture, optima, rng, rules=SwarmRules(coverage=0))
    if len(pool) < n:
        raise ObservationError(f"at most {len(pool)} runs can be asked for at once", received=n)
    return adaptive_design(law, Evidence(mixtures, costs, sigma), fitted.objective.value, pool, n, rng)


def settled(fitted: FittedLaw, n_resamples: int = 30) -> Settledness:
    """How much more runs could still change the mixture; see designs.StoppingRule."""
    observations, rng = fitted.observations, np.random.default_rng(fitted.recipe.seed)
    evidence = Evidence(observations.weights, observations.costs, observations.sigma)
    value = fitted.objective.value
    return how_settled(fitted.law, evidence, value, lambda law: best_mixture(fitted, law), rng, n_resamples)
