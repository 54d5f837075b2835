"""Whether a decision is worth what it costs: before anything is known of the run, and again when evidence is there.

Before, from what runs of our benchmarks were like. In a world of that kind a domain d (or what was learnt before, as
one) has a slope b_d and a loss l_d; deciding sees both with errors and chooses p_hat; the gain is that of p_hat over
the start s in the objective, sum_d v_d exp(l_d - b_d log(p_d / s_d)). Worlds are drawn:

    log b ~ N(log .22, sd^2),   l ~ N(3.3, .35^2),   errors of log b and l ~ N(0, e^2) and N(0, .5^2 / q)

as slopes and losses of 0.2M models on six to eleven domains, read on q sequences. In a pretraining sd = .8, and a first
experiment errs by e = .6 from all its segments' text. Before a phase sd = .5, and probes of n steps err by
e^2 = .5^2 + .75 (6 / n); they are read shrunk, by sd^2 / (sd^2 + e^2) in logarithms. So much fits what came of
decisions (docs/log/in-run.md). p_hat is the optimum with what is seen, a fixed point of

    p_d ~ v_d b_d exp(l_d) (p_d / s_d)^-b_d

and at least a tenth of the start, as floors and pulls keep it. What deciding costs is told as the gain of as many more
tokens: .45 nats per log of tokens, the fall at a third of such a run.

Afterwards, from what the law leaves open: its slopes are drawn, and losses fall as they do in this run.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from evermix.laws.response import ResponseLaw
from evermix.mixture import Mixture
from evermix.objective import Objective
from evermix.recipe import Recipe
from evermix.recipe.phases import Phase, base_name
from evermix.results import Expectation

Floats = npt.NDArray[np.float64]
STAYS = "the mixture in force stays: no gain is expected"
DRAWS = 1000  # of slopes
INTERVAL = (5, 95)  # percent
_WORLDS = 1000
_SLOPE, _LEVEL, _LEVEL_SD = 0.22, 3.3, 0.35
_LEVEL_ERROR = 0.5  # of one sequence
_FALL_PER_LOG_TOKEN = 0.45
_ROUNDS = 60
_LEAST = 0.1  # of a domain's start
_LEAST_SHARE = 1e-4  # of a start that leaves a domain out


@dataclass(frozen=True)
class Sight:
    """How much there is to see, and how well it is seen: standard deviations.

    Attributes:
        slope_sd: of log slopes between domains.
        slope_error, level_error: of what is seen of log slopes and of levels.
        shrinks: whether slopes are shrunk by that error.
    """

    slope_sd: float
    slope_error: float
    level_error: float = 0.0
    shrinks: bool = False


BY_EXPERIMENTS = Sight(0.8, 0.6)


def by_probes(steps: int, n_sequences: int) -> Sight:
    """Of probes of so many steps, read on so many sequences of a domain."""
    return Sight(0.5, float(np.sqrt(0.5**2 + 0.75 * 6 / steps)), _LEVEL_ERROR / float(np.sqrt(n_sequences)), True)


def prospect_of_experiments(recipe: Recipe, phase: Phase, part_read: float) -> Expectation:
    """Of experiments within a phase, `part_read` of whose FLOPs are read for them."""
    weights, start = _shares(recipe, phase)
    return expected_before(tuple(weights), tuple(start), BY_EXPERIMENTS, part_read)


def prospect_of_probes(
    recipe: Recipe, phase: Phase, recomputed: tuple[str, ...], seen: Sight, part_spent: float
) -> Expectation:
    """Of probes before a phase; what was learnt before and is not recomputed is one."""
    weights, start = _shares(recipe, phase)
    alone = np.array([name not in phase.known or name in recomputed for name in phase.domains])
    bundled = [] if alone.all() else [~alone]
    weights, start = (np.array([*(each[b].sum() for b in bundled), *each[alone]]) for each in (weights, start))
    return expected_before(tuple(weights), tuple(start), seen, part_spent)


def _shares(recipe: Recipe, phase: Phase) -> tuple[Floats, Floats]:
    """Objective's weights and start over the phase's domains; sizes are not known yet: natural counts as uniform."""
    names = [base_name(label) for label in phase.domains]
    asked = recipe.domain_weights or dict.fromkeys(names, 1.0)
    weights = np.array([asked.get(name, 0.0) for name in names])
    if weights.sum() <= 0:  # no domain there counts yet
        weights = np.ones(len(names))
    shares = recipe.shares_of_start(phase.domains, not phase.number) or dict.fromkeys(phase.domains, 1.0)
    start = np.array([shares.get(label, 0.0) for label in phase.domains])
    start = np.maximum(start / start.sum(), _LEAST_SHARE)
    return weights / weights.sum(), start / start.sum()


@lru_cache(maxsize=256)
def expected_before(
    weights: tuple[float, ...], start: tuple[float, ...], seen: Sight, part_spent: float
) -> Expectation:
    """The gain of a decision over the start, in percent of a mean perplexity, and what it costs.

    Args:
        weights: of the objective, one per domain, summing to 1.
        start: mixture, a share per domain.
        seen: of such evidence.
        part_spent: FLOPs of deciding as a part of the training's.
    """
    rng = np.random.default_rng(0)
    shape = (_WORLDS, len(weights))
    spreads = seen.slope_sd * rng.normal(size=shape)
    slopes, levels = _SLOPE * np.exp(spreads), _LEVEL + _LEVEL_SD * rng.normal(size=shape)
    kept = seen.slope_sd**2 / (seen.slope_sd**2 + seen.slope_error**2) if seen.shrinks else 1.0
    slopes_seen = _SLOPE * np.exp(kept * (spreads + seen.slope_error * rng.normal(size=shape)))
    levels_seen = levels + seen.level_error * rng.normal(size=shape)
    v, s = np.array(weights), np.array(start)
    chosen = _optimum(v, s, slopes_seen, levels_seen)
    after = np.exp(levels - slopes * np.log(chosen / s)) @ v
    before = np.exp(levels) @ v
    cost = 100 * (1 - float(np.exp(-_FALL_PER_LOG_TOKEN * np.log1p(part_spent))))
    found = _expectation(100 * (1 - after / before), cost)
    return found.model_copy(update={"stays": found.gain <= found.cost})


def _optimum(weights: Floats, start: Floats, slopes: Floats, levels: Floats) -> Floats:
    """Of every world, shape (worlds, domains)."""
    pull = weights * slopes * np.exp(levels)
    p = np.tile(start, (len(slopes), 1))
    for _ in range(_ROUNDS):
        wanted = pull * (p / start) ** -slopes
        wanted = np.maximum(wanted / wanted.sum(axis=1, keepdims=True), _LEAST * start)
        p = np.sqrt(p * wanted)  # damped
        p /= p.sum(axis=1, keepdims=True)
    return p


def expected_after(
    law: ResponseLaw, objective: Objective, chosen: Mixture, in_force: Mixture, slopes: Floats, gained: Floats
) -> Expectation:
    """The gain of a proposal over the mixture in force, in percent of the objective, and what deciding has cost.

    Args:
        slopes: drawn of the law, shape (draws, metrics).
        gained: what the compute of deciding would have brought as training, to first order: by how much every metric
            would be lower, shape (metrics,).
    """
    before = objective.value(law.at_slopes(in_force.weights, slopes))
    after = objective.value(law.at_slopes(chosen.weights, slopes))
    now = law.predict(in_force.weights)
    cost = 100 * (1 - float(objective.value(now - gained) / objective.value(now)))
    return _expectation(100 * (1 - after / before), cost)


def _expectation(gains: Floats, cost: float) -> Expectation:
    low, high = np.percentile(gains, INTERVAL).tolist()
    return Expectation(gain=float(gains.mean()), low=low, high=high, probability=float((gains > 0).mean()), cost=cost)
