"""The design that the arguments of `evermix design` ask for."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from evermix.cli.design_options import DesignArguments
from evermix.deciding import fit, next_mixtures
from evermix.deciding.next_runs import prior_before_runs, settled
from evermix.designs import (
    LevelOptions,
    SpaceFillingOptions,
    dirichlet_design,
    nested_design,
    recommended_runs,
    space_filling_design,
)
from evermix.mixture import Mixture
from evermix.reports.design_tables import Designed

_NEXT_RUNS = 8


def first_runs(asked: DesignArguments) -> Designed:
    """A swarm around the prior or over the simplex.

    Raises:
        EvermixError: naming the file, the option or the domain that is wrong.
    """
    domains = asked.domain_set()
    prior = prior_before_runs(domains, asked.recipe)
    law = "power-link" if asked.recipe.law == "auto" else asked.recipe.law
    n = asked.n_runs or recommended_runs(int((prior.weights > 0).sum()), law)
    rng, rules, scatter = np.random.default_rng(asked.recipe.seed), asked.rules(domains), asked.scatter()
    if asked.kind == "space-filling":
        options = SpaceFillingOptions(minimum_weight=scatter.minimum_weight or 0.0)
        mixtures = space_filling_design(domains, n, rng, options, rules)
    elif asked.kind == "nested":
        levels = [LevelOptions(scatter=scatter)] * max(name.count(":") + 1 for name in domains.names)
        mixtures = nested_design(prior, n, rng, levels, rules)
    else:
        mixtures = dirichlet_design(prior, n, rng, scatter, rules)
    return Designed(asked.kind, prior, _named(mixtures, 0, ()))


def next_runs(asked: DesignArguments) -> Designed:
    """The runs worth most after those measured, and how much more runs could still change the mixture.

    Raises:
        EvermixError: as `first_runs`, and if the runs are too few for a law.
    """
    asked.check_adaptive()
    observations, pending = asked.measured()
    fitted = fit(observations, asked.recipe)
    mixtures = next_mixtures(fitted, asked.n_runs or _NEXT_RUNS, pending, seed=observations.n_runs)
    runs = _named(mixtures, observations.n_runs + len(pending), observations.run_ids or ())
    return Designed(asked.kind, fitted.prior.mixture, runs, settled(fitted))


def _named(mixtures: Sequence[Mixture], first: int, taken: Collection[str]) -> dict[str, Mixture]:
    """Run id -> mixture; numbers go on after the runs made, past ids that are taken."""
    found: dict[str, Mixture] = {}
    number = first
    for mixture in mixtures:
        while f"run-{number:04d}" in taken:
            number += 1
        found[f"run-{number:04d}"] = mixture
        number += 1
    return found
